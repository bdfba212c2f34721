"""POSIX ACLs: the xattr of linux/posix_acl_xattr.h and the short text form. Pure but for names."""

from __future__ import annotations

import grp
import pwd
import struct

XATTRS = {
    b"system.posix_acl_access": "SCHILY.acl.access",
    b"system.posix_acl_default": "SCHILY.acl.default",
}
"""The pax keyword in which tar programs keep the text of each ACL."""

_TAGS = {
    0x01: ("user", False),
    0x02: ("user", True),
    0x04: ("group", False),
    0x08: ("group", True),
    0x10: ("mask", False),
    0x20: ("other", False),
}
_CODES = {word: code for code, word in _TAGS.items()}
_NOBODY = 0xFFFFFFFF
_BITS = (("r", 4), ("w", 2), ("x", 1))


def acl_text(value: bytes) -> str:
    """The text of an ACL xattr, with ids as numbers.

    :raises ValueError: it is none
    """
    (version,) = struct.unpack_from("<I", value)
    if version != 2:
        raise ValueError(f"an ACL of version {version}")
    entries = []
    for tag, permissions, id in struct.iter_unpack("<HHI", value[4:]):
        word, named = _TAGS[tag]
        bits = "".join(letter if permissions & bit else "-" for letter, bit in _BITS)
        entries.append(f"{word}:{id if named else ''}:{bits}")
    return ",".join(entries)


def acl_value(text: str) -> bytes:
    """The ACL xattr of a text as GNU tar, star and bsdtar write it; empty for an empty text.

    Names of users and groups are looked up here, unless the text has their numbers behind.

    :raises ValueError: it is no ACL, or nobody here has that name
    """
    entries = []
    for line in text.replace(",", "\n").splitlines():
        entry = line.split("#", 1)[0].strip()
        if not entry:
            continue
        parts = [part.strip() for part in entry.split(":")]
        word, name, bits, *number = parts if len(parts) > 2 else ("", "", "")
        code = _CODES.get((word, bool(name)))
        if (
            code is None
            or len(bits) != 3
            or any(b not in ("-", r) for b, (r, _) in zip(bits, _BITS, strict=True))
        ):
            raise ValueError(f"`{entry}` is no entry of an ACL")
        permissions = sum(bit for b, (_, bit) in zip(bits, _BITS, strict=True) if b != "-")
        id = _id(word, number[0] if number else name) if name else _NOBODY
        entries.append((code, id, permissions))
    # The kernel wants them by tag, and by number within one.
    packed = (struct.pack("<HHI", code, bits, id) for code, id, bits in sorted(entries))
    return struct.pack("<I", 2) + b"".join(packed) if entries else b""


def _id(word: str, name: str) -> int:
    if name.isdecimal() and int(name) < _NOBODY:
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid if word == "user" else grp.getgrnam(name).gr_gid
    except KeyError:
        raise ValueError(f"there is no {word} {name} here") from None

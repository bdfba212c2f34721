import sys
from hashlib import sha256

import pytest

from dsbranch.store import identity
from dsbranch.store.identity import commit_id, new_id


def test_a_commit_id_hashes_the_json_that_the_format_names():
    text = (
        '{"author":"ada","layer":"l1","manifest":"ff","message":"caf\\u00e9 \\"x\\"",'
        '"parents":["p1","p2"],"time_ns":-7}'
    )
    found = commit_id(
        author="ada",
        layer="l1",
        manifest_sha256="ff",
        message='café "x"',
        parents=("p1", "p2"),
        time_ns=-7,
    )
    assert found == sha256(text.encode()).hexdigest()[:40]


def test_a_root_commit_has_a_null_manifest():
    text = '{"author":"","layer":"ws","manifest":null,"message":"","parents":[],"time_ns":0}'
    found = commit_id(
        author="", layer="ws", manifest_sha256=None, message="", parents=(), time_ns=0
    )
    assert found == sha256(text.encode()).hexdigest()[:40]


def test_random_ids_are_short_plain_and_different():
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert {len(id) for id in ids} == {10}
    assert set("".join(ids)) == set("0123456789abcdefghijklmnopqrstuvwxyz")


@pytest.mark.parametrize("own", [True, False])
def test_sha256_with_and_without_what_is_python_s_own(
    own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not own:
        for name in ("_sha2", "_sha256"):
            monkeypatch.setitem(sys.modules, name, None)
    found = identity.sha256()
    assert isinstance(found, type(sha256())) != own
    found.update(b"a")
    found.update(b"b")
    assert found.hexdigest() == sha256(b"ab").hexdigest()

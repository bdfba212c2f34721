"""Tools that version or branch a directory, as data: one small bash script per verb.

The verbs, in the order they run:

track      put the directory $SRC under versioning; its first snapshot
branch     a new writable view, independent of others, at the peer's `tree`
status     list what has changed in it
commit     freeze the change as the second snapshot
diff       list what differs between the two snapshots
rollback   get the first snapshot back, at the peer's `back`
squash     make one of the layers there are

A verb that a tool does not have is left out. "status: all" and the like are other ways, shown
beside the plain one. Scripts find: $W, the peer's own empty directory; $SRC, a copy of the dataset
made for it; $DSBRANCH; $PEERS, a virtual environment with `dvc` and `oxenai`; $HERE, this
directory. Nothing a user would have to wait for is moved into `setup`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Peer:
    """One tool. `replaces`: whoever writes into its tree must write new files, since the tree
    shares inodes with the store. `before` are scripts not timed, by verb; `teardown` ends what
    would keep a mount busy.
    """

    name: str
    verbs: Mapping[str, str]
    needs: tuple[str, ...]
    note: str
    version: str = ""
    filesystem: str = "ext4"
    source: str = "$W/data"
    tree: str = "$W/b1"
    back: str = "$W/back"
    replaces: bool = False
    setup: str = ""
    before: Mapping[str, str] = field(default_factory=dict)
    teardown: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)

    def missing(self, environment: Mapping[str, str]) -> list[str]:
        """Which of the programs it needs are not there."""
        return [
            need
            for need in self.needs
            if shutil.which(need.replace("$PEERS", environment["PEERS"])) is None
        ]


_DSBRANCH = "$DSBRANCH -C $W/ws "

DSBRANCH = Peer(
    name="dsbranch",
    needs=(),
    note="every changed file hashed, the commit on the disk when the command ends",
    version="$DSBRANCH --version",
    tree="$W/ws/b1",
    back="$W/ws/b1",
    verbs={
        "track": "$DSBRANCH init $SRC $W/ws",
        "branch": _DSBRANCH + "create b1",
        "status": "cd $W/ws/b1; $DSBRANCH diff --name-status",
        "status: counts": _DSBRANCH + "status b1",
        "commit": _DSBRANCH + "commit b1 -m change",
        "diff": _DSBRANCH + "diff --name-status main b1",
        "rollback": _DSBRANCH + "rollback b1 --to main",
        "squash": _DSBRANCH + "squash b2 --since main",
    },
    before={
        # Two commits to make one of.
        "squash": f"{_DSBRANCH} create b2 --from 'b1@{{1}}'; echo more > $W/ws/b2/more;"
        f"{_DSBRANCH} commit b2 -m more"
    },
)

_OVERLAY = (
    "mount -t overlay overlay -o redirect_dir=on,metacopy=on"
    ",lowerdir={lower},upperdir=$W/{upper},workdir=$W/{work} $W/b1"
)

OVERLAY = Peer(
    name="raw overlay",
    needs=("mount",),
    note="the floor: mounts alone, without history, hashes or a wait for the disk",
    back="$W/b1",
    setup="mkdir $W/{b1,u1,w1,u2,w2,u3,w3}",
    verbs={
        "branch": _OVERLAY.format(lower="$SRC", upper="u1", work="w1"),
        "status": "find $W/u1 -printf '%y %s %T@ %P\\n'",
        "commit": "umount $W/b1; " + _OVERLAY.format(lower="$W/u1:$SRC", upper="u2", work="w2"),
        "diff": "find $W/u1 -printf '%y %s %T@ %P\\n'",
        "rollback": "umount $W/b1; " + _OVERLAY.format(lower="$SRC", upper="u3", work="w3"),
        "squash": "cp -al $W/u1 $W/flat",
    },
)

_FUSE = "fuse-overlayfs -o lowerdir={lower},upperdir=$W/{upper},workdir=$W/{work} $W/b1"

FUSE = Peer(
    name="fuse-overlayfs",
    needs=("fuse-overlayfs",),
    note="as the raw overlay, in user space",
    version="fuse-overlayfs --version | grep ^fuse-overlayfs",
    back="$W/b1",
    setup=OVERLAY.setup,
    teardown="umount $W/b1",
    verbs={
        "branch": _FUSE.format(lower="$SRC", upper="u1", work="w1"),
        "status": OVERLAY.verbs["status"],
        "commit": "umount $W/b1; " + _FUSE.format(lower="$W/u1:$SRC", upper="u2", work="w2"),
        "diff": OVERLAY.verbs["diff"],
        "rollback": "umount $W/b1; " + _FUSE.format(lower="$SRC", upper="u3", work="w3"),
        "squash": OVERLAY.verbs["squash"],
    },
)

_CHANGES = "btrfs -q send --no-data -p {old} {new} | btrfs receive --dump || test $? = 141"

BTRFS = Peer(
    name="btrfs snapshots",
    filesystem="btrfs",
    needs=("btrfs",),
    note="the data must be copied into a subvolume; changes are listed by what was written",
    version="btrfs --version | head -n 1",
    tree="$W/live",
    verbs={
        "track": "btrfs -q subvolume create $W/base; cp -a $SRC/. $W/base/;"
        " btrfs -q subvolume snapshot -r $W/base $W/s1",
        "branch": "btrfs -q subvolume snapshot $W/s1 $W/live",
        "status": "btrfs -q subvolume snapshot -r $W/live $W/st;"
        f" {_CHANGES.format(old='$W/s1', new='$W/st')}; btrfs -q subvolume delete $W/st",
        "commit": "btrfs -q subvolume snapshot -r $W/live $W/s2",
        "diff": _CHANGES.format(old="$W/s1", new="$W/s2"),
        "rollback": "btrfs -q subvolume snapshot $W/s1 $W/back",
    },
)


def _copies(name: str, copy: str, filesystem: str, note: str, *, replaces: bool = False) -> Peer:
    listing = "rsync -a -n -i --delete {new}/ {old}/"
    return Peer(
        name=name,
        filesystem=filesystem,
        needs=("rsync",),
        note=note,
        replaces=replaces,
        verbs={
            "branch": f"{copy} $SRC $W/b1",
            "status": listing.format(new="$W/b1", old="$SRC"),
            "commit": f"{copy} $W/b1 $W/s2",
            "diff": listing.format(new="$W/s2", old="$SRC"),
            "rollback": f"{copy} $SRC $W/back",
        },
    )


_BY_TIMES = "differences by size and time (rsync -n)"

COPIES = (
    _copies("cp --reflink (xfs)", "cp -a --reflink=always", "xfs", _BY_TIMES),
    _copies("cp --reflink (btrfs)", "cp -a --reflink=always", "btrfs", _BY_TIMES),
    _copies(
        "cp -al",
        "cp -al",
        "ext4",
        f"{_BY_TIMES}; a write in place reaches all branches",
        replaces=True,
    ),
    _copies("cp -a", "cp -a", "ext4", _BY_TIMES),
)

_AUTHOR = {
    "GIT_AUTHOR_NAME": "b",
    "GIT_AUTHOR_EMAIL": "b@x",
    "GIT_COMMITTER_NAME": "b",
    "GIT_COMMITTER_EMAIL": "b@x",
    "GIT_CONFIG_NOSYSTEM": "1",
    "HOME": "$W/home",
}

GIT = Peer(
    name="git",
    needs=("git",),
    note="core.compression=0, since the data are random; gc.auto=0",
    version="git --version",
    source="$W/repo/data",
    tree="$W/b1/data",
    back="$W/b1/data",
    environment=_AUTHOR,
    setup="mkdir $W/home; cd $W/repo; git init -q -b main; git config gc.auto 0;"
    " git config core.compression 0",
    verbs={
        "track": "cd $W/repo; git add -A; git commit -qm base; git tag base",
        "branch": "cd $W/repo; git worktree add -q -b b1 $W/b1",
        "status": "git -C $W/b1 status --porcelain -uall",
        "commit": "cd $W/b1; git add -A; git commit -qm change",
        "diff": "git -C $W/b1 diff --name-status base b1",
        "rollback": "git -C $W/b1 checkout -q --detach base",
    },
)


def _dvc(link: str, filesystem: str, *, replaces: bool) -> Peer:
    return Peer(
        name=f"DVC ({link})",
        filesystem=filesystem,
        needs=("$PEERS/bin/dvc", "git"),
        note="a branch is a git worktree, a shared cache and `dvc checkout`",
        version="echo DVC $($PEERS/bin/dvc --version)",
        source="$W/repo/data",
        tree="$W/b1/data",
        back="$W/b1/data",
        replaces=replaces,
        environment=_AUTHOR
        | {
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": "$W/site",
            "DVC_GLOBAL_CONFIG_DIR": "$W/home",
            "DVC_SYSTEM_CONFIG_DIR": "$W/home",
            "PATH": "$PEERS/bin:" + os.environ["PATH"],
        },
        setup="mkdir $W/home; cd $W/repo; git init -q -b main; dvc init -q;"
        f" dvc config cache.type {link}; git add -A .dvc .dvcignore; git commit -qm init",
        verbs={
            "track": "cd $W/repo; dvc add -q data; git add data.dvc .gitignore;"
            " git commit -qm base; git tag base",
            "branch": "cd $W/repo; git worktree add -q -b b1 $W/b1; cd $W/b1;"
            " dvc config --local cache.dir $W/repo/.dvc/cache; dvc checkout -q",
            "status": "cd $W/b1; dvc data status --granular",
            "commit": "cd $W/b1; dvc add -q data; git commit -qam change",
            "diff": "cd $W/b1; dvc diff base b1",
            "rollback": "cd $W/b1; git checkout -q --detach base; dvc checkout -q --force",
        },
    )


_OXEN = "$PEERS/bin/python $HERE/oxen_driver.py $W/repo "

OXEN = Peer(
    name="Oxen",
    needs=("$PEERS/bin/python",),
    note="through its Python package; a branch is a switch of the one tree there is",
    version="$PEERS/bin/python -c"
    " \"from importlib.metadata import version; print('Oxen', version('oxenai'))\"",
    source="$W/repo/data",
    tree="$W/repo/data",
    back="$W/repo/data",
    environment={"HOME": "$W/home", "XDG_CONFIG_HOME": "$W/home/.config", "RUST_LOG": "error"},
    setup=f"mkdir $W/home; {_OXEN} init",
    verbs={
        "track": _OXEN + "commit base",
        "branch": _OXEN + "branch b1",
        "status": _OXEN + "status",
        "commit": _OXEN + "commit change",
        "rollback": _OXEN + "rollback",
    },
)

_STORAGE = " --root $W/c --runroot $W/r --storage-driver overlay "
BUILDAH_HERE, PODMAN_HERE = f"buildah {_STORAGE}", f"podman {_STORAGE}"

PODMAN = Peer(
    name="buildah/podman",
    needs=("buildah", "podman"),
    note="the directory is copied into an image; squash rewrites the image whole",
    version="echo $(buildah --version | cut -d' ' -f1-3), $(podman --version)",
    tree="$W/tree",
    back="$W/tree2",
    verbs={
        "track": f"c=$({BUILDAH_HERE} from scratch); {BUILDAH_HERE} copy -q $c $SRC /data;"
        f" {BUILDAH_HERE} commit -q $c localhost/ds:1",
        "branch": f"{PODMAN_HERE} create --name b1 localhost/ds:1 /x;"
        f" ln -sfn $({PODMAN_HERE} mount b1)/data $W/tree",
        "branch: buildah from": f"{BUILDAH_HERE} from --name b3 localhost/ds:1;"
        f" {BUILDAH_HERE} mount b3",
        "status": f"{PODMAN_HERE} diff b1",
        "commit": f"{PODMAN_HERE} commit -q b1 localhost/ds:2",
        "diff": f"{PODMAN_HERE} diff localhost/ds:2 localhost/ds:1",
        "rollback": f"{PODMAN_HERE} create --name b2 localhost/ds:1 /x;"
        f" ln -sfn $({PODMAN_HERE} mount b2)/data $W/tree2",
        "squash": f"c=$({BUILDAH_HERE} from localhost/ds:2);"
        f" {BUILDAH_HERE} commit -q --squash $c localhost/flat:1",
    },
    teardown=f"{PODMAN_HERE} umount -a; {PODMAN_HERE} rm -fa; {BUILDAH_HERE} rm -a;"
    " umount $W/c/overlay",
)

RESTIC = Peer(
    name="restic",
    needs=("restic",),
    note="encrypts; a branch is a full restore elsewhere",
    version="restic version | cut -d' ' -f1,2",
    tree="$W/data",
    back="$W/back$W/data",
    environment={
        "RESTIC_PASSWORD": "x",
        "RESTIC_REPOSITORY": "$W/repo",
        "RESTIC_CACHE_DIR": "$W/cache",
        "HOME": "$W",
    },
    setup="restic -q init",
    verbs={
        "track": "restic -q backup --tag base $SRC",
        "branch": "restic -q restore --tag base latest --target $W/b1",
        "status": "restic backup --dry-run -vv $SRC | grep -v ^unchanged",
        "commit": "restic -q backup --tag change $SRC",
        "diff": "restic diff $(restic snapshots --json"
        " | grep -o '\"short_id\":\"[0-9a-f]*' | cut -d'\"' -f4)",
        "rollback": "restic -q restore --tag base latest --target $W/back",
    },
)

BORG = Peer(
    name="borg",
    needs=("borg",),
    note="without encryption; a branch is a full extract elsewhere",
    version="borg --version",
    tree="$W/data",
    back="$W/back/data",
    environment={
        "BORG_BASE_DIR": "$W/home",
        "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
        "HOME": "$W/home",
    },
    setup="mkdir $W/home; borg init -e none $W/repo",
    verbs={
        "track": "cd $W; borg create $W/repo::base data",
        "branch": "mkdir $W/b1; cd $W/b1; borg extract $W/repo::base",
        "commit": "cd $W; borg create $W/repo::change data",
        "diff": "borg diff $W/repo::base change",
        "rollback": "mkdir $W/back; cd $W/back; borg extract $W/repo::base",
    },
)

_OSTREE = "ostree --repo=$W/repo "

OSTREE = Peer(
    name="ostree",
    needs=("ostree",),
    note="a bare repository, checked out as hard links",
    version='echo ostree $(ostree --version | grep -o "\'.*\'" | tr -d "\'")',
    replaces=True,
    setup=_OSTREE + "init --mode=bare",
    verbs={
        "track": _OSTREE + "commit -b base --tree=dir=$SRC",
        "branch": _OSTREE + "checkout -H base $W/b1",
        "status": _OSTREE + "diff base $W/b1",
        "commit": _OSTREE + "commit -b b1 --link-checkout-speedup --tree=dir=$W/b1",
        "diff": _OSTREE + "diff base b1",
        "rollback": _OSTREE + "checkout -H base $W/back",
    },
)

PEERS = (
    DSBRANCH,
    OVERLAY,
    FUSE,
    BTRFS,
    *COPIES,
    GIT,
    PODMAN,
    OSTREE,
    RESTIC,
    BORG,
    _dvc("reflink", "xfs", replaces=False),
    _dvc("hardlink", "ext4", replaces=True),
    OXEN,
)

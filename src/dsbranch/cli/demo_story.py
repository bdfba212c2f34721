"""Room ``cli``: what the demo tells: each command, where it is run, and the remark before it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    command: str
    remark: str | None = None
    directory: str = "ws"


# Content, modes, owners and modification times, in one number.
CHECKSUM = "tar --sort=name -cf - dataset | sha256sum"

STORY = (
    Step(
        "ls -sh dataset; find dataset -type f | wc -l",
        "A dataset: images and labels by class, an index and a large binary.",
        ".",
    ),
    Step(CHECKSUM, "Its checksum, to compare at the end.", "."),
    Step("dsbranch init dataset ws", "Adopt it where it lies. Nothing is copied.", "."),
    Step("cd ws; ls main", "From here on in the workspace; main shows the dataset.", "."),
    Step("dsbranch create exp1", "Two experiments: each branch costs milliseconds and no bytes."),
    Step("dsbranch create exp2"),
    Step(
        "(cd exp1; sed -i 's/^cat/felis/' labels/cat/000*; rm -r images/owl labels/owl;\n"
        " sed -i '/,owl,/d' index.csv; echo exp1 changed) &\n"
        "(cd exp2; mv images pictures; chmod 600 weights.bin;\n"
        " sed -i 's/,val$/,test/' index.csv; echo exp2 changed) &\n"
        "wait",
        "Two processes change the two branches at once, with no tool but the shell's.",
    ),
    Step("dsbranch list"),
    Step("(cd exp1; dsbranch status)", "Inside a branch, that branch is meant."),
    Step("dsbranch diff exp1 --stat", "What exp1 changed: deleted folders in one line each."),
    Step(
        "dsbranch diff exp2",
        "What exp2 changed: a folder renamed, the large file's mode (no copy made), the index.",
    ),
    Step(
        "diff -r ../dataset main && echo the same",
        "main still shows the dataset as it was.",
    ),
    Step("du -sh .dsbranch", "What both experiments take on disk together."),
    Step(
        "dsbranch commit exp1 -m 'two classes, Latin names'",
        "Freeze both. The branches stay mounted; readers go on reading.",
    ),
    Step("dsbranch commit exp2 -m 'pictures, test split'"),
    Step(
        "echo 'owls are out of scope' > exp1/NOTES.md\n"
        "dsbranch commit exp1 -m 'say why the owls went'",
        "A second commit on exp1, and the history.",
    ),
    Step("dsbranch log exp1"),
    Step("dsbranch diff exp1 exp2 --stat", "Any two refs can be compared."),
    Step(
        "dsbranch squash exp1 -m 'two classes, Latin names, notes'",
        "One commit of both: hard links, no data read.",
    ),
    Step("dsbranch log exp1 --oneline"),
    Step("rm -r exp2/pictures\ndsbranch status exp2", "An accident in exp2 ..."),
    Step("dsbranch rollback exp2\nls exp2", "... and the way back."),
    Step(
        "dsbranch export main..exp1 -o ../exp1.tar\ntar -tvf ../exp1.tar | head -n 8",
        "What exp1 changed, as a tar that container tools read.",
    ),
    Step(
        "dsbranch mount exp2~1 --at ../before --read-only\nls ../before\ndsbranch umount ../before",
        "Any commit can be looked at beside the branches.",
    ),
    Step(CHECKSUM, "And the dataset?", "."),
)

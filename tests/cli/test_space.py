"""``gc``, ``du`` and ``verify`` as they print."""

from __future__ import annotations

import json
from pathlib import Path

from dsbranch.model.facts import Commit
from dsbranch.model.health import Dataset, Finding, Problem, Sealed, Verified
from dsbranch.model.seal import Seal
from dsbranch.model.space import BranchSpace, Collected, CommitSpace, Space

COMMIT = Commit("ab" * 20, (), "layer", "drop\nmore", "ada", 0)


def test_gc_says_what_went(program, fake):
    fake.answers["gc"] = Collected(
        1, (COMMIT,), ("a", "b"), (), (Path("/ws/x"),), 2048, 3, ("x cannot be removed: why",)
    )
    ran = program("gc")
    assert ran.out == (
        "removed 1 commit, 2 layers, 1 leftover directory, 1 operation of the log; freed 2.0 KiB\n"
    )
    assert ran.err == "note: x cannot be removed: why\n"
    assert ran.code == 0
    assert fake.asked == [("gc", {"keep": 30 * 86400.0, "dry_run": False})]


def test_gc_dry_run_names_the_commits(program, fake):
    fake.answers["gc"] = Collected(0, (COMMIT,), (), (), (), 0, 0)
    ran = program("gc", "--dry-run", "--keep", "2h")
    assert ran.out == "ababababab drop\nwould remove 1 commit; would free 0 B\n"
    assert fake.asked == [("gc", {"keep": 7200.0, "dry_run": True})]
    fake.answers["gc"] = Collected(0, (), (), (), (), 0, 0)
    assert program("gc", "--keep", "0").out == "nothing to remove\n"


def test_gc_as_json(program, fake):
    fake.answers["gc"] = Collected(
        1, (COMMIT,), ("a",), ("c",), (Path("/ws/\udcff"),), 2048, 3, ("p",)
    )
    answer = json.loads(program("gc", "--json").out)
    assert answer["commits"][0]["id"] == COMMIT.id
    assert answer["garbage"][0]["path_b64"]
    del answer["commits"], answer["garbage"]
    assert answer == {
        "schema": 1,
        "dry_run": False,
        "operations": 1,
        "layers": ["a"],
        "checkpoints": ["c"],
        "bytes": 2048,
        "inodes": 3,
        "problems": ["p"],
    }


def test_gc_that_is_interrupted_says_how_it_goes_on(program, fake):
    fake.answers["gc"] = KeyboardInterrupt()
    ran = program("gc")
    assert ran.code == 130
    assert "hint: `dsbranch gc` goes on" in ran.err


def test_an_age_that_is_none(program, fake):
    ran = program("gc", "--keep", "soon")
    assert ran.code == 2
    assert "`soon` is no age" in ran.err
    assert fake.asked == []


def test_du(program, fake):
    fake.answers["du"] = Space(
        branches=(BranchSpace("exp1", 2048, 10, 0),),
        commits=(CommitSpace(COMMIT, 1024, 0),),
        total=5000,
        history=4000,
        uncommitted=0,
        log=0,
        checkpoints=500,
        manifests=0,
        database=500,
        garbage=0,
        checkpoint_inodes=7,
    )
    assert program("du", "exp1").out == (
        "  ALONE  SHARED  UNCOMMITTED  BRANCH\n"
        "2.0 KiB    10 B          0 B  exp1\n"
        "\n"
        "  ALONE  SHARED  COMMIT\n"
        "1.0 KiB     0 B  ababababab drop\n"
        "\n"
        "3.9 KiB  in commits\n"
        "  500 B  checkpoints, 7 inodes of their own\n"
        "  500 B  database, locks and reserve\n"
        "4.9 KiB  in all\n"
    )
    assert fake.asked == [("du", "exp1", {})]


def test_verify_that_finds_something(program, fake):
    fake.answers["verify"] = Verified(
        2,
        1300,
        0,
        4,
        1,
        (Finding("layer x", b"a\n\xff", "it is gone", "m"), Finding("the store", None, "w", "m")),
    )
    ran = program("verify", "--full")
    assert ran.code == 5
    assert ran.out == 'layer x: "a\\n\\377": it is gone; m\nthe store: w; m\n'
    assert "error: 2 things are not as recorded, in 2 layers, 1,300 entries" in ran.err
    assert "1 directory belongs to no layer" in ran.err
    assert "4 files have no recorded digest, so their content was not compared" in ran.err
    ran = program("verify", "--json")
    assert ran.code == 5
    answer = json.loads(ran.out)
    assert not answer["ok"]
    assert answer["findings"][0]["path_b64"] == "YQr/"
    assert answer["findings"][1]["path"] is None


SEAL = Seal("id", "sum", 0, 1200, 1000, 900, 1, 1)


def test_verify_that_finds_nothing(program, fake):
    fake.answers["verify"] = Verified(1, 1, 0, 0, 0, (), Dataset(SEAL, 0, 0))
    ran = program("verify")
    told = "1 layer and the dataset, 1,201 entries are as recorded\n"
    assert (ran.code, ran.out, ran.err) == (0, told, "")
    assert json.loads(program("verify", "--json").out)["dataset"] == {
        "time": "1970-01-01T00:00:00Z",
        "entries": 1200,
        "files": 1000,
        "digested": 0,
        "undigested": 0,
    }


def test_verify_of_a_dataset_without_some_digests(program, fake):
    fake.answers["verify"] = Verified(1, 1, 1, 0, 0, (), Dataset(SEAL, 900, 100))
    ran = program("verify", "--full")
    assert ran.out == "1 layer and the dataset, 1,201 entries, 901 contents are as recorded\n"
    assert "note: 100 files of the dataset have no recorded digest" in ran.err


def test_verify_of_a_dataset_that_was_never_sealed(program, fake):
    fake.answers["verify"] = Verified(1, 1, 0, 0, 0, ())
    ran = program("verify")
    assert (ran.code, ran.out) == (0, "1 layer, 1 entry are as recorded\n")
    assert "note: the dataset was never sealed" in ran.err
    assert json.loads(program("verify", "--json").out)["dataset"] is None
    finding = Finding("the dataset", None, "it is gone", "m")
    fake.answers["verify"] = Verified(1, 1, 0, 0, 0, (finding,))
    assert "never sealed" not in program("verify").err


def test_seal_says_what_it_did(program, fake):
    fake.answers["seal"] = Sealed(SEAL, 30)
    ran = program("seal", "--hash")
    told = "sealed /data: 1,200 entries; 900 of 1,000 files hashed, 30 of them now\n"
    assert (ran.code, ran.out, ran.err) == (0, told, "")
    assert fake.asked == [("seal", {"hash": True})]
    assert json.loads(program("seal", "--json").out) == {
        "schema": 1,
        "time": "1970-01-01T00:00:00Z",
        "entries": 1200,
        "files": 1000,
        "digested": 900,
        "hashed": 30,
        "in_layers": 0,
        "problems": [],
    }


def test_seal_says_what_it_hashed_in_layers(program, fake):
    fake.answers["seal"] = Sealed(SEAL, 30, in_layers=1)
    ran = program("seal", "--hash")
    assert ran.out.splitlines()[1:] == ["1 file of commits made with --no-hash hashed, too"]


def test_seal_of_what_cannot_be_read(program, fake):
    fake.answers["seal"] = Sealed(SEAL, 0, (Problem(b"a\n", "Input/output error"),))
    ran = program("seal")
    assert (ran.code, ran.out) == (5, "sealed /data: 1,200 entries; 900 of 1,000 files hashed\n")
    assert 'note: "a\\n" cannot be read: Input/output error\n' in ran.err
    assert "error: 1 path could not be read; all else is sealed" in ran.err

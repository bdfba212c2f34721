from hashlib import sha256

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

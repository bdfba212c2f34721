"""Where no thread can be started, as in a container that allows few."""

from __future__ import annotations

import os

import pytest

from tests import edits as e
from tests import interposed
from tests.trees import Dir, File

pytestmark = pytest.mark.root

# `allowed` of them are; a library that asked for more has to do without.
FEW = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
int allowed = %d;
int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *of) {
    static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (!real) real = dlsym(RTLD_NEXT, "pthread_create");
    if (__atomic_sub_fetch(&allowed, 1, __ATOMIC_RELAXED) < 0) return EAGAIN;
    return real(thread, attr, run, of);
}
"""
VERBS = """
import subprocess, sys
place, output = sys.argv[1:]
for words in (
    "status main", "diff main", "commit main -m more", "diff main~1 main", "log main",
    "seal --hash", "verify --full", "create other", "squash main -m one", "rollback other",
    "export main -o " + output, "du", "gc", "verify --full", "delete --force other",
):
    done = subprocess.run(
        [sys.executable, "-P", "-m", "dsbranch", "-C", place, *words.split()],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        print(words, done.returncode, done.stderr)
"""


@pytest.mark.parametrize("allowed", [0, 1, 2])
def test_each_verb_does_its_work(adopt, tmp_path, allowed):
    files = Dir({f"{number}": File(os.urandom(100)) for number in range(600)})
    bench = adopt(Dir({"d": files, "long": File(os.urandom(1 << 23)), "small": File(b"s")}))
    bench.commit(*(e.rewrite(f"d/{number}") for number in range(0, 600, 2)))
    bench.edit(
        e.rewrite("long"), e.rewrite("small"), *(e.append(f"d/{n}", b"more") for n in range(600))
    )
    bench.ws.close()
    output = tmp_path / "o.tar"
    assert interposed.python(FEW % allowed, tmp_path, VERBS, bench.place, output) == ""
    assert output.stat().st_size > 1 << 23
    bench.reopen()

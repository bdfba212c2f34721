import errno
import sqlite3

import pytest

from dsbranch.errors import DsbranchError, IntegrityError, Locked, NoPrivilege, StorageError
from dsbranch.store.faults import storage


def fault(error: BaseException) -> DsbranchError:
    with pytest.raises(DsbranchError) as caught, storage("write X"):
        raise error
    assert caught.value.__cause__ is error
    return caught.value


def from_sqlite(kind: type[sqlite3.Error], code: int) -> DsbranchError:
    error = kind("as SQLite says")
    error.sqlite_errorcode = code
    return fault(error)


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS], ids=errno.errorcode.get
)
def test_a_bad_disk_is_one_sentence_with_a_hint(number):
    error = fault(OSError(number, "unused"))
    assert type(error) is StorageError
    assert error.errno == number
    assert str(error).startswith("cannot write X: ")
    assert error.hint


def test_the_sentence_has_the_words_of_the_system():
    assert str(fault(OSError(errno.ENOSPC, ""))) == "cannot write X: No space left on device"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
def test_what_is_forbidden_needs_privilege(number):
    error = fault(OSError(number, ""))
    assert type(error) is NoPrivilege
    assert "sudo" in (error.hint or "")


@pytest.mark.parametrize(
    ("code", "number"),
    [
        (sqlite3.SQLITE_FULL, errno.ENOSPC),
        (sqlite3.SQLITE_IOERR_SHMSIZE, errno.ENOSPC),
        (sqlite3.SQLITE_IOERR_WRITE, errno.EIO),
        (sqlite3.SQLITE_READONLY_DBMOVED, errno.EROFS),
    ],
)
def test_a_bad_disk_under_sqlite_is_the_same_fault(code, number):
    error = from_sqlite(sqlite3.OperationalError, code)
    assert type(error) is StorageError
    assert error.errno == number


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_CORRUPT, IntegrityError),
        (sqlite3.SQLITE_NOTADB, IntegrityError),
        (sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY, IntegrityError),
        (sqlite3.SQLITE_BUSY, Locked),
        (sqlite3.SQLITE_CANTOPEN, NoPrivilege),
    ],
)
def test_other_failures_of_sqlite_have_their_own_kind(code, kind):
    assert type(from_sqlite(sqlite3.DatabaseError, code)) is kind


@pytest.mark.parametrize("bug", [OSError("no errno"), sqlite3.ProgrammingError("closed")])
def test_a_bug_stays_a_bug(bug):
    with pytest.raises(type(bug)) as caught, storage("write X"):
        raise bug
    assert caught.value is bug

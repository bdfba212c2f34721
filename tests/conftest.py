"""Test foundation: one temporary directory per run, privileges, and the sweep.

Options read from the environment:

DSBRANCH_MUST_NOT_SKIP=1   a test that would be skipped for want of root, or of a program, fails
DSBRANCH_TEST_DIR=DIR      where the run's temporary directory is made (default: the system's,
                           or /var/tmp where that cannot hold an overlay)
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

# Tests import `tests.…` under every import mode, and never `src/` uncompiled.
sys.path.insert(0, str(Path(__file__).parent.parent))

from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir

from dsbranch._core import syscalls
from tests import leaks
from tests.overlays import Overlay
from tests.trees import Dir

settings.register_profile(
    "dsbranch",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=int(os.environ.get("DSBRANCH_TEST_EXAMPLES", "25")),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("dsbranch")

# What tests start beside what each Debian has.
PROGRAMS = (
    *("chattr", "getfacl", "lsattr", "mkfs.btrfs", "mkfs.ext4", "mkfs.xfs"),
    *("rsync", "setfacl", "strace", "sysctl", "xxhsum", "zstd"),
)

PYTEST_DIR = "t"
HYPOTHESIS_DIR = "h"

temporary_key = pytest.StashKey[Path]()
mark_key = pytest.StashKey[str]()
denied_key = pytest.StashKey[str | None]()
left_key = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "root: needs root and a kernel that mounts overlays")
    if os.geteuid() == 0:
        # Other runs' namespaces get no copies of our mounts, and ours none of theirs: a verb
        # refuses to work on a branch that somebody else still shows.
        with suppress(OSError):
            syscalls.own_mounts(False)
    # Short: socket paths end at 108 bytes and mount(2) takes one page of options.
    temporary = Path(tempfile.mkdtemp(prefix="dsb-", dir=_place())).resolve()
    temporary.chmod(0o755)
    config.stash[temporary_key] = temporary
    config.stash[mark_key] = temporary.name
    config.stash[denied_key] = _why_not_root(temporary)
    os.environ["TMPDIR"] = str(temporary)
    os.environ[leaks.MARK] = temporary.name
    set_hypothesis_home_dir(temporary / HYPOTHESIS_DIR)
    tempfile.tempdir = None  # forget the place looked up before
    if config.option.basetemp is None:
        config.option.basetemp = str(temporary / PYTEST_DIR)


def _place() -> str:
    wanted = os.environ.get("DSBRANCH_TEST_DIR")
    if wanted:
        return wanted
    for candidate in (tempfile.gettempdir(), "/var/tmp", os.getcwd()):
        if _filesystem(candidate) not in ("overlay", "tmpfs", "ramfs"):
            return candidate
    return tempfile.gettempdir()


def _filesystem(path: str) -> str:
    command = ["stat", "-f", "-c", "%T", path]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip().replace("overlayfs", "overlay")


def _why_not_root(temporary: Path) -> str | None:
    """Why tests marked `root` cannot run here, found out by mounting one overlay."""
    if os.geteuid() != 0:
        return "not root"
    probe = temporary / "probe"
    probe.mkdir()
    try:
        with Overlay(probe, Dir({})):
            return None
    except (AssertionError, OSError) as error:
        return str(error).strip()
    finally:
        subprocess.run(["rm", "-r", str(probe)], check=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    reason = item.config.stash[denied_key]
    if reason is not None and item.get_closest_marker("root") is not None:
        if os.environ.get("DSBRANCH_MUST_NOT_SKIP") == "1":
            pytest.fail(f"needs root: {reason}", pytrace=False)
        pytest.skip(f"needs root: {reason}")
    with _programs():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    with _programs():
        return (yield)


@contextmanager
def _programs() -> Iterator[None]:
    """Skip a test for which a program is missing that not every machine has."""
    try:
        yield
    except Exception as error:
        name = _missing_program(error)
        if name is None or os.environ.get("DSBRANCH_MUST_NOT_SKIP") == "1":
            raise
        pytest.skip(f"needs {name}, which is not installed")


def _missing_program(error: BaseException) -> str | None:
    """What could not be started, if that is all that went wrong."""
    if isinstance(error, BaseExceptionGroup):
        names = [_missing_program(one) for one in error.exceptions]
        return None if None in names else names[0]
    name = error.filename if isinstance(error, FileNotFoundError) else None
    return name if name in PROGRAMS and shutil.which(name) is None else None


@pytest.fixture(autouse=True)
def leaves_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails the test that left a mount or a loop device, and removes it."""
    yield
    temporary: Path = request.config.stash[temporary_key]
    left = leaks.mounts(temporary)
    for point in left:
        subprocess.run(["umount", "-l", point], check=True)
    loops = leaks.loop_devices(temporary)
    for device in loops:
        subprocess.run(["losetup", "-d", device], check=True)
    if left or loops:
        pytest.fail(f"left behind: {', '.join(left + loops)}", pytrace=False)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    temporary, mark = session.config.stash[temporary_key], session.config.stash[mark_key]
    left = list(leaks.all_leaks(temporary, mark, known=(PYTEST_DIR, HYPOTHESIS_DIR)))
    session.config.stash[left_key] = left
    leaks.sweep(temporary, mark)
    if left and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for line in config.stash.get(left_key, []):
        terminalreporter.write_line(f"LEFT BEHIND by the run: {line}", red=True)
    skipped = [
        report
        for report in terminalreporter.stats.get("skipped", [])
        if "needs root" in str(report.longrepr)
    ]
    if skipped:
        terminalreporter.write_line(
            f"NOT TESTED: {len(skipped)} tests need root ({config.stash[denied_key]}); "
            "DSBRANCH_MUST_NOT_SKIP=1 makes this a failure",
            yellow=True,
        )


@pytest.fixture
def overlay(tmp_path: Path) -> Iterator[Callable[..., Overlay]]:
    """Makes mounted overlays below the test's own directory; unmounts them afterwards."""
    with ExitStack() as stack:
        count = 0

        def mounted(base: Dir, *, dialect: str = "trusted") -> Overlay:
            nonlocal count
            count += 1
            root = tmp_path / f"o{count}"
            root.mkdir()
            return stack.enter_context(Overlay(root, base, dialect=dialect))

        yield mounted

"""Fixtures of all rings."""

from __future__ import annotations

import gc
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from harness import DATA, Emulator, Mount, emulator, mounted, why_no_mount
from hypothesis import HealthCheck, settings

from up42fs.fuse.session import HANDSHAKE_VARIABLE

# Both would judge by the wall clock, which on a busy machine says nothing of the example.
settings.register_profile("any-load", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# For CI: a change must not fail for an example that it has nothing to do with. Runs of developers
# look for new examples.
settings.register_profile("same-examples", settings.get_profile("any-load"), derandomize=True)
settings.load_profile(os.environ.get("UP42FS_TEST_PROFILE", "any-load"))

# A shell's background jobs are started deaf to Ctrl-C, and so would be what the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with the reason, what this machine cannot run."""
    reason = why_no_mount()
    no_data = None if DATA.is_dir() else f"no shared imagery at {DATA} (UP42FS_TEST_DATA)"
    for item in items:
        if reason and item.get_closest_marker("mount"):
            item.add_marker(pytest.mark.skip(reason=reason))
        if no_data and item.get_closest_marker("data"):
            item.add_marker(pytest.mark.skip(reason=no_data))
    if "PYTEST_XDIST_WORKER" in os.environ:
        # The long ones first: then no worker is left alone with them at the end.
        items.sort(key=lambda item: item.path.parent.name, reverse=True)


def pytest_collection_finish() -> None:
    """Look through no module and no item again for garbage: a collection of it all takes 0.1 s."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """What a test before left a shared mount to fetch is not this one's to count."""
    for value in getattr(item, "funcargs", {}).values():
        for thing in value if isinstance(value, tuple) else (value,):
            if isinstance(thing, Mount):
                thing.rest()


@pytest.fixture(autouse=True)
def _log_at_any_level() -> Iterator[None]:
    """Take back the level that a command gave the log of its process, which is the tests' here."""
    yield
    ours = logging.getLogger("up42fs")
    if ours.level != logging.NOTSET:
        ours.setLevel(logging.NOTSET)


@pytest.fixture(scope="session", autouse=True)
def children_meet_the_locale() -> None:
    """`contrib/test-elsewhere` runs the tests in UTF-8 mode, and what they start in none."""
    if mode := os.environ.pop("UP42FS_TEST_CHILDREN_UTF8", None):
        os.environ["PYTHONUTF8"] = mode


@pytest.fixture(scope="session")
def session_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mounts")


@pytest.fixture(scope="session")
def sample(session_home: Path) -> Iterator[Emulator]:
    """The emulator with its sample storage; its state must not be changed."""
    with emulator() as running:
        yield running


@pytest.fixture(scope="session")
def sample_mount(sample: Emulator, session_home: Path) -> Iterator[Mount]:
    """The sample storage, mounted; shared by tests that only look."""
    # Its own looks for changes would count as requests of whatever test runs then.
    with mounted(sample.env, "-o", "refresh=3600", home=session_home, by_command=True) as mount:
        yield mount


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as open_things:
        yield open_things


@pytest.fixture
def start(stack: ExitStack, tmp_path: Path):
    """`start("--synthetic", "10") -> Emulator`, ended after the test."""
    return lambda *arguments: stack.enter_context(emulator(*arguments))


@pytest.fixture
def mount(stack: ExitStack, tmp_path: Path):
    """`mount(emulator, "-o", "…") -> Mount`, unmounted after the test."""
    return lambda emulator, *arguments, by_command=False: stack.enter_context(
        mounted(emulator.env, *arguments, home=tmp_path, by_command=by_command)
    )


@pytest.fixture(params=["ours", "libfuse's"])
def handshake(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(HANDSHAKE_VARIABLE, "off" if request.param == "libfuse's" else "")
    return str(request.param)

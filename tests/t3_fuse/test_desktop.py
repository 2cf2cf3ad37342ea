"""Notifications at the desktop, with a stand-in for `notify-send`."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
import trio

from up42fs import supervise
from up42fs.logs import FOR_DESKTOP
from up42fs.mount.desktop import Desktop

BUS = {"DBUS_SESSION_BUS_ADDRESS": "unix:path=/none"}


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the last argument of each `notify-send`, a line each."""
    file = tmp_path / "shown"
    program = tmp_path / "notify-send"
    program.write_text(f'#!/bin/sh\nfor last; do :; done\nprintf "%s\\n" "$last" >>{file}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return file


def test_without_a_session_or_a_program_nothing_is_shown(
    shown: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Desktop.of_session("UP42", {}) is None
    assert Desktop.of_session("UP42", BUS) is not None
    monkeypatch.setenv("PATH", "/nonexistent")
    assert Desktop.of_session("UP42", BUS) is None


@pytest.mark.claim("S342")
async def test_only_what_is_meant_for_people_is_shown_without_secrets(shown: Path) -> None:
    desktop = Desktop.of_session("UP42 at /mnt", BUS)
    assert desktop is not None
    logger = logging.Logger("test")
    logger.addHandler(desktop)
    async with trio.open_nursery() as nursery:
        supervise.start_for_good(nursery, desktop.run)
        logger.warning("not for people")
        logger.warning("-- budget\x1b[0m Bearer abc123", extra=FOR_DESKTOP)
        with trio.fail_after(10):
            while not shown.exists() or not shown.read_text().endswith("\n"):
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    (line,) = shown.read_text().splitlines()
    assert line.startswith("-- budget")
    assert "abc123" not in line
    assert "\x1b" not in line


# The clock jumps over the time that trio gives a real process to end.
@pytest.mark.filterwarnings("ignore:process .* ignored SIGTERM:RuntimeWarning")
async def test_a_notifier_that_fails_or_hangs_ends_nothing(
    tmp_path: Path, autojump_clock: object
) -> None:
    program = tmp_path / "hang"
    program.write_text('#!/bin/sh\ncase "$1" in fail) exit 3;; hang) exec sleep 600;; esac\n')
    program.chmod(0o755)
    desktop = Desktop([str(program)])
    logger = logging.Logger("test")
    logger.addHandler(desktop)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desktop.run)
        for text in ("fail", "fine", "fail", *["more"] * 20):  # more than may wait are dropped
            logger.warning("%s", text, extra=FOR_DESKTOP)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

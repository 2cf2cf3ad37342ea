"""Shows a few log records as notifications of the desktop session that the mount belongs to.

Records of interest carry `logs.FOR_DESKTOP`. They are shown by `notify-send`, which desktops bring
along; where there is no session bus or no such program, nothing happens.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from functools import partial

import trio

from up42fs import logs
from up42fs.visible import visible

log = logging.getLogger(__name__)

#: The longest that showing one notification may take, seconds.
_TIMEOUT_S = 5.0
#: Notifications that may wait; more are dropped, since a person would read none of them.
_MOST_WAITING = 4
#: Characters of a notification; desktops cut longer ones.
_MOST_CHARACTERS = 400


class Desktop(logging.Handler):
    """A log handler that keeps the records for people at the desktop until `run` shows them.

    `command` is the program that shows a text, without the text. Such records are made in the
    thread of the event loop.
    """

    def __init__(self, command: list[str]) -> None:
        super().__init__()
        self._command = command
        self._put, self._texts = trio.open_memory_channel[str](_MOST_WAITING)

    @classmethod
    def of_session(cls, title: str, environ: Mapping[str, str]) -> Desktop | None:
        """The desktop of this process's session; None without one. `title` heads every text."""
        program = shutil.which("notify-send")
        if program is None or not environ.get("DBUS_SESSION_BUS_ADDRESS"):
            return None
        return cls([program, "--app-name=up42fs", "--icon=drive-harddisk", "--", title])

    def emit(self, record: logging.LogRecord) -> None:
        if not getattr(record, "is_for_desktop", False):
            return
        text = visible(logs.redact(record.getMessage()))[:_MOST_CHARACTERS]
        with suppress(trio.WouldBlock):
            self._put.send_nowait(text)

    async def run(self) -> None:
        """Show what is told, one after the other."""
        async for text in self._texts:
            await self._show(text)

    async def _show(self, text: str) -> None:
        run = partial(
            trio.run_process,
            [*self._command, text],
            stdin=subprocess.DEVNULL,
            capture_stdout=True,
            capture_stderr=True,
            cwd="/",
        )
        with trio.move_on_after(_TIMEOUT_S):
            try:
                await run()
            except (OSError, subprocess.CalledProcessError) as error:
                log.debug("no notification on the desktop: %s", error)

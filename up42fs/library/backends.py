"""Directs a file system's calls: to the engine of this process, or through a mount."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from up42fs.engine import Engine
from up42fs.errors import Up42fsError
from up42fs.library import calls
from up42fs.library.account import settings_of
from up42fs.library.mounts import MountCalls, MountedFile, mount_of
from up42fs.library.runner import Runner, runner_of


class Backend(Protocol):
    """The functions of `calls`, by name."""

    #: The process that may use it.
    process: int

    def call(self, name: str, *arguments: Any) -> Any:
        """The result of a call; blocks."""

    def ticking(self, on_tick: Callable[[], None], name: str, *arguments: Any) -> Any:
        """Like `call`; `on_tick` is called now and then until the result is there."""

    async def acall(self, name: str, *arguments: Any) -> Any:
        """The result of a call, for asyncio."""

    def start(self, name: str, *arguments: Any) -> Callable[[], Any]:
        """Begin a call that blocks; the function that it returns waits for the result."""

    def let_go(self, reader: Any) -> None:
        """Close an open file without waiting: a finalizer may call it in any thread."""


class ByEngine:
    """Calls of this process's engine."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.process = os.getpid()

    def call(self, name: str, *arguments: Any) -> Any:
        """The result of a call; blocks. Raises an `Up42fsError`."""
        return self._runner.call(partial(_run, getattr(calls, name), arguments))

    def ticking(self, on_tick: Callable[[], None], name: str, *arguments: Any) -> Any:
        """Like `call`; `on_tick` is called now and then until the result is there."""
        return self._runner.call(partial(_run, getattr(calls, name), arguments), on_tick)

    async def acall(self, name: str, *arguments: Any) -> Any:
        """The result of a call; a cancelled task cancels it."""
        future = self._runner.submit(partial(_run, getattr(calls, name), arguments))
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            self._runner.cancel(future)
            raise

    def start(self, name: str, *arguments: Any) -> Callable[[], Any]:
        """Begin a call; the function that it returns waits for the result."""
        return self._runner.submit(partial(_run, getattr(calls, name), arguments)).result

    def let_go(self, reader: Any) -> None:
        """Close an open file without waiting."""
        if isinstance(reader, calls.Reader):
            with suppress(Up42fsError, RuntimeError):
                self._runner.submit(partial(_run, calls.close, (reader,)))


async def _run(work: Any, arguments: tuple[Any, ...], engine: Engine) -> Any:
    return await work(engine, *arguments)


class ByMount:
    """Calls through a mount."""

    def __init__(self, mounted: MountCalls) -> None:
        self._mounted = mounted
        self.process = os.getpid()

    def call(self, name: str, *arguments: Any) -> Any:
        """The result of a call; blocks. Raises OSError."""
        return getattr(self._mounted, name)(*arguments)

    def ticking(self, on_tick: Callable[[], None], name: str, *arguments: Any) -> Any:
        """Like `call`: the kernel tells nothing before the end."""
        del on_tick
        return self.call(name, *arguments)

    async def acall(self, name: str, *arguments: Any) -> Any:
        """The result of a call, which a thread makes."""
        return await asyncio.to_thread(self.call, name, *arguments)

    def start(self, name: str, *arguments: Any) -> Callable[[], Any]:
        """The call is made when its result is asked for: the kernel reads ahead."""
        return partial(self.call, name, *arguments)

    def let_go(self, reader: Any) -> None:
        """Close an open file."""
        if isinstance(reader, MountedFile):
            self._mounted.close(reader)


def backend_of(arguments: Mapping[str, object | None], mount: str) -> Backend:
    """The backend for an account; `mount` is "auto", "never", or a mount point.

    Sends no request. Raises an `Up42fsError`.
    """
    if mount not in ("auto", "never"):
        return ByMount(MountCalls(_directory(mount)))
    settings = settings_of(arguments)
    if mount == "auto" and (place := mount_of(settings)) is not None:
        return ByMount(MountCalls(place))
    return ByEngine(runner_of(settings))


def _directory(mount: str) -> Any:
    from up42fs.config.options import expand_home

    return expand_home(mount).absolute()

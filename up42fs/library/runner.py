"""One engine for each account and process, in a thread with a trio loop of its own.

The thread starts with the first call and ends with the process. After a fork the child has none of
its parent's threads, so it makes an engine of its own when it needs one.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import Any, TypeVar

import trio

from up42fs import supervise
from up42fs.config.settings import Settings
from up42fs.engine import Engine
from up42fs.errors import Unavailable, Up42fsError
from up42fs.supervise import leaves

T = TypeVar("T")

#: How long the end of the process waits for the last writes, seconds.
END_S = 5.0
#: How often a caller that waits hears of progress, seconds.
TICK_S = 0.2

_runners: dict[tuple[object, ...], Runner] = {}
_lock = threading.Lock()


class Runner:
    """An engine in a thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._began = threading.Event()
        self._token: trio.lowlevel.TrioToken | None = None
        self._nursery: trio.Nursery | None = None
        self._engine: Engine | None = None
        self._stop: trio.Event | None = None
        self._error: BaseException | None = None
        self._scopes: dict[Future[Any], trio.CancelScope] = {}
        self._thread = threading.Thread(target=self._run, name="up42fs", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether calls can be made."""
        return self._error is None and self._thread.is_alive()

    def submit(self, work: Callable[[Engine], Awaitable[T]]) -> Future[T]:
        """Start `work` on the engine; any thread may call this. Raises if there is no engine."""
        self._began.wait()
        if self._error is not None:
            raise self._error
        future: Future[T] = Future()
        assert self._token is not None
        try:
            self._token.run_sync_soon(self._start, work, future)
        except trio.RunFinishedError:
            raise Unavailable("the storage is closed: the process is ending") from None
        return future

    def call(
        self, work: Callable[[Engine], Awaitable[T]], on_tick: Callable[[], None] | None = None
    ) -> T:
        """The result of `work`; an interrupted caller cancels it.

        `on_tick` is called now and then until it is there, in this thread.
        """
        future = self.submit(work)
        try:
            while on_tick is not None and not wait((future,), TICK_S).done:
                on_tick()
            return future.result()
        except BaseException:
            self.cancel(future)
            raise

    def cancel(self, future: Future[Any]) -> None:
        """End the work of a call whose caller has left."""
        if not future.done() and self._token is not None:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._cancel, future)

    def _cancel(self, future: Future[Any]) -> None:
        if (scope := self._scopes.get(future)) is not None:
            scope.cancel()

    def end(self) -> None:
        """Stop the engine and wait for its last writes."""
        self._began.wait(END_S)
        if self._token is not None and self._stop is not None:
            try:
                self._token.run_sync_soon(self._stop.set)
            except trio.RunFinishedError:
                return
        self._thread.join(END_S)

    def _run(self) -> None:
        try:
            trio.run(self._main)
        except BaseException as error:
            found = [e for e in leaves(error) if isinstance(e, Up42fsError)]
            self._error = found[0] if found else error
        finally:
            self._began.set()

    async def _main(self) -> None:
        async with (
            Engine.open(self._settings, on_demand=True, follows=True) as engine,
            trio.open_nursery() as n,
        ):
            self._engine, self._nursery, self._stop = engine, n, trio.Event()
            self._token = trio.lowlevel.current_trio_token()
            self._began.set()
            await self._stop.wait()
            n.cancel_scope.cancel()

    def _start(self, work: Callable[[Engine], Awaitable[T]], future: Future[T]) -> None:
        assert self._nursery is not None
        supervise.start(self._nursery, self._work, work, future)

    async def _work(self, work: Callable[[Engine], Awaitable[T]], future: Future[T]) -> None:
        assert self._engine is not None
        if not future.set_running_or_notify_cancel():
            return
        with trio.CancelScope() as scope:
            self._scopes[future] = scope
            try:
                future.set_result(await work(self._engine))
            except Exception as error:
                future.set_exception(error)
            finally:
                del self._scopes[future]
                if not future.done():
                    future.set_exception(Unavailable("the call was interrupted: try again"))


def runner_of(settings: Settings) -> Runner:
    """The process's runner for an account; started if there is none."""
    key: tuple[Any, ...] = (
        settings.api, settings.auth, settings.username, settings.workspace, settings.storage_dir,
        settings.cache_size, settings.memory, settings.refresh, settings.archives,
        settings.orders, settings.names,
    )  # fmt: skip
    with _lock:
        runner = _runners.get(key)
        if runner is None or not runner.is_alive:
            runner = _runners[key] = Runner(settings)
        return runner


def _forked() -> None:
    global _lock
    _lock = threading.Lock()
    _runners.clear()


def _end() -> None:
    for runner in _runners.values():
        runner.end()


os.register_at_fork(after_in_child=_forked)
atexit.register(_end)

"""Signal handling of a mount's process: stop, refresh, dump its tasks, log debug messages."""

from __future__ import annotations

import faulthandler
import logging
import signal
from collections.abc import Callable, Iterator

import trio

from up42fs import logs, supervise

log = logging.getLogger(__name__)

#: Not a child of the "up42fs" logger: a dump is logged at any level, and is not recorded as an
#: error.
_tasks = logging.getLogger("tasks")
# By default SIGTERM ends the process and leaves a dead mount, and a shell may have started it with
# SIGINT ignored. So both are received here.
_HEARD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


async def listen(
    on_stop: Callable[[signal.Signals], None],
    on_refresh: Callable[[], None],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """SIGTERM, SIGINT: stop. SIGHUP: refresh. SIGUSR1: dump. SIGUSR2: debug messages on or off.

    SIGUSR1 writes the stacks of all threads to standard error at once, even if the loop hangs, and
    then the tree of tasks to the log.
    """
    _tasks.setLevel(logging.INFO)
    try:
        await _listen(on_stop, on_refresh, task_status)
    finally:
        # The process ends for a while yet. Whoever asks it why must not kill it by asking.
        faulthandler.register(signal.SIGUSR1)
        for number in (signal.SIGHUP, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)


async def _listen(
    on_stop: Callable[[signal.Signals], None],
    on_refresh: Callable[[], None],
    task_status: trio.TaskStatus[None],
) -> None:
    faulthandler.unregister(signal.SIGUSR1)
    with trio.open_signal_receiver(*_HEARD) as signals:
        faulthandler.register(signal.SIGUSR1, chain=True)
        try:
            task_status.started()
            async for number in signals:
                try:
                    _act(number, on_stop, on_refresh)
                except Exception as error:
                    # Go on, so that the next signal is handled.
                    supervise.report(_act, error)
        finally:
            faulthandler.unregister(signal.SIGUSR1)


def _act(
    number: int, on_stop: Callable[[signal.Signals], None], on_refresh: Callable[[], None]
) -> None:
    match number:
        case signal.SIGHUP:
            on_refresh()
        case signal.SIGUSR1:
            _tasks.info("where each waits:\n%s", "\n".join(task_lister()()))
        case signal.SIGUSR2:
            log.warning("logging from %s on", logs.toggle_debug())
        case _:
            on_stop(signal.Signals(number))


def task_lister() -> Callable[[], list[str]]:
    """A function that lists the tasks of this loop, and where each waits, from any thread."""
    root = trio.lowlevel.current_root_task()

    def tasks() -> list[str]:
        try:
            return list(_lines(root, 0)) if root is not None else []
        except RuntimeError:
            return ["(they change while they are listed)"]

    return tasks


def _lines(task: trio.lowlevel.Task, depth: int) -> Iterator[str]:
    frames = [
        f"{frame.f_code.co_qualname} {frame.f_code.co_filename.rpartition('up42fs/')[2]}:{line}"
        for frame, line in task.iter_await_frames()
    ]
    yield f"{'  ' * depth}{task.name}: " + " > ".join(frames[-3:])
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield from _lines(child, depth + 1)

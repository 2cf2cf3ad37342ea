"""Runs `up42fs` with defects in it: python defective.py CONTROL ARGUMENTS…

CONTROL is a JSON file, read anew at each decision: {"kind", "share", "work", "calls"}. Each call
that needs something of the machine (memory for a part, a thread, a descriptor) fails with the error
`kind` in `share` of the cases; with `work` every piece of background work fails the first time that
it is begun, and with `calls` every call that such work makes of another room. What failed, and what
was begun, is written to CONTROL.log. A call named by "hang" never returns. A file CONTROL.loop lets
trio's own loop run out of memory.
"""

from __future__ import annotations

import errno
import inspect
import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio
from trio._core._io_epoll import EpollIOManager

from up42fs import supervise
from up42fs.api.client import Client
from up42fs.catalog.snapshot.snapshot import Snapshot
from up42fs.catalog.stored_items import Shelf
from up42fs.mount import ending
from up42fs.store.buffers import Buffers
from up42fs.store.disk.cached_files import CacheRoom
from up42fs.store.disk.files import CellFiles
from up42fs.store.egress.spending import Book
from up42fs.store.http.answer import Delivery
from up42fs.store.http.transport import CurlTransport

CONTROL = Path(sys.argv[1])
LOOP = CONTROL.with_name(CONTROL.name + ".loop")
LOG = CONTROL.with_name(CONTROL.name + ".log").open("a", buffering=1)
KINDS: dict[str, Callable[[], BaseException]] = {
    "threads": lambda: RuntimeError("can't start new thread"),
    "memory": MemoryError,
    "descriptors": lambda: OSError(errno.EMFILE, "Too many open files"),
    "no memory": lambda: OSError(errno.ENOMEM, "Cannot allocate memory"),
    "bug": lambda: ValueError("a bug"),
    "bugs": lambda: ExceptionGroup("several", [KeyError("a bug"), ValueError("a bug")]),
    "exit": lambda: SystemExit(3),
}
chance = random.Random(5)
seen: set[str] = set()


def defects() -> dict[str, Any]:
    try:
        return dict(json.loads(CONTROL.read_text()))
    except (OSError, ValueError):
        return {}


def maybe_fail(what: str) -> None:
    wanted = defects()
    if chance.random() < wanted.get("share", 0):
        LOG.write(f"failed {what}\n")
        raise KINDS[wanted["kind"]]()


def failing(function: Callable[..., Any], what: str) -> Callable[..., Any]:
    def call(*arguments: Any, **more: Any) -> Any:
        maybe_fail(what)
        return function(*arguments, **more)

    return call


#: Work that somebody waits for: it has to tell them, so it runs, and what it calls fails.
AWAITED = ("Slots._run", "Flights._run", "DiskCache._change", "_start.<locals>.run")
real_failed = supervise._failed


def is_first(name: str, wish: str) -> bool:
    """Whether this is the first call of it, which fails where that is wanted."""
    if not defects().get(wish) or name in seen:
        return False
    seen.add(name)
    LOG.write(f"failed {name}\n")
    return True


async def failed(work: Any, arguments: Any) -> bool:
    name = getattr(getattr(work, "func", work), "__qualname__", repr(work))
    if not name.endswith(AWAITED) and is_first(name, "work"):

        async def fail(*_arguments: Any) -> None:
            await trio.lowlevel.checkpoint()
            raise KINDS[defects()["kind"]]()

        return await real_failed(fail, ())
    LOG.write(f"begun {name}\n")
    return await real_failed(work, arguments)


def maybe_hang(name: str) -> None:
    """Block this thread, the loop's own or a worker, where that is wanted."""
    if defects().get("hang") == name:
        LOG.write(f"hangs {name}\n")
        time.sleep(1000)


def fail_first(kind: type) -> None:
    """Let the first call of every public method fail."""
    for name, function in list(vars(kind).items()):
        if name.startswith("_") or not inspect.isfunction(function):
            continue
        if inspect.isasyncgenfunction(function) or hasattr(function, "__wrapped__"):
            continue

        def call(*arguments: Any, function: Any = function, **more: Any) -> Any:
            if is_first(function.__qualname__, "calls"):
                raise KINDS[defects()["kind"]]()
            LOG.write(f"begun {function.__qualname__}\n")
            maybe_hang(function.__qualname__)
            return function(*arguments, **more)

        setattr(kind, name, call)


for kind in (Client, CurlTransport, Snapshot, CellFiles, CacheRoom, Book, Delivery, Buffers, Shelf):
    fail_first(kind)
supervise._failed = failed
ending.END_S = float(os.environ.get("UP42FS_TEST_END_S", ending.END_S))
Buffers.take = failing(Buffers.take, "memory for a part")  # type: ignore[method-assign]
real_run_sync = trio.to_thread.run_sync


async def run_sync(*arguments: Any, **more: Any) -> Any:
    maybe_fail("a thread")
    return await real_run_sync(*arguments, **more)


trio.to_thread.run_sync = run_sync  # type: ignore[assignment]
for name in ("open", "pread", "preadv", "pwrite"):
    real = getattr(os, name)

    def guarded(*arguments: Any, real: Any = real, name: str = name, **more: Any) -> Any:
        if arguments and str(arguments[0]) != str(CONTROL):
            maybe_fail(f"os.{name}")
        return real(*arguments, **more)

    setattr(os, name, guarded)
threading.Thread.start = failing(threading.Thread.start, "a new thread")  # type: ignore[method-assign]

real_events = EpollIOManager.process_events


def process_events(self: EpollIOManager, events: Any) -> None:
    if LOOP.exists():
        raise MemoryError
    real_events(self, events)


EpollIOManager.process_events = process_events  # type: ignore[method-assign]

if __name__ == "__main__":
    from up42fs.cli.main import main

    sys.exit(main(sys.argv[2:]))

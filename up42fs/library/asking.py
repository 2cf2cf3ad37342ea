"""The calls of a file system: to the engine of this process or through a mount, by facts first.

Knows which process may use what, and the `OSError`s that a mount would give; nothing of the methods
that fsspec's users call.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from up42fs.errors import NotFound
from up42fs.errors import VersionChanged as Changed
from up42fs.library.facts import Fact, Facts
from up42fs.library.plans import Plan, arun, run
from up42fs.library.questions import Questions
from up42fs.library.read_only import ReadOnlySystem, os_errors
from up42fs.types import Bytes

T = TypeVar("T")


class AskingSystem(Questions, ReadOnlySystem):
    """A file system that runs the plans of `Questions`, and the open files among them."""

    #: What selects the engine's account and settings.
    _arguments: Mapping[str, Any]
    _mount: str

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._backends: dict[str, Any] = {}
        self._facts = Facts()

    def _run(self, path: str, plan: Callable[..., Plan[T]], *arguments: Any) -> T:
        path = self._strip_protocol(path)
        with os_errors(path):
            backend = self.backend(path)
            return run(plan(path, *arguments), lambda ask: backend.call(ask.name, *ask.arguments))

    async def _arun(self, path: str, plan: Callable[..., Plan[T]], *arguments: Any) -> T:
        path = self._strip_protocol(path)
        with os_errors(path):
            backend = await asyncio.to_thread(self.backend, path)
            work = plan(path, *arguments)
            return await arun(work, lambda ask: backend.acall(ask.name, *ask.arguments))

    def backend(self, path: str) -> Any:
        """The backend of this process; files by ID are no matter of mounts."""
        mount = "never" if path.partition("/")[0] == "id" else self._mount
        backend = self._backends.get(mount)
        if backend is None or backend.process != os.getpid():
            from up42fs.garbage import collecting_nothing

            # A worker's first call loads the engine: collections took a tenth of that time.
            with collecting_nothing():
                from up42fs.library.backends import backend_of
            backend = self._backends[mount] = backend_of(self._arguments, mount)
        return backend

    def take_facts(self, packed: tuple[Any, ...]) -> None:
        """Take over the facts that a pickle carried."""
        self._facts.take(packed)

    def take_fact(self, fact: Fact | None) -> None:
        """Take over the facts of one file."""
        if fact is not None:
            self._facts.take(([fact], {}))

    # open files ----------------------------------------------------------------------------

    def reader_of(self, path: str, reading: str = "DIRECT") -> Any:
        """Open a file; by the facts of another process, if there are any."""
        return self._run(path, self._plan_open, reading)

    def read_by(self, path: str, reader: Any, offset: int, size: int) -> tuple[Bytes, Any]:
        """Read from an open file; the reader that is returned is another one if facts were old."""
        with os_errors(path):
            try:
                return self.backend(path).call("read", reader, offset, size), reader
            except (Changed, NotFound):
                if not self.forget_given(path):
                    raise
        fresh = self.reader_of(path)
        with os_errors(path):
            if fresh.size != reader.size:
                raise Changed(f"{path} was replaced since its facts were pickled: open it again")
            return self.backend(path).call("read", fresh, offset, size), fresh

    def forget_given(self, path: str) -> bool:
        """Forget facts that another process gave of a file; False if there are none."""
        if self._facts.given(path) is None:
            return False
        self._facts.forget(path)
        return True

    def let_go(self, reader: Any) -> None:
        """Close an open file, without waiting for it."""
        for backend in self._backends.values():
            if backend.process == os.getpid():
                backend.let_go(reader)

    def fact_of(self, reader: Any) -> Fact | None:
        """The facts of an open file."""
        return None if reader.stored is None else Fact(reader.info, reader.known)

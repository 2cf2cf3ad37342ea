"""`up42fs warm --sizes`: learns the sizes that UP42 does not report, and reads no file.

The mount does the work, one directory after another; here they are walked and counted. A size that
is known costs nothing, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Lock

from up42fs.cli.running import mount_of
from up42fs.cli.terminal import say, say_json
from up42fs.cli.warm.plan import is_archive
from up42fs.cli.warm.read import Troubles
from up42fs.config.quantities import show_count
from up42fs.errors import ConfigurationError
from up42fs.fs.hidden import CONTROL_DIR
from up42fs.fuse.mount_table import Mount

#: Directories that are asked for at the same time; the mount asks for a few sizes in all.
DIRECTORIES = 3
_SIZES, _FETCH = "user.up42.sizes", "user.up42.fetch.sizes"


@dataclass(slots=True)
class Account:
    """Files that were met, and of these the ones without a size: before, and learned since."""

    files: int = 0
    unknown: int = 0
    learned: int = 0
    _lock: Lock = field(default_factory=Lock)

    def add(self, *, files: int = 0, unknown: int = 0, learned: int = 0) -> None:
        """Count more. Any thread."""
        with self._lock:
            self.files += files
            self.unknown += unknown
            self.learned += learned


@dataclass(frozen=True, slots=True)
class Spot:
    """A directory, or the one file of a `name` in it."""

    directory: Path
    name: str = ""

    @property
    def path(self) -> Path:
        """What the user knows it by."""
        return self.directory / self.name

    def ask(self, attribute: str) -> dict[str, int]:
        """What the mount says of its sizes; raises OSError, ConfigurationError."""
        try:
            value = os.getxattr(self.directory, f"{attribute}.{self.name}".rstrip("."))
        except OSError as error:
            if error.errno == errno.ENODATA:
                raise ConfigurationError(
                    "the mount is of an older up42fs, which learns no sizes ahead; mount it again"
                ) from None
            raise
        return {key: int(count) for key, count in json.loads(value).items()}


def main(options: argparse.Namespace) -> int:
    """Learn or count sizes; return 0, 1 if some could not be learned, 130 after Ctrl-C."""
    account, troubles = Account(), Troubles()
    is_done = True
    places = _places(options.paths, troubles)
    work = partial(_size, account=account, troubles=troubles, learns=not options.estimate)
    with ThreadPoolExecutor(DIRECTORIES) as pool:
        running: deque[Future[None]] = deque()
        try:
            for place in places:
                running.append(pool.submit(work, place))
                if len(running) > DIRECTORIES:
                    running.popleft().result()
            while running:
                running.popleft().result()
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            is_done = False
    _tell(account, is_estimate=options.estimate, is_done=is_done, has_json=options.json)
    return troubles.status if is_done else 130


def _size(place: Spot, account: Account, troubles: Troubles, *, learns: bool) -> None:
    """Count the sizes of a place, and learn those that are unknown if it `learns`."""
    try:
        told = place.ask(_SIZES)
        left = told["left"]
        account.add(files=told["files"], unknown=left)
        while left and learns:
            told = place.ask(_FETCH)
            account.add(learned=left - told["left"])
            if told["left"] >= left:
                many = show_count(told["left"], "size")
                say(f"up42fs: {place.path}: {many} not learned; up42fs log says why", to_error=True)
                troubles.status = 1
                return
            left = told["left"]
    except (OSError, ConfigurationError) as error:
        troubles.note(place.path, error)


def _places(paths: Iterable[str], troubles: Troubles) -> Iterator[Spot]:
    """The directories at and below `paths`, archives left out, and the files among `paths`."""
    for path in paths:
        mount, place = _resolved(path)
        if not _is_dir(place):
            yield Spot(place.parent, place.name)
        elif place == Path(mount.mountpoint):
            # All files are below it; the other directories show the same ones once more.
            yield from _below(place / "assets", troubles)
        else:
            yield from _below(place, troubles)


def _resolved(path: str) -> tuple[Mount, Path]:
    """The mount that `path` lies in, and the path, without a stat of a file, which costs its head.

    Raises ConfigurationError.
    """
    directory, name = os.path.split(os.path.abspath(path))  # noqa: PTH100 - `resolve` looks at the file
    try:
        mount, parent = mount_of(directory)
    except ConfigurationError:
        return mount_of(path)  # a mount point, or a link to something within
    return mount, parent / name


def _is_dir(place: Path) -> bool:
    """Whether it is a directory; raises ConfigurationError if there is nothing."""
    try:
        with os.scandir(place):
            return True
    except NotADirectoryError:
        return False
    except FileNotFoundError:
        raise ConfigurationError(f"{place} does not exist") from None


def _below(top: Path, troubles: Troubles) -> Iterator[Spot]:
    waiting = [top]
    while waiting:
        directory = waiting.pop()
        try:
            with os.scandir(directory) as found:
                entries = [e.path for e in found if e.is_dir(follow_symlinks=False)]
        except OSError as error:
            troubles.note(directory, error)
            continue
        yield Spot(directory)
        names = (path for path in sorted(entries, reverse=True) if Path(path).name != CONTROL_DIR)
        waiting += [Path(path) for path in names if not is_archive(path)]


def _tell(account: Account, *, is_estimate: bool, is_done: bool, has_json: bool) -> None:
    left = account.unknown - account.learned
    if has_json:
        told = {"files": account.files, "unknown": left, "learned": account.learned}
        say_json(told | {"is_done": is_done and not is_estimate and not left})
        return
    files = show_count(account.files, "file")
    if is_estimate:
        requests = show_count(2 * left, "request")
        say(f"{files}, {left:,} of unknown size; to learn: {left:,} bytes in {requests}")
        return
    many = f"{show_count(account.learned, 'size')} learned, {left:,} unknown"
    say(f"{files}: {many}" if is_done else f"stopped: {many}; run it again to go on")

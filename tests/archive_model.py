"""The reference model of archives: a mount or an engine beside the bytes that a member really has.

`Shelf` puts archives into an emulator and knows every member. `Weather` makes the object store fail
for moments. Readers compare each range with the model: a read may fail while the store does, but it
never returns other bytes.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import archive_support
from archive_support import Built
from harness import Emulator

from up42fs.archive.kinds import stem_of
from up42fs.emulator.remote import Remote

#: Faults of the object store and of links that pass by; a reader sees retries, or an error.
WEATHER: tuple[dict[str, Any], ...] = (
    {},
    {"fail_plane": "store", "fail_status": 503},
    {"fail_plane": "store", "reset_before_headers": True},
    {"fail_plane": "store", "cut_body_at": 30_000},
    {"fail_plane": "store", "short_body": 5_000},
    {"fail_plane": "store", "wrong_content_range": True},
    {"fail_plane": "store", "ignore_range": True},
    {"fail_plane": "store", "fail_status": 200, "fail_body": "html"},
    {"fail_route": "assets.sign", "expired_link": True},
    {"fail_plane": "api", "fail_status": 502},
)
#: All switches back to what they are without weather.
CALM: dict[str, Any] = {
    "fail_plane": None, "fail_route": None, "fail_status": None, "fail_body": None,
    "reset_before_headers": False, "cut_body_at": None, "short_body": None,
    "wrong_content_range": False, "ignore_range": False, "expired_link": False,
    "fail_share": 1.0,
}  # fmt: skip


@dataclass
class Shelf:
    """Archives in an emulator, and what each path below `assets/` must contain."""

    built: dict[str, Built] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)

    def add(self, emulator: Emulator, name: str, built: Built) -> None:
        """Put an archive into the storage under a name of its own."""
        content = base64.b64encode(built.data).decode()
        row = emulator.remote.storage("add_asset", name=name, content_base64=content)
        self.ids[name] = row["id"]
        self.built[name] = built
        for path, data in built.files.items():
            self.contents[f"{stem_of(name)}/{path}"] = data

    @property
    def paths(self) -> list[str]:
        """Paths of all members below `assets/`, in order."""
        return sorted(self.contents)


def random_shelf(
    emulator: Emulator, seed: int, count: int, largest: int = 3_000_000, *, is_stored: bool = False
) -> Shelf:
    """A shelf of random archives."""
    chance, shelf = random.Random(seed), Shelf()
    for number in range(count):
        built = archive_support.random_archive(chance, largest=largest, is_stored=is_stored)
        ending = built.name.partition(".")[2].rpartition(".")[2]
        ending = f"tar.{ending}" if ".tar." in built.name else ending
        shelf.add(emulator, f"model-{seed}-{is_stored:d}-{number}.{ending}", built)
    return shelf


def random_ranges(chance: random.Random, size: int, count: int) -> Iterator[tuple[int, int]]:
    """Offsets and lengths: runs, jumps, single bytes, beyond the end."""
    at = 0
    for _ in range(count):
        kind = chance.randrange(4)
        if kind == 0:
            at = chance.randrange(size + 1)
        elif kind == 1:
            at = max(0, size - chance.randrange(5000))
        length = chance.choice((1, 100, 4096, 65_536, 131_072, 500_000))
        yield at, length
        at = min(at + length, size)


class Weather:
    """Changes the store's faults at random; links end now and then."""

    def __init__(self, remote: Remote, seed: int) -> None:
        self._remote, self._chance = remote, random.Random(seed)

    def change(self) -> None:
        """Make another weather."""
        faults: Mapping[str, Any] = self._chance.choice(WEATHER)
        self._remote.faults(**CALM | {"fail_share": 0.3} | dict(faults))
        if self._chance.random() < 0.5:
            self._remote.storage("revoke_links")

    def clear(self) -> None:
        """No faults any more."""
        self._remote.faults(**CALM)


def folders(paths: list[str]) -> set[str]:
    """All directories above these paths."""
    return {str(up) for path in paths for up in PurePosixPath(path).parents if str(up) != "."}

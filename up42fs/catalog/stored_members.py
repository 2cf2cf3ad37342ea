"""The tables of archives' members in the snapshot, in the form their users need.

Knows the snapshot and how tables and versions are encoded; decides nothing. Reads run in a worker
thread; the recorder does the writes.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import trio

from up42fs.archive.kinds import ArchiveKind
from up42fs.archive.table import Table
from up42fs.catalog.recorder import Recorder
from up42fs.catalog.snapshot.member_tables import TableRow
from up42fs.types import Version

log = logging.getLogger(__name__)

#: A use is stored again if the last stored one is older than this, microseconds.
USED_ANEW_US = 3600 * 1_000_000


@dataclass(frozen=True, slots=True)
class StoredTable:
    """An archive's table, and the stamp and version of the bytes that it was read from.

    `kind` is what these are, if the archive's name says something else.
    """

    table: Table
    stamp: str | None
    version: Version | None
    kind: ArchiveKind | None = None


class TableShelf:
    """The tables of one snapshot; `clock_ns` is the wall clock."""

    def __init__(self, recorder: Recorder, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._snapshot = recorder.snapshot
        self._recorder = recorder
        self._clock_ns = clock_ns

    async def load(self, object_id: str) -> StoredTable | None:
        """The kept table of an archive. Never raises."""
        noted = self._recorder.unwritten_members(object_id)
        found = await trio.to_thread.run_sync(self._load, object_id, noted)
        if found is None:
            return None
        row, stored = found
        now_us = self._clock_ns() // 1000
        if noted is None and abs(now_us - row.used_us) > USED_ANEW_US:
            self._recorder.note_members_used(object_id, now_us)
        return stored

    async def save(self, object_id: str, asset_id: str, stored: StoredTable) -> None:
        """Keep the table of an archive."""
        packed = await trio.to_thread.run_sync(stored.table.packed)
        row = TableRow(
            object_id,
            asset_id,
            stored.stamp,
            _version_text(stored.version, stored.kind),
            self._clock_ns() // 1000,
            packed,
        )
        self._recorder.note_members(row)

    def _load(self, object_id: str, noted: TableRow | None) -> tuple[TableRow, StoredTable] | None:
        row = noted or self._snapshot.members(object_id)
        try:
            if row is None:
                return None
            table = Table.unpacked(row.packed)
            return row, StoredTable(table, row.stamp, *_version(row.version))
        except (ValueError, TypeError, LookupError, OverflowError) as error:
            log.debug("the stored members of %s cannot be used: %s", object_id, error)
            return None


def _version_text(version: Version | None, kind: ArchiveKind | None) -> str:
    names = None
    if version is not None:
        names = [version.size, version.etag, version.generation, version.modified]
    return json.dumps(names if kind is None else {"version": names, "kind": kind})


def _version(text: str) -> tuple[Version | None, ArchiveKind | None]:
    found, kind = json.loads(text), None
    if isinstance(found, dict):
        found, kind = found["version"], ArchiveKind(found["kind"])
    if found is None:
        return None, kind
    size, *names = found
    if not isinstance(size, int) or not all(isinstance(n, str | None) for n in names):
        raise ValueError(f"no version: {text!r}")
    return Version(size, *names), kind

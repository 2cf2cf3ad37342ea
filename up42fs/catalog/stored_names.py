"""The displayed names of objects in stored catalogues, for commands that have no mount.

Changes nothing and sends no request.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

from up42fs.archive.kinds import stem_of
from up42fs.archive.table import Table
from up42fs.catalog.snapshot.item_rows import unpack
from up42fs.catalog.snapshot.tables import EXTENSION, SEPARATOR
from up42fs.model.names import asset_name, safe_name, split_extension
from up42fs.model.stac import transformed_files
from up42fs.model.stac_documents import file_names, item_names

_ASSET = (
    "SELECT a.name, a.title, a.content_type, o.display_name FROM asset a "
    "LEFT JOIN order_ o ON o.id = a.order_id WHERE a.id = ?"
)
_LEARNED = "SELECT value FROM answer WHERE question = ?"
_DELIVERY = "SELECT asset_id FROM size WHERE id = ?"
_TABLE = "SELECT packed FROM member_table WHERE id = ?"
_ITEMS = "SELECT items FROM item WHERE asset_id = ?"


class KnownName(NamedTuple):
    """A file's place: its order, its delivery's directory (None if unknown), and its own name."""

    order: str | None
    delivery: str | None
    name: str

    def __str__(self) -> str:
        return "/".join(filter(None, self))


def stored_names(directory: Path, object_ids: Iterable[str]) -> dict[str, KnownName]:
    """Names by ID, from all catalogues of `directory` that can be read."""
    wanted = list(object_ids)
    names: dict[str, KnownName] = {}
    for path in sorted(directory.glob("catalogue-*.sqlite")):
        with suppress(sqlite3.Error), closing(_open(path)) as database:
            names |= dict(_names(database, [id_ for id_ in wanted if id_ not in names]))
    return names


def all_names(directory: Path) -> Iterator[str]:
    """Every name, title, tag and order name of `directory`'s catalogues, some of them twice."""
    for path in sorted(directory.glob("catalogue-*.sqlite")):
        with suppress(sqlite3.Error, TypeError, AttributeError), closing(_open(path)) as database:
            for name, title, tags in database.execute("SELECT name, title, tags FROM asset"):
                yield from filter(None, (name, title, *(tags or "").split(SEPARATOR)))
            for name, tags in database.execute("SELECT display_name, tags FROM order_"):
                yield from filter(None, (name, *(tags or "").split(SEPARATOR)))


def _names(
    database: sqlite3.Connection, object_ids: Iterable[str]
) -> Iterator[tuple[str, KnownName]]:
    for object_id in object_ids:
        if "!" in object_id:
            found = _member(database, object_id)
        else:
            found = _asset(database, object_id) or _file(database, object_id)
        if found is not None:
            yield object_id, found


def _asset(database: sqlite3.Connection, asset_id: str) -> KnownName | None:
    row = database.execute(_ASSET, (asset_id,)).fetchone()
    if row is None:
        return None
    name, title, content_type, order = row
    # An asset without a name gets the extension that a mount learned from its file.
    kept = database.execute(_LEARNED, (EXTENSION + asset_id,)).fetchone()
    learned = kept[0].decode("ascii", "replace") if kept and isinstance(kept[0], bytes) else None
    called = asset_name(name, title, content_type, asset_id, learned)
    return KnownName(safe_name(order), None, called)


def _file(database: sqlite3.Connection, file_id: str) -> KnownName | None:
    row = database.execute(_DELIVERY, (file_id,)).fetchone()
    delivery = _asset(database, row[0]) if row else None
    if row is None or delivery is None:
        return None
    for (text,) in database.execute(_ITEMS, (row[0],)):
        with suppress(ValueError, TypeError, LookupError):
            items = unpack(text)
            directories = item_names(items)
            for item in items:
                keys = (f.key for f in transformed_files(item) if f.asset_id == file_id)
                if (key := next(keys, None)) is not None:
                    stem, _ = split_extension(delivery.name)
                    place = f"{stem}/{directories[item.id]}" if len(items) > 1 else stem
                    return KnownName(delivery.order, place, file_names(item)[key])
    return None


def _member(database: sqlite3.Connection, object_id: str) -> KnownName | None:
    """The name of an object in an archive: a member, the unpacked tar, or the seek points of one.

    None if the archive's table is not stored any more.
    """
    member_id, _, points = object_id.partition("#")
    archive_id, _, key = member_id.rpartition("!")
    asset = _asset(database, archive_id.partition("!")[0])
    if asset is None:
        return None
    suffix = f" (seek {points})" if points else ""
    if key == "tar":
        return KnownName(asset.order, None, f"{asset.name} (unpacked){suffix}")
    row = database.execute(_TABLE, (archive_id,)).fetchone()
    with suppress(ValueError, TypeError):
        for member in Table.unpacked(row[0]).members if row else ():
            if str(member.header_at) == key:
                return KnownName(asset.order, stem_of(asset.name), f"{member.path}{suffix}")
    return None


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=1.0)

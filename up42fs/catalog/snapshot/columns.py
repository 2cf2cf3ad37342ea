"""Assets as columns: a hundred thousand are read from disk in milliseconds, and made one by one.

Theory. Making an object of every row takes seconds, though most are never looked at. So all rows
are written as one value: numbers as arrays, texts joined with the end of each, shared values once.
Reading that is a copy, and an asset is made on access. Rows are ordered by age, the order in which
names are assigned (`model.names`).

Rejected: pickle and marshal (a damaged file would run code or crash), JSON (as slow as the rows).
"""

from __future__ import annotations

import json
import sys
import zlib
from array import array
from collections.abc import Iterable, Iterator
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from up42fs.catalog.snapshot.item_rows import from_us
from up42fs.types import Asset, CnamStatus

#: A row as the snapshot has it: the fields of `Asset` in their order, times in microseconds since
#: 1970, tags as one text.
Row = tuple[Any, ...]

#: A byte of `AssetColumns.statuses` is an index into this.
STATUSES = tuple(CnamStatus)
_STATUS_BYTES = {status.value: number for number, status in enumerate(STATUSES)}
#: Markers of a missing text, and of a missing size.
_NO_TEXT = "\0"
NO_SIZE = -1
_CRC_BYTES = 4


class Texts:
    """Joined texts, and where each ends."""

    __slots__ = ("_ends", "_text")

    def __init__(self, text: bytes, ends: array[int]) -> None:
        self._text = text
        self._ends = ends

    def __getitem__(self, row: int) -> str | None:
        start = self._ends[row - 1] if row else 0
        found = self._text[start : self._ends[row]].decode()
        return None if found == _NO_TEXT else found

    def all(self) -> list[str | None]:
        bounds = pairwise([0, *self._ends])
        if self._text.isascii():
            text = self._text.decode("ascii")
            found = [text[start:stop] for start, stop in bounds]
        else:
            found = [self._text[start:stop].decode() for start, stop in bounds]
        return [None if text == _NO_TEXT else text for text in found]


class Shared(NamedTuple):
    """The fields whose values many assets share."""

    content_type: str | None
    account_id: str | None
    workspace_id: str | None
    product_id: str | None
    collection: str | None
    producer: str | None
    source: str | None


class AssetColumns(NamedTuple):
    """Assets by row, oldest first. Sizes in bytes or NO_SIZE, times in µs since 1970."""

    ids: list[str]
    names: list[str | None]
    titles: Texts
    sizes: array[int]
    created_us: array[int]
    updated_us: array[int]
    statuses: bytes
    tags: array[int]
    orders: array[int]
    shared: array[int]
    #: Distinct values; `tags`, `orders` and `shared` are indexes into these.
    tag_lists: list[tuple[str, ...]]
    order_ids: list[str | None]
    shares: list[Shared]

    def asset(self, row: int) -> Asset:
        size = self.sizes[row]
        shared = self.shares[self.shared[row]]
        return Asset(
            self.ids[row], self.names[row], self.titles[row],
            None if size == NO_SIZE else size,
            from_us(self.created_us[row]), from_us(self.updated_us[row]),
            self.tag_lists[self.tags[row]], STATUSES[self.statuses[row]],
            shared.content_type, self.order_ids[self.orders[row]], *shared[1:],
        )  # fmt: skip

    def status(self, row: int) -> CnamStatus:
        return STATUSES[self.statuses[row]]

    def content_type(self, row: int) -> str | None:
        return self.shares[self.shared[row]].content_type


def pack(rows: Iterable[Row]) -> bytes:
    """Rows, oldest first, as one value; raises ValueError for values that cannot be encoded."""
    ids: list[str] = []
    texts: tuple[list[str], list[str]] = ([], [])
    numbers = array("q"), array("q"), array("q")
    statuses = bytearray()
    indexes = array("I"), array("I"), array("I")
    distinct: tuple[dict[Any, int], dict[Any, int], dict[Any, int]] = ({}, {}, {})
    for id_, name, title, size, created_us, updated_us, tags, status, kind, order, *rest in rows:
        ids.append(id_)
        for column, text in zip(texts, (name, title), strict=True):
            column.append(_NO_TEXT if text is None else text)
        number_of = (NO_SIZE if size is None else size, created_us, updated_us)
        for numbers_, number in zip(numbers, number_of, strict=True):
            numbers_.append(number)
        statuses.append(_STATUS_BYTES[status])
        values = (tags, order, (kind, *rest))
        for index, known, value in zip(indexes, distinct, values, strict=True):
            index.append(known.setdefault(value, len(known)))
    sections = [*_pack_texts(ids), *_pack_texts(texts[0]), *_pack_texts(texts[1])]
    sections += [column.tobytes() for column in numbers]
    sections += [bytes(statuses), *(column.tobytes() for column in indexes)]
    head = json.dumps(
        {
            "byteorder": sys.byteorder,
            "lengths": [len(section) for section in sections],
            "distinct": [list(known) for known in distinct],
        }
    ).encode()
    body = b"".join([len(head).to_bytes(8, "little"), head, *sections])
    return zlib.crc32(body).to_bytes(_CRC_BYTES, "little") + body


def unpack(packed: bytes, separator: str) -> AssetColumns:
    """The columns of `pack`, with tags split at `separator`; raises ValueError and the like."""
    body = memoryview(packed)[_CRC_BYTES:]
    if zlib.crc32(body) != int.from_bytes(packed[:_CRC_BYTES], "little"):
        raise ValueError("the packed assets are damaged")
    stop = 8 + int.from_bytes(body[:8], "little")
    head = json.loads(bytes(body[8:stop]))
    if head["byteorder"] != sys.byteorder:
        raise ValueError("the packed assets are another machine's")
    stops = list(accumulate(head["lengths"], initial=stop))
    sections = iter([bytes(body[start:stop]) for start, stop in pairwise(stops)])
    ids, names, titles = (Texts(next(sections), _array("I", next(sections))) for _ in range(3))
    sizes, created_us, updated_us = (_array("q", next(sections)) for _ in range(3))
    statuses = next(sections)
    tags, orders, shared = (_array("I", next(sections)) for _ in range(3))
    tag_texts, order_ids, shares = head["distinct"]
    return AssetColumns(
        [id_ for id_ in ids.all() if id_ is not None],
        names.all(),
        titles,
        sizes, created_us, updated_us, statuses, tags, orders, shared,
        [tuple(map(sys.intern, text.split(separator))) if text else () for text in tag_texts],
        order_ids,
        [Shared(*values) for values in shares],
    )  # fmt: skip


def _pack_texts(texts: list[str]) -> Iterator[bytes]:
    encoded = [text.encode() for text in texts]
    yield b"".join(encoded)
    yield array("I", accumulate(map(len, encoded))).tobytes()


def _array(typecode: str, content: bytes) -> array[int]:
    column: array[int] = array(typecode)
    column.frombytes(content)
    return column


NOTHING = AssetColumns(
    [], [], Texts(b"", array("I")), array("q"), array("q"), array("q"), b"",
    array("I"), array("I"), array("I"), [], [], [],
)  # fmt: skip

"""Reads the members of a tar as its bytes come: in one stream, or by ranges around its data.

Theory. A tar has no directory. Its headers are a chain: each says how much data follows, and the
next header stands behind it. `TarReader.feed` takes bytes in order and needs only headers, so a
caller that reads by ranges feeds from `next_at` on and leaves the data out. `next_range` chooses:
between small members, reading on is quicker than another request.

The result is what `tar` would extract (GNU tar 1.34, compared in tests):
- Of several members of one name the last one counts. A hard link is the member that its name meant
  when it stood there, with its offsets, so that both are one file.
- A zero block ends the archive, though two are written: GNU tar, bsdtar and Python stop there, too.
- A block whose checksum is wrong is skipped, as GNU tar skips to the next header. tar says so and
  fails in the end; here a file that cannot be read stands for what is missing (`TarMembers.miss`).
- Devices and FIFOs are left out and counted; symlinks that lead out of the archive are left out.
Hostile input costs no more than the limits below and in `tar_members`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from up42fs.archive.table import MemberKind, NotAnArchiveError, Table, TooLargeError
from up42fs.archive.tar_headers import (
    BLOCK,
    PAIRS_KEY,
    BadHeaderError,
    Header,
    is_zero,
    parse_decimal,
    parse_header,
    parse_records,
    parse_time_ns,
)
from up42fs.archive.tar_members import MOST_SEGMENTS, TarEntry, TarMembers, decoded
from up42fs.archive.tar_sparse import (
    BadMapError,
    LinesMap,
    Pairs,
    extension_map,
    header_map,
    placed,
    text_map,
)
from up42fs.types import ByteRange, Bytes

#: A longer pax header or long name is skipped, and its member has the short name. Maps of sparse
#: files may need this much.
MOST_META_BYTES = 1 << 20
#: Blocks without a right checksum, 32 MiB in all, after which the rest is given up.
MOST_DAMAGED_BLOCKS = 1 << 16
#: A link of 200 Mbit/s carries this in the time of a request; closer headers are read through.
_THROUGH_BYTES = 1 << 20
_THROUGH_RANGE = 4 << 20
#: What is fetched for one header: small members behind it come along.
_HEADER_RANGE = 64 << 10

_LONG_NAME, _LONG_LINK, _GLOBAL = b"L", b"K", b"g"
_META = (_LONG_NAME, _LONG_LINK, _GLOBAL, b"x", b"X")  # X: Solaris' pax headers
_FILES = (b"0", b"\0", b"7")
_HARD_LINK, _SYMLINK, _FOLDER, _OLD_SPARSE = b"1", b"2", b"5", b"S"
_LEFT_OUT = (b"3", b"4", b"6", b"M")  # devices, FIFOs, and the rest of a file in another volume
_NO_MEMBERS = (b"V", b"N", b"A", b"I")  # a volume's label, old long names, ACLs, Solaris' inodes
#: Kinds without data, whatever their size says.
_WITHOUT_DATA = (_HARD_LINK, _SYMLINK, _FOLDER, b"3", b"4", b"6", b"V")


@dataclass
class _Meta:
    """What headers before a member say about it."""

    name: bytes | None = None
    link: bytes | None = None
    #: None without a pax header of its own: the global one counts.
    records: dict[str, bytes] | None = None

    def applied(self, header: Header) -> Header:
        """The member's header with names and size from them."""
        records = self.records or {}
        name = records.get("GNU.sparse.name") or records.get("path") or self.name or header.name
        link = records.get("linkpath") or self.link or header.link
        size = parse_decimal(records.get("size"))
        return replace(header, name=name, link=link, size=header.size if size is None else size)


class TarReader:
    """Reads a tar; see the module. `feed` raises ArchiveError if the bytes are no usable archive.

    It knows no clock and holds no data. Only one thread may use it at a time.
    """

    def __init__(self) -> None:
        self.is_complete = False
        #: Why the archive is not whole; None as far as is known.
        self.damage: str | None = None
        self._fed = 0
        self._held = bytearray()
        self._item_at, self._item_bytes = 0, BLOCK
        self._on_item: Callable[[bytes], None] = self._on_header
        self._members = TarMembers()
        self._table: Table | None = None
        self._global: dict[str, bytes] = {}
        self._meta = _Meta()
        self._records: dict[str, bytes] = {}
        self._damaged_blocks = 0
        self._damaged_from: int | None = None  # the first of those since the last sound header
        #: The end of data that the last header announced, though its kind has none.
        self._odd_data_end: int | None = None
        self._link_is_open = False

    @property
    def next_at(self) -> int:
        """Offset of the first byte that it still needs; those before may be left out."""
        return self._item_at + len(self._held)

    @property
    def count(self) -> int:
        """Members found so far."""
        return len(self._members)

    @property
    def left_out(self) -> int:
        """Members found so far that are not shown: devices, FIFOs, rests of other volumes."""
        return self._members.left_out

    @property
    def table(self) -> Table:
        """The members found so far."""
        if self._table is None or self._table.is_complete != self.is_complete:
            ends_at = self._item_at if self.is_complete else None
            self._table = self._members.table(is_complete=self.is_complete, ends_at=ends_at)
        return self._table

    def next_range(self, archive_size: int) -> ByteRange | None:
        """The range of a plain tar to feed next; None once it is complete or has ended."""
        at = self.next_at
        if self.is_complete or at >= archive_size:
            return None
        is_dense = self.count > 1 and self._item_at / self.count < _THROUGH_BYTES
        length = _THROUGH_RANGE if is_dense else _HEADER_RANGE
        return ByteRange(at, min(at + length, archive_size))

    def feed(self, data: Bytes, at: int | None = None) -> None:
        """Take the bytes at offset `at`, which is at most `next_at`; by default the next ones."""
        view = memoryview(data)
        start = self._fed if at is None else at
        if start > self.next_at and not self.is_complete:
            raise ValueError(f"bytes from {self.next_at} on are needed, not from {start}")
        self._fed = start + len(view)
        while not self.is_complete:
            begin = self.next_at - start
            if begin >= len(view):
                return
            self._held += view[begin : begin + self._item_bytes - len(self._held)]
            if len(self._held) < self._item_bytes:
                return
            item, self._held = bytes(self._held), bytearray()
            self._on_item(item)

    def end(self, archive_size: int) -> None:
        """Take note that the archive has `archive_size` bytes and no more come."""
        if self.is_complete:
            return
        if not self.count and not self.left_out:
            raise NotAnArchiveError("its beginning is no header of a tar")
        # Many writers leave the end mark out, and no reader minds.
        if self._held or self._item_at > archive_size or self._on_item != self._on_header:
            self.damage = "it ends in the middle of a member"
        is_cut = any(self._held) or self._on_item != self._on_header
        if is_cut and self._item_at < archive_size and self._damaged_from is None:
            self._damaged_from = self._item_at
        self._end_damage(max(self._item_at, archive_size))
        self.is_complete = True

    # --- headers

    def _expect(self, at: int, size: int, then: Callable[[bytes], None]) -> None:
        self._item_at, self._item_bytes, self._on_item = at, size, then

    def _expect_header(self, at: int) -> None:
        self._expect(at, BLOCK, self._on_header)

    def _on_header(self, block: bytes) -> None:
        at = self._item_at
        if is_zero(block):
            self._end_damage(at)
            self.is_complete = True
            return
        try:
            header = parse_header(block)
        except BadHeaderError:
            self._on_bad_header(at)
            return
        self._end_damage(at)
        self._odd_data_end = None
        if header.kind in _META:
            self._on_meta_header(header, at + BLOCK)
            return
        if self._meta.records is None:
            self._meta.records = self._global
        self._records = self._meta.records
        header = self._meta.applied(header)
        if header.kind == _OLD_SPARSE:
            self._begin_old_sparse(header, block, at)
        elif self._records.get("GNU.sparse.major") == b"1":
            self._sparse, self._lines = (header, at), LinesMap()
            self._expect(at + BLOCK, BLOCK, self._on_map_lines)
        else:
            self._on_member(header, at)

    def _on_bad_header(self, at: int) -> None:
        if at == 0:
            raise NotAnArchiveError("its beginning is no header of a tar")
        if self._odd_data_end is not None:
            after, self._odd_data_end = self._odd_data_end, None
            if self._link_is_open:
                self._members.give_data(at, self._odd_size)
                self._table = None
            self._expect_header(after)
            return
        self._damaged_blocks += 1
        self.damage = "a header in it has a wrong checksum, so members are missing"
        if self._damaged_from is None:
            self._damaged_from = at
        if self._damaged_blocks >= MOST_DAMAGED_BLOCKS:
            self._end_damage(at + BLOCK)
            self.is_complete = True
        else:
            self._meta = _Meta()
            self._expect_header(at + BLOCK)

    def _end_damage(self, at: int) -> None:
        """Note the damaged bytes before a sound header, or before the end."""
        if self._damaged_from is not None:
            self._members.miss(ByteRange(self._damaged_from, at))
            self._damaged_from = self._table = None

    def _on_meta_header(self, header: Header, body_at: int) -> None:
        after = body_at + _padded(header.size)
        if header.size > MOST_META_BYTES:
            self.damage = "a long name or pax header in it is larger than 1 MiB"
        if 0 < header.size <= MOST_META_BYTES:
            self._meta_header = header
            self._expect(body_at, after - body_at, self._on_meta_body)
        else:
            self._expect_header(after)

    def _on_meta_body(self, padded: bytes) -> None:
        kind, body = self._meta_header.kind, padded[: self._meta_header.size]
        if kind == _LONG_NAME:
            self._meta.name = body.partition(b"\0")[0]
        elif kind == _LONG_LINK:
            self._meta.link = body.partition(b"\0")[0]
        else:
            try:
                if kind == _GLOBAL:
                    self._global = parse_records(body, self._global)
                else:
                    self._meta.records = parse_records(body, self._meta.records or self._global)
            except BadHeaderError:
                self.damage = "a pax header in it is malformed"
        self._expect_header(self._item_at + len(padded))

    # --- members

    def _on_member(self, header: Header, at: int) -> None:
        data_at = at + BLOCK
        kind = header.kind
        is_folder = kind in (_FOLDER, b"D") or (kind in _FILES and header.name.endswith(b"/"))
        after = data_at + _padded(header.size)
        self._link_is_open = False
        if header.size and (kind in _WITHOUT_DATA or (is_folder and kind != b"D")):
            # GNU tar and Python ignore such a size. If no header comes next, data do.
            self._odd_data_end, self._odd_size = after, header.size
            after = data_at
        if is_folder:
            self._add(self._entry(header, at, MemberKind.DIRECTORY))
        elif kind == _HARD_LINK:
            entry = self._entry(header, at, MemberKind.FILE)
            self._link_is_open = not self._members.add_hard_link(entry, decoded(header.link))
            self._table = None
        elif kind == _SYMLINK:
            entry = self._entry(header, at, MemberKind.SYMLINK)
            self._add(replace(entry, target=decoded(header.link)))
        elif kind in _LEFT_OUT:
            self._members.leave_out()
        elif kind not in _NO_MEMBERS:  # POSIX: a file of an unknown kind is a file
            self._add_file(header, at)
        self._end_member(after)

    def _add_file(self, header: Header, at: int) -> None:
        records = self._records
        size = parse_decimal(records.get("GNU.sparse.size"))
        if size is None:
            entry = self._entry(header, at, MemberKind.FILE)
            self._add(replace(entry, size=header.size, packed_size=header.size))
            return
        text = records.get("GNU.sparse.map") or records.get(PAIRS_KEY)
        try:
            pairs = text_map(text) if text else []
        except BadMapError as error:
            self._refuse(header, at, size, error)
        else:
            self._add_sparse(header, at, at + BLOCK, header.size, size, pairs)

    def _entry(self, header: Header, at: int, kind: MemberKind) -> TarEntry:
        time = self._records.get("mtime")
        mtime_ns = None if time is None else parse_time_ns(time)
        if mtime_ns is None:
            mtime_ns = header.mtime * 10**9
        if abs(mtime_ns) >= 1 << 63:
            mtime_ns = 0
        return TarEntry(decoded(header.name), kind, at, at + BLOCK, 0, 0, mtime_ns, header.mode)

    def _add(self, entry: TarEntry) -> None:
        self._members.add(entry)
        self._table = None

    def _end_member(self, after: int) -> None:
        self._meta = _Meta()
        self._expect_header(after)

    # --- sparse files

    def _begin_old_sparse(self, header: Header, block: bytes, at: int) -> None:
        self._sparse = (header, at)
        try:
            self._pairs, self._real_size, has_more = header_map(block)
        except BadMapError as error:
            self._refuse(header, at, 0, error)
            self._end_member(at + BLOCK + _padded(header.size))
            return
        self._continue_old_sparse(at + BLOCK, has_more=has_more)

    def _continue_old_sparse(self, at: int, *, has_more: bool) -> None:
        if has_more:
            self._expect(at, BLOCK, self._on_extension)
            return
        header, header_at = self._sparse
        self._add_sparse(header, header_at, at, header.size, self._real_size, self._pairs)
        self._end_member(at + _padded(header.size))

    def _on_extension(self, block: bytes) -> None:
        after = self._item_at + BLOCK
        try:
            pairs, has_more = extension_map(block)
        except BadMapError as error:
            self._refuse(*self._sparse, self._real_size, error)
            self._end_member(after + _padded(self._sparse[0].size))
            return
        self._pairs += pairs
        if len(self._pairs) > MOST_SEGMENTS:
            raise TooLargeError("a sparse file in it has too many holes")
        self._continue_old_sparse(after, has_more=has_more)

    def _on_map_lines(self, block: bytes) -> None:
        header, at = self._sparse
        after = self._item_at + BLOCK
        size = parse_decimal(self._records.get("GNU.sparse.realsize")) or 0
        try:
            pairs = self._lines.feed(block)
            if pairs is None and self._lines.taken_bytes >= min(header.size, MOST_META_BYTES):
                raise BadMapError("has a map that does not end")
        except BadMapError as error:
            self._refuse(header, at, size, error)
        else:
            if pairs is None:
                self._expect(after, BLOCK, self._on_map_lines)
                return
            packed = max(header.size - self._lines.taken_bytes, 0)
            self._add_sparse(header, at, after, packed, size, pairs)
        self._end_member(max(after, at + BLOCK + _padded(header.size)))

    def _add_sparse(
        self, header: Header, at: int, data_at: int, packed: int, size: int, pairs: Pairs
    ) -> None:
        try:
            segments = placed(pairs, data_at, packed, size)
        except BadMapError as error:
            self._refuse(header, at, size, error)
            return
        # A file that is all hole has a segment, too: without any, its data would stand in a row.
        segments = segments or ((0, data_at, 0),)
        entry = self._entry(header, at, MemberKind.FILE)
        self._add(replace(entry, data_at=data_at, packed_size=packed, size=size, segments=segments))

    def _refuse(self, header: Header, at: int, size: int, error: BadMapError) -> None:
        self._add(replace(self._entry(header, at, MemberKind.FILE), size=size, refusal=str(error)))


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK

"""The files of the disk cache: opened, verified, filled, stamped. Blocking, for worker threads.

Theory. There is one sparse file per object, named by a hash of its ID, holding one version. A file
is opened by name for each operation and closed after it: another process may have replaced,
truncated or deleted it since, and then it counts as empty, which is never wrong. Another version
begins a new file under the same name; a process that still has the old one open writes to the
unlinked file, which is harmless. Data is written before its record, nothing is synchronised: after
a crash, writes that reached the disk out of order do not verify. Everything below the directory is
opened relative to it and never through a symbolic link; anything but a plain file of this user with
one name is removed. Directories are 0700, files 0600. Raises OSError; a missing file is not an
error.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import stat
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from up42fs.metrics import Metrics
from up42fs.ownership import ensure_directory, is_plain
from up42fs.ranges import coalesce, floor_to
from up42fs.store.disk import direct_io as bulk_io
from up42fs.store.disk.format import (
    CELL_BYTES,
    HEADER_BYTES,
    RECORD_BYTES,
    CellRecord,
    Cells,
    Label,
    encode_header,
    leading,
    merge,
    parse_header,
    touch,
)
from up42fs.types import ByteRange, Version

#: The most that one load reads, bytes: large enough to be fast, small enough to answer a reader
#: soon.
LOAD_BYTES = 4 << 20

#: Runs set aside at most. Each is at most half a cell, so they take 2 MiB.
MOST_APART = 32

_FILE_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Wanted:
    """The usable bytes: those of `version`; if it is None, those with `size` and `stamp`.

    `size` None: any.
    """

    object_id: str
    size: int | None
    stamp: str | None
    version: Version | None = None

    def allows(self, label: Label) -> bool:
        """Whether the file's bytes may be used."""
        if label.object_id != self.object_id:
            return False
        if self.version is not None:
            return label.version == self.version
        return label.stamp == self.stamp and self.size in (None, label.version.size)


@dataclass(frozen=True, slots=True)
class Survey:
    """The version of a file's bytes, and the ranges it claims to hold, sorted and disjoint."""

    version: Version
    spans: tuple[ByteRange, ...]


#: Tells tar, restic, borg and kopia that these bytes can be fetched again; see bford.info/cachedir.
CACHE_TAG = "CACHEDIR.TAG"
_TAG_TEXT = b"""Signature: 8a477f597d28d172789f06886806bc55
# up42fs keeps bytes here that it can fetch again. Backup programs may leave this directory out.
"""


class Descriptor:
    """A descriptor that is closed when nothing refers to it any more, or before, by `close`."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.close = weakref.finalize(self, os.close, fd)
        self.close.atexit = False


class CacheDirectory:
    """The directory `key` below `blocks`: created, kept private, kept open. For any thread.

    Every operation on a cached file begins here, and each system call releases the interpreter's
    lock, which takes long to come back while other threads move bytes. So the descriptor is kept
    open, and checked before each use: a deleted directory has no links any more and is created
    anew, and one whose permissions were widened is made private again. Operations that already use
    the old descriptor keep it.
    """

    def __init__(self, blocks: Path, key: str) -> None:
        self.path = blocks / key
        self._blocks = blocks
        self._key = key
        self._kept: Descriptor | None = None

    @contextmanager
    def opened(self) -> Iterator[int]:
        """Yield the directory's descriptor, valid while the block runs. Raises OSError."""
        kept = self._kept
        if kept is None or not _is_usable(kept.fd):
            kept = self._kept = Descriptor(self._open())
        yield kept.fd

    def close(self) -> None:
        """Release the descriptor, so that its file system can be unmounted."""
        self._kept = None

    def _open(self) -> int:
        blocks = ensure_blocks(self._blocks)
        try:
            return ensure_directory(self._key, blocks)
        finally:
            os.close(blocks)


def _is_usable(fd: int) -> bool:
    found = os.fstat(fd)
    is_private = found.st_uid == os.geteuid() and not stat.S_IMODE(found.st_mode) & 0o077
    return is_private and found.st_nlink > 0


def ensure_blocks(path: Path) -> int:
    """Open the directory of all accounts' files, created if necessary; raises OSError."""
    if not path.parent.is_dir():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    blocks = ensure_directory(str(path), None)
    # Not in the directory above: that is any that the user named, and may hold more than this.
    try:
        with suppress(OSError):  # it is there, or the disk is full
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            tag = os.open(CACHE_TAG, flags, 0o600, dir_fd=blocks)
            try:
                os.write(tag, _TAG_TEXT)
            finally:
                os.close(tag)
    except BaseException:
        os.close(blocks)
        raise
    return blocks


class CellFiles:
    """The cached files of one account, in the directory `key` below `blocks`."""

    def __init__(
        self, blocks: Path, key: str, metrics: Metrics, *, is_below_kernel: bool = True
    ) -> None:
        """`is_below_kernel`: the kernel keeps what readers get, so loads bypass its page cache."""
        self.root = CacheDirectory(blocks, key)
        self._metrics = metrics
        self._is_below_kernel = is_below_kernel
        #: By object, version and cell: the shorter of two runs that lie apart in a cell, which has
        #: room for one. Parts of one cell arrive in any order, and the bytes between the two may be
        #: next. Only the writing thread uses it.
        self._apart: OrderedDict[tuple[str, Version, int], tuple[ByteRange, bytes]] = OrderedDict()

    # loading -------------------------------------------------------------------------------

    def label(self, object_id: str) -> Label | None:
        """Return the cached label of an object; None if there is none."""
        with self._opened(object_id) as fd:
            return None if fd is None else parse_header(os.pread(fd, HEADER_BYTES, 0))

    def survey(self, wanted: Wanted, near: ByteRange | None = None) -> Survey | None:
        """Return the ranges that the file claims to hold, unverified; None if it is unusable.

        With `near` only the cells under that range are read.
        """
        with self._opened(wanted.object_id) as fd:
            cells = self._cells(fd, wanted)
            if fd is None or cells is None:
                return None
            numbers = range(cells.count) if near is None else cells.under(near)
            found = self._records(fd, cells, range(numbers.start, min(numbers.stop, cells.count)))
            spans = coalesce(one.span for one in found if one)
            return Survey(cells.version, tuple(spans))

    def load(self, wanted: Wanted, span: ByteRange, into: memoryview) -> int | None:
        """Read into `into` the bytes from `span.start` on that are held without a gap and verify.

        Returns their number, at most `LOAD_BYTES` and the length of `into`; the rest of `into` is
        garbage. Returns None if the file may not be used. The record of a cell that does not verify
        is zeroed, so that it can be filled again.
        """
        with self._opened(wanted.object_id) as fd:
            cells = self._cells(fd, wanted)
            if fd is None or cells is None:
                return None
            near = floor_to(span.start, CELL_BYTES) + LOAD_BYTES
            span = ByteRange(span.start, min(span.stop, near))
            run = leading(self._records(fd, cells, cells.under(span)), span.start)
            if not run:
                return 0
            start, stop = run[0].span.start, run[-1].span.stop
            if start == span.start and stop <= span.stop:
                return self._verify(fd, cells, run, into[: stop - start])
            data = memoryview(bytearray(stop - start))  # checksums cover more than was requested
            verified = self._verify(fd, cells, run, data)
            piece = data[:verified][span.start - start :][: len(span)]
            into[: len(piece)] = piece
            return len(piece)

    def touch(self, object_id: str) -> None:
        """Mark the file as used now; eviction goes by modification time."""
        with self._opened(object_id) as fd:
            if fd is not None:
                os.utime(fd)

    # filling -------------------------------------------------------------------------------

    def store(self, label: Label, span: ByteRange | None, data: memoryview) -> list[ByteRange]:
        """Write `label` and `data`, the bytes of `span`; return the ranges written.

        A file that holds another version is replaced.
        """
        written = self._write(label, span, data)
        if not self._apart or not written:
            return written
        of_version = (label.object_id, label.version)
        cells = {cell for one in written for cell in Cells(label).under(one)}
        for key in [key for key in self._apart if key[:2] == of_version and key[2] in cells]:
            # It is set aside again if the bytes between are still missing.
            aside, aside_data = self._apart.pop(key)
            written += self._write(label, aside, memoryview(aside_data))
        return coalesce(written)

    def _write(self, label: Label, span: ByteRange | None, data: memoryview) -> list[ByteRange]:
        with self._opened(label.object_id, label) as fd:
            if fd is None or span is None:
                return []
            cells = Cells(label)
            numbers = cells.under(span)
            records = self._records(fd, cells, numbers)
            lacking: list[ByteRange] = []
            alone: dict[int, ByteRange] = {}  # by index; most cells are kept as they come
            for index, piece in enumerate(cells.pieces(span)):
                old = records[index]
                union = merge(old, piece)
                piece_data = data[piece.start - span.start :][: len(piece)]
                if old is not None and not touch(old.span, piece):
                    self._set_aside(label, *self._shorter(fd, cells, old, piece, piece_data))
                if union is None:
                    continue
                lacking.append(piece)
                if old is not None and union != piece:
                    records[index] = self._join(fd, cells, old, piece, piece_data)
                else:
                    alone[index] = piece
            checksums = cells.checksums(alone.values(), data, span.start)
            for (index, piece), crc in zip(alone.items(), checksums, strict=True):
                records[index] = CellRecord(numbers[index], piece, crc)
            written = coalesce(lacking)
            for one in written:
                place = cells.data_offset + one.start
                bulk_io.write(fd, data[one.start - span.start :][: len(one)], place)
            if written:
                texts = (cells.encode(one) if one else bytes(RECORD_BYTES) for one in records)
                bulk_io.write(fd, b"".join(texts), HEADER_BYTES + numbers.start * RECORD_BYTES)
            return written

    def _shorter(
        self, fd: int, cells: Cells, old: CellRecord, piece: ByteRange, data: memoryview
    ) -> tuple[ByteRange, memoryview]:
        """The one of two runs that a cell does not keep, and its bytes; none if damaged."""
        if len(piece) <= len(old.span):
            return piece, data
        rest = memoryview(bytearray(len(old.span)))
        return old.span, rest[: self._verify(fd, cells, [old], rest)]

    def _set_aside(self, label: Label, span: ByteRange, data: memoryview) -> None:
        if not data:
            return
        key = (label.object_id, label.version, span.start // CELL_BYTES)
        other = self._apart.pop(key, None)
        if other is not None and touch(other[0], span):
            # Both lie apart from what the cell holds: they become one run.
            first, second = sorted([other, (span, bytes(data))])
            tail = second[1][first[0].stop - second[0].start :]
            self._apart[key] = coalesce([first[0], second[0]])[0], first[1] + tail
        else:
            self._apart[key] = span, bytes(data)
        if len(self._apart) > MOST_APART:
            self._apart.popitem(last=False)

    def used_bytes(self, object_id: str) -> int:
        """Disk use of the object's file, bytes."""
        with self._opened(object_id) as fd:
            return 0 if fd is None else os.fstat(fd).st_blocks * 512

    def remove(self, object_id: str) -> None:
        """Delete the object's file."""
        for key in [key for key in self._apart if key[0] == object_id]:
            del self._apart[key]
        with self.root.opened() as root:
            _unlink(file_name(object_id), root)

    # cells ---------------------------------------------------------------------------------

    def _cells(self, fd: int | None, wanted: Wanted) -> Cells | None:
        label = None if fd is None else parse_header(os.pread(fd, HEADER_BYTES, 0))
        return Cells(label) if label is not None and wanted.allows(label) else None

    def _records(self, fd: int, cells: Cells, numbers: range) -> list[CellRecord | None]:
        offset = HEADER_BYTES + numbers.start * RECORD_BYTES
        text = os.pread(fd, len(numbers) * RECORD_BYTES, offset)
        found = cells.parse(text, numbers.start)
        return found + [None] * (len(numbers) - len(found))

    def _verify(self, fd: int, cells: Cells, run: list[CellRecord], into: memoryview) -> int:
        """Read a gapless `run` of cells; return how many bytes precede the first bad one."""
        start = run[0].span.start
        place = cells.data_offset + start
        data = into[: bulk_io.read(fd, into, place, is_straight=self._is_below_kernel)]
        whole = [one for one in run if one.span.stop <= start + len(data)]
        checksums = cells.checksums([one.span for one in whole], data, start)
        for one, crc in itertools.zip_longest(run, checksums):
            if one.crc != crc:
                self._metrics.count("store.disk_bad_cells")
                bulk_io.write(fd, bytes(RECORD_BYTES), HEADER_BYTES + one.cell * RECORD_BYTES)
                return one.span.start - start
        return len(into)

    def _join(
        self, fd: int, cells: Cells, old: CellRecord, piece: ByteRange, data: memoryview
    ) -> CellRecord:
        """Return the cell's record after merging `data` with the bytes it held."""
        union, whole = piece, bytes(data)
        rest = memoryview(bytearray(len(old.span)))
        if self._verify(fd, cells, [old], rest):
            before = rest[: max(0, piece.start - old.span.start)]
            after = rest[max(0, piece.stop - old.span.start) :]
            union, whole = coalesce([old.span, piece])[0], b"".join((before, data, after))
        return CellRecord(old.cell, union, cells.checksum(old.cell, union, whole))

    # files ---------------------------------------------------------------------------------

    @contextmanager
    def _opened(self, object_id: str, label: Label | None = None) -> Iterator[int | None]:
        """Yield the object's file, None if missing; with `label` it is created for that version.

        It is closed at the end; network file systems report there which bytes they could not keep.
        """
        name = file_name(object_id)
        with self.root.opened() as root:
            fd = _open(name, root) if label is None else _open_labelled(name, root, label)
        try:
            yield fd
        finally:
            if fd is not None:
                os.close(fd)


def _open(name: str, root: int) -> int | None:
    try:
        fd = os.open(name, _FILE_FLAGS, dir_fd=root)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a symbolic link, a socket
            _unlink(name, root)
            return None
        raise
    try:
        if is_plain(os.fstat(fd)):
            return fd
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    _unlink(name, root)
    return None


def _open_labelled(name: str, root: int, label: Label) -> int | None:
    """Open the file of the label's version, replacing another version's; None if it must wait."""
    header = encode_header(label)
    fd = _open(name, root)
    if fd is not None:
        try:
            if _relabel(fd, header, label):
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        _unlink(name, root)
    try:
        fd = os.open(name, _FILE_FLAGS | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=root)
    except FileExistsError:
        return None  # another mount created it first
    try:
        bulk_io.write(fd, header, 0)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _relabel(fd: int, header: bytes, label: Label) -> bool:
    """Whether the file holds the label's version; updates its stamp."""
    known = os.pread(fd, HEADER_BYTES, 0)
    if known == header:
        return True
    old = parse_header(known)
    if old is None or (old.object_id, old.version) != (label.object_id, label.version):
        return False
    bulk_io.write(fd, header, 0)
    return True


def file_name(object_id: str) -> str:
    """Name of the object's file."""
    return hashlib.sha256(object_id.encode(errors="surrogatepass")).hexdigest()[:40]


def _unlink(name: str, directory: int) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)

"""Writes tar archives byte by byte, and frames them: gzip, BGZF, xz and zstd of several pieces.

Each field of a header can be set, and each can lie. Readers are not used to make them.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import shutil
import struct
import subprocess
import tarfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

BLOCK = 512
USTAR, GNU, V7 = b"ustar\x0000", b"ustar  \x00", bytes(8)
FILE, HARD_LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = (b"%d" % n for n in range(7))
END = bytes(2 * BLOCK)


@dataclass
class TarEntry:
    """A header and the data after it; `size` and `checksum` may lie."""

    name: bytes
    data: bytes = b""
    kind: bytes = FILE
    link: bytes = b""
    mode: int = 0o644
    mtime: int = 1_600_000_000
    magic: bytes = USTAR
    prefix: bytes = b""
    size: int | None = None
    checksum: int | None = None
    #: The raw field of the size: octal unless it is set.
    raw_size: bytes | None = None
    #: Bytes 345 to 512 of the header, for sparse files of old GNU tar.
    rest: bytes | None = None
    #: Blocks between the header and the data.
    between: bytes = b""

    def packed(self) -> bytes:
        """The header, and the data padded to whole blocks."""
        return self.header() + self.between + padded(self.data)

    def header(self) -> bytes:
        """The header block."""
        size = len(self.data) if self.size is None else self.size
        head = b"".join(
            (
                self.name[:100].ljust(100, b"\0"),
                octal(self.mode, 8) + octal(1000, 8) + octal(1000, 8),
                number(size) if self.raw_size is None else self.raw_size,
                number(self.mtime),
                b" " * 8 + self.kind + self.link[:100].ljust(100, b"\0") + self.magic,
                b"root".ljust(32, b"\0") * 2 + octal(0, 8) * 2,
                self.prefix.ljust(167, b"\0") if self.rest is None else self.rest.ljust(167, b"\0"),
            )
        )
        sum_ = sum(head) if self.checksum is None else self.checksum
        return head[:148] + b"%06o\0 " % sum_ + head[156:]


def padded(data: bytes) -> bytes:
    """`data` to the end of its last block."""
    return data + bytes(-len(data) % BLOCK)


def octal(value: int, width: int) -> bytes:
    """An octal field that ends with NUL."""
    return b"%0*o\0" % (width - 1, value)


def number(value: int, width: int = 12) -> bytes:
    """A number as GNU tar writes it: octal, or base 256 if it does not fit or is negative."""
    if 0 <= value < 8 ** (width - 1):
        return octal(value, width)
    return base256(value, width)


def base256(value: int, width: int = 12) -> bytes:
    """A number in base 256."""
    raw = bytearray(value.to_bytes(width, "big", signed=True))
    raw[0] = 0xFF if value < 0 else 0x80 | raw[0]
    return bytes(raw)


def tar_bytes(entries: Iterable[TarEntry | bytes], end: bytes = END) -> bytes:
    """An archive of entries and of raw blocks."""
    blocks = (item if isinstance(item, bytes) else item.packed() for item in entries)
    return b"".join(blocks) + end


def long_name(name: bytes, kind: bytes = b"L") -> TarEntry:
    """GNU's header of a long name (L) or link target (K), for the entry after it."""
    return TarEntry(b"././@LongLink", name + b"\0", kind, magic=GNU)


def pax_record(key: str, value: str | bytes) -> bytes:
    """One record of a pax header: its own length, key and value."""
    raw = value.encode() if isinstance(value, str) else value
    body = b" " + key.encode() + b"=" + raw + b"\n"
    length = len(body)
    while len(b"%d" % length) + len(body) != length:
        length = len(b"%d" % length) + len(body)
    return b"%d" % length + body


def pax(
    records: Mapping[str, str | bytes] | Sequence[tuple[str, str | bytes]], kind: bytes = b"x"
) -> TarEntry:
    """A pax header for the next entry (x), or for all that follow (g)."""
    pairs = records.items() if isinstance(records, Mapping) else records
    data = b"".join(pax_record(key, value) for key, value in pairs)
    return TarEntry(b"./PaxHeaders/x", data, kind)


# --- sparse files: `segments` are offsets and the bytes there

Segments = Sequence[tuple[int, bytes]]


def sparse_content(segments: Segments, size: int) -> bytes:
    """The content of a sparse file."""
    content = bytearray(size)
    for offset, data in segments:
        content[offset : offset + len(data)] = data
    return bytes(content)


def gnu_sparse(name: bytes, segments: Segments, size: int) -> TarEntry:
    """A sparse file as old GNU tar wrote it: its map in the header, then in extension blocks."""
    pairs = [number(offset) + number(len(data)) for offset, data in segments]
    inline, more = pairs[:4], pairs[4:]
    rest = bytes(41) + b"".join(inline).ljust(96, b"\0") + (b"\1" if more else b"\0") + number(size)
    blocks = []
    while more:
        block, more = more[:21], more[21:]
        blocks.append(
            (b"".join(block).ljust(504, b"\0") + (b"\1" if more else b"\0")).ljust(512, b"\0")
        )
    data = b"".join(data for _, data in segments)
    return TarEntry(name, data, b"S", magic=GNU, rest=rest, between=b"".join(blocks))


def pax_sparse(name: str, segments: Segments, size: int, version: str) -> list[TarEntry]:
    """A sparse file as pax has it, in version 0.0, 0.1 or 1.0."""
    data = b"".join(data for _, data in segments)
    lengths = [(offset, len(data)) for offset, data in segments]
    odd = f"GNUSparseFile.0/{name}".encode()
    if version == "0.0":
        records: list[tuple[str, str | bytes]] = [
            ("GNU.sparse.size", str(size)),
            ("GNU.sparse.numblocks", str(len(segments))),
        ]
        for offset, length in lengths:
            records += [("GNU.sparse.offset", str(offset)), ("GNU.sparse.numbytes", str(length))]
        return [pax(records), TarEntry(name.encode(), data)]
    if version == "0.1":
        spans = ",".join(f"{offset},{length}" for offset, length in lengths)
        records = [
            ("GNU.sparse.size", str(size)),
            ("GNU.sparse.numblocks", str(len(segments))),
            ("GNU.sparse.name", name),
            ("GNU.sparse.map", spans),
        ]
        return [pax(records), TarEntry(odd, data)]
    lines = [len(lengths), *(value for pair in lengths for value in pair)]
    spans_block = padded(b"".join(b"%d\n" % line for line in lines))
    records = [
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.name", name),
        ("GNU.sparse.realsize", str(size)),
    ]
    return [pax(records), TarEntry(odd, spans_block + data)]


def tarfile_bytes(
    files: Mapping[str, bytes], format_: int = tarfile.PAX_FORMAT, mtime: int = 1_600_000_000
) -> bytes:
    """An archive as Python's tarfile writes it. Names that end with a slash are directories."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format_) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name.rstrip("/"))
            info.mtime, info.size = mtime, len(data)
            if name.endswith("/"):
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


# --- framings


def gzip_bytes(data: bytes, pieces: int = 1, level: int = 6) -> bytes:
    """`data` in gzip, as so many members one after the other."""
    step = max(1, -(-len(data) // pieces))
    starts = range(0, max(1, len(data)), step)
    return b"".join(gzip.compress(data[at : at + step], level, mtime=0) for at in starts)


def bgzf_bytes(data: bytes, block: int = 65280) -> bytes:
    """`data` in BGZF: small gzip members, each with its packed size in its header."""
    out = []
    for start in (*range(0, len(data), block), len(data)):
        piece = data[start : start + block]
        deflater = zlib.compressobj(6, zlib.DEFLATED, -15)
        packed = deflater.compress(piece) + deflater.flush()
        out.append(
            struct.pack("<4BLBBHBBHH", 31, 139, 8, 4, 0, 0, 255, 6, 66, 67, 2, len(packed) + 25)
            + packed
            + struct.pack("<LL", zlib.crc32(piece), len(piece))
        )
    return b"".join(out)


def independent_gzip_bytes(data: bytes, chunk: int = 131072) -> bytes:
    """`data` as `pigz --independent` writes it: one gzip member, a full flush after each chunk."""
    deflater = zlib.compressobj(6, zlib.DEFLATED, 31)
    out = b""
    for start in range(0, len(data), chunk):
        out += deflater.compress(data[start : start + chunk]) + deflater.flush(zlib.Z_FULL_FLUSH)
    return out + deflater.flush()


def xz_bytes(data: bytes, pieces: int = 1, block: int | None = None) -> bytes:
    """`data` in xz: several streams one after the other, or several blocks (by the command)."""
    if block is not None:
        return _piped(["xz", "-T1", "-0", "-c", f"--block-size={block}"], data)
    step = max(1, -(-len(data) // pieces))
    return b"".join(
        lzma.compress(data[at : at + step], preset=0) for at in range(0, max(1, len(data)), step)
    )


def zstd_bytes(data: bytes, frame: int | None = None, *, is_seekable: bool = False) -> bytes:
    """`data` in zstd (by the command), in frames of so many bytes, with a seek table if asked."""
    step = frame or max(1, len(data))
    pieces = [data[at : at + step] for at in range(0, max(1, len(data)), step)]
    frames = [_piped(["zstd", "-3", "-c", "-q"], piece) for piece in pieces]
    packed = b"".join(frames)
    return packed + seek_table(frames, pieces) if is_seekable else packed


def raw_zstd_frame(data: bytes, *, has_size: bool = True) -> bytes:
    """A frame of zstd whose blocks are stored: made without zstd."""
    head = b"\x28\xb5\x2f\xfd"
    head += b"\xa0" + struct.pack("<L", len(data)) if has_size else b"\x00\x38"
    out = bytearray(head)
    for at in range(0, max(1, len(data)), 1 << 17):
        piece = data[at : at + (1 << 17)]
        is_last = at + (1 << 17) >= len(data)
        out += (is_last | len(piece) << 3).to_bytes(3, "little") + piece
    return bytes(out)


def seek_table(frames: Sequence[bytes], pieces: Sequence[bytes]) -> bytes:
    """The seek table of the seekable format: a skippable frame at the end."""
    rows = b"".join(
        struct.pack("<LL", len(frame), len(piece))
        for frame, piece in zip(frames, pieces, strict=True)
    )
    table = rows + struct.pack("<LBL", len(frames), 0, 0x8F92EAB1)
    return struct.pack("<LL", 0x184D2A5E, len(table)) + table


def framed(kind: str, tar: bytes) -> bytes:
    """A tar in the framing of an ending: `tgz`, `tar.bz2`, `tar.xz`, `tar.zst`, or plain `tar`."""
    if kind == "tar":
        return tar
    if kind == "tgz":
        return gzip_bytes(tar)
    if kind == "tar.bz2":
        return bz2.compress(tar)
    return xz_bytes(tar) if kind == "tar.xz" else zstd_bytes(tar)


def has_command(name: str) -> bool:
    """Whether a test may run a command."""
    return shutil.which(name) is not None


def _piped(command: Sequence[str], data: bytes) -> bytes:
    return subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout

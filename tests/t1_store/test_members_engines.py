"""Engines against Python's own: any stream, any cut, any border; and streams that lie or break."""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import lzma
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from up42fs.store.members.inflate import engines, framed, zstd
from up42fs.store.members.inflate.engines import (
    Border,
    DamagedStreamError,
    Decompressor,
    ModuleEngine,
    UnsupportedMethodError,
    ZlibEngine,
    fast,
    pointed,
    prefix,
)

seeds = st.integers(0, 2**32)
#: ISA-L reads up to so many bytes beyond the end of a stream.
BEYOND_BYTES = 8
python = partial(ModuleEngine, zlib)


def content(chance: random.Random) -> bytes:
    size = chance.choice([0, 1, 10, 1000, 40_000, 200_000])
    words = [b"abc", b"xyzw", chance.randbytes(5)]
    return chance.choice(
        [
            lambda: chance.randbytes(size),
            lambda: bytes(size),
            lambda: b"".join(chance.choices(words, k=size // 4)),
            lambda: bytes(chance.choices(range(20), k=size)),
        ]
    )()


def deflated(data: bytes, chance: random.Random) -> bytes:
    """A stream with blocks of all kinds, flushed here and there."""
    strategy = chance.choice([0, 1, 2, 3, 4])
    packer = zlib.compressobj(
        chance.choice([0, 1, 6, 9]), zlib.DEFLATED, -15, chance.choice([1, 8, 9]), strategy
    )
    packed, at = b"", 0
    while at < len(data):
        step = chance.randrange(1, len(data) + 1)
        packed += packer.compress(data[at : at + step])
        at += step
        if chance.random() < 0.3:
            packed += packer.flush(chance.choice([zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH]))
    return packed + packer.flush()


def inflated(
    engine: Decompressor, packed: bytes, chance: random.Random, at: int = 0, span: int | None = None
) -> tuple[bytes, int, list[tuple[int, int, Border]]]:
    """What an engine makes of `packed` from `at` on, fed and emptied in steps of any size."""
    step, room = chance.randrange(1, 200_000), bytearray(chance.randrange(1, 70_000))
    out, borders = bytearray(), []
    if span:
        engine.seek_border(span)  # type: ignore[attr-defined]
    while not engine.is_over:
        fed = memoryview(packed)[at : at + step]
        used, made = engine.inflate(fed, memoryview(room))
        assert used <= len(fed)
        at += used
        out += room[:made]
        border = engine.border() if span else None  # type: ignore[attr-defined]
        if border is not None:
            borders.append((len(out), at, border))
            engine.seek_border(span)  # type: ignore[attr-defined]
        elif not used and not made:
            assert at == len(packed), "it takes what it is fed with"
            engine.end()
    return bytes(out), at, borders


@given(seeds)
def test_raw_deflate_from_its_beginning_and_from_every_border(seed: int) -> None:
    chance = random.Random(seed)
    data = content(chance)
    packed = deflated(data, chance)
    behind = packed + chance.randbytes(chance.randrange(20))
    span = chance.randrange(1, 60_000)
    out, at, borders = inflated(ZlibEngine(), behind, chance, span=span)
    assert (out, at) == (data, len(packed))
    assert all(a[0] + span <= b[0] for a, b in itertools.pairwise(borders))
    for make, beyond in ((fast, BEYOND_BYTES), (python, 0)):
        out, at, _ = inflated(make(), behind, chance)
        assert out == data
        assert 0 <= at - len(packed) <= beyond
    for place, start, border in chance.sample(borders, min(4, len(borders))):
        for engine in (ZlibEngine(border), fast(border), python(border)):
            assert inflated(engine, behind, chance, start)[0] == data[place:]


def test_borders_come_at_every_bit() -> None:
    seen: dict[int, tuple[int, int, Border, bytes, bytes]] = {}
    for seed in range(200):
        chance = random.Random(seed)
        data = bytes(chance.choices(range(40), k=120_000))
        packer = zlib.compressobj(6, zlib.DEFLATED, -15, 1)
        packed = packer.compress(data) + packer.flush()
        for place, at, border in inflated(ZlibEngine(), packed, chance, span=3000)[2]:
            seen.setdefault(border.bits, (place, at, border, packed, data))
        if len(seen) == 8:
            break
    assert set(seen) == set(range(8))
    for place, at, border, packed, data in seen.values():
        for engine in (ZlibEngine(border), fast(border), python(border)):
            assert inflated(engine, packed, random.Random(1), at)[0] == data[place:]


@given(st.integers(1, 7), st.integers(0, 255))
def test_a_prefix_ends_with_the_unread_bits(bits: int, last: int) -> None:
    text = prefix(bits, last)
    assert text[-1] >> (8 - bits) == last >> (8 - bits)
    probe = zlib.decompressobj(-15)
    # What stands before the unread bits are whole, empty blocks.
    number = int.from_bytes(text, "little") & ((1 << (8 * len(text) - bits)) - 1)
    empty = number | 0b011 << (8 * len(text) - bits)  # and a last, empty block
    assert probe.decompress(empty.to_bytes(len(text) + 2, "little")) == b""
    assert probe.eof


_FILES: dict[str, tuple[Callable[[], Decompressor], Callable[[bytes], bytes], list[bytes]]] = {
    "gzip": (framed.GzipEngine, gzip.compress, [b"", bytes(1000), b"junk"]),
    "bzip2": (framed.bzip2, bz2.compress, [b"", b"junk junk"]),
    "xz": (framed.xz, lzma.compress, [b"", bytes(4)]),
}


@given(seeds, st.sampled_from(sorted(_FILES)))
def test_files_of_several_streams(seed: int, kind: str) -> None:
    chance = random.Random(seed)
    parts = [content(chance) for _ in range(chance.choice([1, 1, 2, 4]))]
    make, pack, tails = _FILES[kind]
    packed = b"".join(map(pack, parts)) + chance.choice(tails)
    data = b"".join(parts)
    span = chance.randrange(1, 50_000) if kind == "gzip" else None
    out, _, borders = inflated(make(), packed, chance, span=span)
    assert out == data
    for place, at, border in borders[:4]:
        assert inflated(framed.GzipEngine(border), packed, chance, at)[0] == data[place:]


def test_a_gzip_header_with_all_its_fields() -> None:
    data = random.Random(5).randbytes(70_000)
    raw = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = raw.compress(data) + raw.flush()
    head = b"\x1f\x8b\x08" + bytes([2 | 4 | 8 | 16]) + bytes(6)
    head += struct.pack("<H", 5) + b"extra" + b"name.tar\0" + b"a comment\0" + b"\1\2"
    packed = head + body + struct.pack("<II", zlib.crc32(data), len(data))
    for seed in range(20):
        assert inflated(framed.GzipEngine(), packed, random.Random(seed))[0] == data


@given(seeds)
def test_lzma_of_zips(seed: int) -> None:
    chance = random.Random(seed)
    data, packed = content(chance), io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_LZMA) as out:
        out.writestr("a", data)
    size = out.getinfo("a").compress_size
    raw = packed.getvalue()[31 : 31 + size]
    assert inflated(framed.ZipLzmaEngine(), raw, chance)[0] == data


@pytest.mark.skipif(zstd.library() is None, reason="libzstd.so.1 is not installed")
def test_zstd_frames() -> None:
    frame = zstd_frame(b"up42fs " * 1000)
    skipped = bytes.fromhex("502a4d18") + struct.pack("<I", 3) + b"abc"
    packed = frame + skipped + frame
    for seed in range(20):
        out = inflated(zstd.ZstdEngine(), packed, random.Random(seed))[0]
        assert out == b"up42fs " * 2000
    with pytest.raises(DamagedStreamError):
        inflated(zstd.ZstdEngine(), packed[:-3], random.Random(1))
    with pytest.raises(DamagedStreamError):
        inflated(zstd.ZstdEngine(), b"none of zstd's", random.Random(1))


def zstd_frame(data: bytes) -> bytes:
    """A frame of raw blocks, which any writer may make (RFC 8878 §3.1.1)."""
    blocks = [data[at : at + 1000] for at in range(0, len(data), 1000)]
    text = bytes.fromhex("28b52ffd") + bytes([0b10000000]) + bytes([0x58])
    text += struct.pack("<I", len(data))
    for number, block in enumerate(blocks):
        is_last = number == len(blocks) - 1
        text += (len(block) << 3 | is_last).to_bytes(3, "little") + block
    return text


def damaged() -> Iterator[tuple[str, Callable[[], Decompressor], bytes]]:
    data = random.Random(3).randbytes(5000) + bytes(50_000)
    for kind, make, packed in (
        ("gzip", framed.GzipEngine, gzip.compress(data)),
        ("bzip2", framed.bzip2, bz2.compress(data)),
        ("xz", framed.xz, lzma.compress(data)),
        ("zlib", pointed, zlib.compress(data)[2:-4]),
        ("isal", fast, zlib.compress(data)[2:-4]),
    ):
        yield f"{kind} cut", make, packed[: len(packed) // 2]
        yield f"{kind} empty", make, b""
        yield f"{kind} noise", make, b"\xff" * 300
    good = gzip.compress(data)
    yield "gzip with a wrong checksum", framed.GzipEngine, good[:-8] + b"abcd" + good[-4:]
    yield "gzip with a wrong length", framed.GzipEngine, good[:-4] + b"abcd"
    yield "gzip without its trailer", framed.GzipEngine, good[:-8]
    yield "gzip whose header never ends", framed.GzipEngine, good[:3] + b"\x08" + b"x" * 200_000
    huge = bytes([9, 20, 5, 0, 0x5D]) + (1 << 31).to_bytes(4, "little") + b"x" * 100
    yield "LZMA with a dictionary of 2 GiB", framed.ZipLzmaEngine, huge
    yield "LZMA with odd properties", framed.ZipLzmaEngine, b"\1\2\5\0\xff" + bytes(50)


@pytest.mark.claim("S247")
def test_sound_streams_that_no_engine_unpacks_are_not_called_damaged() -> None:
    """A new delivery would not help."""
    huge = b"\x09\x14\x05\x00" + bytes([93]) + struct.pack("<L", 1 << 31) + bytes(50)
    with pytest.raises(UnsupportedMethodError, match="more memory"):
        inflated(framed.ZipLzmaEngine(), huge, random.Random(2))
    if zstd.library() is None:
        pytest.skip("libzstd.so.1 is not installed")
    # A frame with a window of 1 GiB, and one with the dictionary 7.
    wide = struct.pack("<LBB", 0xFD2FB528, 0, 20 << 3) + bytes([1, 0, 0])
    with pytest.raises(UnsupportedMethodError, match="more memory"):
        inflated(zstd.ZstdEngine(), wide, random.Random(2))
    named = struct.pack("<LBBB", 0xFD2FB528, 0b0000_0001, 0, 7) + bytes([1, 0, 0])
    with pytest.raises(UnsupportedMethodError, match="dictionary"):
        inflated(zstd.ZstdEngine(), named, random.Random(2))


@pytest.mark.parametrize(
    ("make", "packed"), [one[1:] for one in damaged()], ids=[one[0] for one in damaged()]
)
def test_damaged_streams_are_told(make: Callable[[], Decompressor], packed: bytes) -> None:
    with pytest.raises((DamagedStreamError, UnsupportedMethodError)):
        inflated(make(), packed, random.Random(2))


@given(seeds)
def test_noise_never_makes_more_than_its_room(seed: int) -> None:
    chance = random.Random(seed)
    packed = bytearray(deflated(content(chance), chance) or b"x")
    for _ in range(3):
        packed[chance.randrange(len(packed))] = chance.randrange(256)
    for make in (pointed, fast, python, framed.GzipEngine, framed.bzip2, framed.xz):
        engine, room = make(), memoryview(bytearray(1000))
        with suppress(DamagedStreamError):
            for at in range(0, len(packed), 500):
                used, made = engine.inflate(memoryview(packed)[at : at + 500], room)
                assert used <= 500
                assert made <= 1000
        engine.close()


def test_a_bomb_is_inflated_piece_by_piece() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(bytes(64 << 20)) + packer.flush()
    for make in (pointed, fast, python):
        engine, room = make(), memoryview(bytearray(1 << 20))
        at = total = calls = 0
        while not engine.is_over:
            used, made = engine.inflate(memoryview(packed)[at : at + (128 << 10)], room)
            at, total, calls = at + used, total + made, calls + 1
        assert total == 64 << 20
        assert calls >= 64


def test_without_the_c_library_pythons_own_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "library", lambda: None)
    chance = random.Random(9)
    data = chance.randbytes(90_000) + bytes(90_000)
    assert isinstance(pointed(), ModuleEngine)
    assert inflated(pointed(), deflated(data, chance), chance)[0] == data
    assert inflated(framed.GzipEngine(), gzip.compress(data), chance)[0] == data
    engine = pointed()
    assert isinstance(engine, ModuleEngine)
    packed, room = memoryview(deflated(data, chance)), memoryview(bytearray(50_000))
    used, made = engine.inflate(packed, room)
    assert inflated(engine, bytes(packed), chance, used)[0] == data[made:]

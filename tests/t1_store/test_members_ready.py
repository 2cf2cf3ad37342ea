"""Files that bring seek points along: jumps cost what lies there, and a wrong index only time."""

from __future__ import annotations

import lzma
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import pytest
from store_script import Bench
from test_members_engines import zstd_frame
from test_members_packed import KIB, MIB, Clock, Remounts, Zip, check, pixels

from up42fs.archive.table import Method
from up42fs.store.handle import OpenFile
from up42fs.store.members.extent import Extent, StoredObject
from up42fs.store.members.inflate import zstd

CHUNK = 32 * KIB
DATA = pixels(12 * MIB + 777, 5)


def sozip(shift: int = 0) -> Zip:
    """A member whose chunks were flushed, and its hidden index; `shift` makes that wrong."""
    packer, packed, offsets = zlib.compressobj(1, zlib.DEFLATED, -15), bytearray(), []
    for at in range(0, len(DATA), CHUNK):
        if at:
            offsets.append(len(packed) + shift)
        packed += packer.compress(DATA[at : at + CHUNK])
        if at + CHUNK < len(DATA):
            packed += packer.flush(zlib.Z_SYNC_FLUSH) + packer.flush(zlib.Z_FULL_FLUSH)
    packed += packer.flush()
    index = struct.pack("<4L2Q", 1, 0, CHUNK, 8, len(DATA), len(packed))
    index += struct.pack(f"<{len(offsets)}Q", *offsets)
    crc = zlib.crc32(DATA)
    head = local(b"scene.tif", 8, len(packed), len(DATA), crc)
    hidden = local(b".scene.tif.sozip.idx", 0, len(index), len(index), zlib.crc32(index))
    whole = head + bytes(packed) + hidden + index + b"PK\1\2 and so on"
    archive = StoredObject("a", len(whole), "delivery.zip", None)
    extent = Extent(archive, 0, None, len(packed), Method.DEFLATED, crc)
    return Zip(whole, {"scene.tif": DATA}, {"scene.tif": extent})


def local(name: bytes, method: int, packed: int, size: int, crc: int) -> bytes:
    fields = (20, 0, method, 0, 0, crc, packed, size, len(name), 0)
    return struct.pack("<4s5H3L2H", b"PK\3\4", *fields) + name


@pytest.mark.claim("S211", "S228")
async def test_sozip_is_read_at_random(tmp_path: Path, autojump_clock: Clock) -> None:
    made = sozip()

    async def use(b: Bench) -> None:
        file = made.open(b, "scene.tif")
        await check(file, DATA, 0, 4 * KIB)
        for offset in (9 * MIB + 5, 5 * MIB, len(DATA) - 10):
            before = len(b.script.requests), b.script.asked()
            await check(file, DATA, offset, 4 * KIB)
            # One for the index, the first time, and one for the chunks.
            assert len(b.script.requests) - before[0] <= 2
            assert b.script.asked() - before[1] <= 128 * KIB + 128 * KIB
        asked = b.script.asked()
        await check(file, DATA, 9 * MIB, 64 * KIB)
        assert b.script.asked() == asked
        for offset in range(0, len(DATA), MIB):
            await check(file, DATA, offset, MIB)
        assert b.script.asked() <= made.extents["scene.tif"].packed_size * 1.15
        file.close()

    await Remounts(tmp_path / "cache", made).mounted(use)


@pytest.mark.claim("S355")
async def test_chunks_that_one_read_needs_are_one_request(autojump_clock: Clock) -> None:
    made = sozip()

    async def use(b: Bench) -> None:
        file = made.open(b, "scene.tif")
        await check(file, DATA, 0, 4 * KIB)
        known = len(b.script.requests)
        await check(file, DATA, 6 * MIB, 3 * MIB)
        # The index, and three segments of a MiB together.
        assert len(b.script.requests) - known <= 2
        file.close()

    await Remounts(None, made).mounted(use)


@pytest.mark.claim("S355")
async def test_a_jump_with_read_ahead_fetches_nothing_before_it(autojump_clock: Clock) -> None:
    """What is read ahead of a jump waits for the index, and unpacks nothing from the front."""
    made = sozip()

    async def use(b: Bench) -> None:
        file = made.open(b, "scene.tif")
        await check(file, DATA, 0, 4 * KIB)
        known = len(b.script.requests)
        for offset in range(6 * MIB, 11 * MIB, 512 * KIB):
            await check(file, DATA, offset, 512 * KIB)
        spans = [span for _, span, _ in b.script.requests[known:]]
        packed = made.extents["scene.tif"].packed_size
        assert all(span.start > packed * 4 // 10 for span in spans)
        assert len(spans) <= 7  # ten segments, which several parts ask for at a time
        assert sum(map(len, spans)) <= packed * 7 // 10
        file.close()

    await Remounts(None, made).mounted(use)


@pytest.mark.parametrize("shift", [1, 40, 5000])
@pytest.mark.claim("S211", "S228")
async def test_a_wrong_index_costs_bytes_only(autojump_clock: Clock, shift: int) -> None:
    made = sozip(shift)

    async def use(b: Bench) -> None:
        file = made.open(b, "scene.tif")
        await check(file, DATA, 9 * MIB, 4 * KIB)
        await check(file, DATA, 11 * MIB, 4 * KIB)
        await check(file, DATA, 6 * MIB, 4 * KIB)

    await Remounts(None, made).mounted(use)


def seekable_zstd() -> bytes:
    frames = [zstd_frame(DATA[at : at + MIB]) for at in range(0, len(DATA), MIB)]
    sizes = [min(MIB, len(DATA) - at) for at in range(0, len(DATA), MIB)]
    table = b"".join(struct.pack("<LL", len(f), n) for f, n in zip(frames, sizes, strict=True))
    table += struct.pack("<LBL", len(frames), 0, 0x8F92EAB1)
    return b"".join(frames) + struct.pack("<LL", 0x184D2A5E, len(table)) + table


@pytest.mark.parametrize("method", [Method.XZ, Method.ZSTD])
@pytest.mark.claim("S211", "S228")
async def test_streams_with_blocks_are_read_at_random(
    autojump_clock: Clock, method: Method
) -> None:
    if method is Method.ZSTD and zstd.library() is None:
        pytest.skip("libzstd.so.1 is not installed")
    parts = [DATA[at : at + MIB] for at in range(0, len(DATA), MIB)]
    packed = {
        Method.XZ: lambda: b"".join(lzma.compress(part, preset=0) for part in parts),
        Method.ZSTD: seekable_zstd,
    }[method]()
    made = Zip(packed, {"stream": DATA})
    archive = StoredObject("a", len(packed), "delivery.tar", None)
    stream = StoredObject(
        "a!tar", None, "delivery.tar", None, Extent(archive, 0, 0, len(packed), method, None)
    )

    async def use(b: Bench) -> None:
        inner = Extent(stream, 0, 8 * MIB + 5, 100_000, Method.STORED, None)
        file = b.files.open(StoredObject("a!0", 100_000, "scene.tif", extent=inner))
        assert await file.read(0, 100_000) == DATA[8 * MIB + 5 :][:100_000]
        assert b.script.asked() <= 2 * MIB
        file.close()

    await Remounts(None, made).mounted(use)


#: Longer than what is inflated at once from a ready point, and quick to pack.
BLOCK = 10 * MIB
BLOCKS = [
    b"".join(pixels(32 * KIB, 16 * number + part).ljust(BLOCK // 16, b"#") for part in range(16))
    for number in range(3)
]


def large_blocks(kind: str) -> bytes:
    """An xz file of three large blocks: of one stream each, or in one stream as `xz -T0` writes."""
    if kind == "streams":
        return b"".join(lzma.compress(block, preset=0) for block in BLOCKS)
    command = ["xz", "-0", f"--block-size={BLOCK}", "--stdout"]
    return subprocess.run(command, input=b"".join(BLOCKS), capture_output=True, check=True).stdout


@pytest.mark.parametrize("kind", ["streams", "blocks"])
@pytest.mark.claim("S356")
async def test_a_large_block_is_read_from_its_own_start(
    tmp_path: Path, autojump_clock: Clock, kind: str
) -> None:
    if kind == "blocks" and shutil.which("xz") is None:
        pytest.skip("xz is not installed")
    packed, whole = large_blocks(kind), b"".join(BLOCKS)
    made = Zip(packed, {"stream": whole})
    archive = StoredObject("a", len(packed), "delivery.tar", None)
    stream = StoredObject(
        "a!tar", None, "delivery.tar", None, Extent(archive, 0, 0, len(packed), Method.XZ, None)
    )
    at = BLOCK + 5 * MIB

    def member(b: Bench, number: int, start: int, size: int) -> OpenFile:
        inner = Extent(stream, 0, start, size, Method.STORED, None)
        return b.files.open(StoredObject(f"a!{number}", size, "scene.tif", extent=inner))

    async def use(b: Bench) -> None:
        file = member(b, 0, at, 100_000)
        assert await file.read(0, 100_000) == whole[at:][:100_000]
        spans = [span for _, span, _ in b.script.requests]
        assert all(span.start >= len(packed) // 4 for span in spans)
        asked = b.script.asked()
        # Another reader of what was passed on the way costs nothing.
        other = member(b, 1, BLOCK + 2 * MIB, 100_000)
        assert await other.read(0, 100_000) == whole[BLOCK + 2 * MIB :][:100_000]
        assert b.script.asked() == asked
        # Over the border between two blocks, and to the end.
        last = member(b, 2, 2 * BLOCK - 50_000, BLOCK + 50_000)
        assert await last.read(0, 100_000) == whole[2 * BLOCK - 50_000 :][:100_000]
        assert await last.read(BLOCK, 50_000) == whole[-50_000:]
        first = member(b, 3, 0, 100_000)
        assert await first.read(0, 100_000) == whole[:100_000]
        for one in (file, other, last, first):
            one.close()

    async def again(b: Bench) -> None:
        file = member(b, 1, BLOCK + 2 * MIB, 100_000)
        assert await file.read(0, 100_000) == whole[BLOCK + 2 * MIB :][:100_000]
        assert not b.script.requests
        file.close()

    remounts = Remounts(tmp_path / "cache", made)
    await remounts.mounted(use)
    await remounts.mounted(again)


@pytest.mark.claim("S356")
async def test_one_block_is_unpacked_from_the_front_once(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    whole = BLOCKS[0]
    packed = lzma.compress(whole, preset=0)
    made = Zip(packed, {"stream": whole})
    archive = StoredObject("a", len(packed), "delivery.tar", None)
    stream = StoredObject(
        "a!tar", None, "delivery.tar", None, Extent(archive, 0, 0, len(packed), Method.XZ, None)
    )

    async def use(b: Bench, most: int) -> None:
        for at in (7 * MIB, 6 * MIB, 2 * MIB):
            inner = Extent(stream, 0, at, 100_000, Method.STORED, None)
            file = b.files.open(StoredObject(f"a!{at}", 100_000, "scene.tif", extent=inner))
            assert await file.read(0, 100_000) == whole[at:][:100_000]
            file.close()
        assert b.script.asked() <= most

    remounts = Remounts(tmp_path / "cache", made)
    await remounts.mounted(lambda b: use(b, len(packed) + 64 * KIB))
    await remounts.mounted(lambda b: use(b, 0))


def plain(name: bytes = b"scene.tif") -> Zip:
    """A deflated member without an index, directly before the next one."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    packed = packer.compress(DATA) + packer.flush()
    crc = zlib.crc32(DATA)
    head = local(name, 8, len(packed), len(DATA), crc)
    after = local(b"next.xml", 0, 4, 4, 0) + b"1234" + bytes(200 * KIB)
    archive = StoredObject("a", len(head) + len(packed) + len(after), "delivery.zip", None)
    room = len(head) + len(packed)
    extent = Extent(archive, 0, None, len(packed), Method.DEFLATED, crc, room=room)
    return Zip(head + packed + after, {"scene.tif": DATA}, {"scene.tif": extent})


@pytest.mark.claim("S256")
async def test_a_jump_in_a_plain_member_is_one_range_from_its_header_on(
    autojump_clock: Clock,
) -> None:
    made = plain()

    async def use(b: Bench) -> None:
        file = made.open(b, "scene.tif")
        await check(file, DATA, 4 * MIB + 5, 4 * KIB)
        spans = [span for _, span, _ in b.script.requests]
        room = made.extents["scene.tif"].room
        assert spans[0].start == 0
        assert room is not None
        # Nothing is looked for behind the member: its archive has no room for an index there.
        assert all(one.stop <= room for one in spans)
        assert [one.stop for one in spans[:-1]] == [one.start for one in spans[1:]]
        assert len(spans) <= 2
        file.close()

    await Remounts(None, made).mounted(use)


@pytest.mark.claim("S256")
async def test_the_first_read_of_a_copy_is_one_range_and_looks_for_no_index(
    autojump_clock: Clock,
) -> None:
    """What is read ahead of a reader must not delay its first bytes by a request for points."""
    made = sozip()

    async def use(b: Bench) -> None:
        file = made.open(b, "scene.tif")
        await check(file, DATA, 0, MIB)
        spans = [span for _, span, _ in b.script.requests]
        assert spans[0].start == 0
        end = made.extents["scene.tif"].packed_size + 100
        assert all(span.stop <= end for span in spans)
        assert len(spans) <= 2
        file.close()

    await Remounts(None, made).mounted(use)

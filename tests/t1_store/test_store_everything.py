"""Everything at once: whoever reads what of which file, in whatever state, gets the file's bytes.

Tasks share handles and files; images, an archive and noise of any size; memory and disk caches too
small for them; remounts; links that end after a moment; a store that fails.
"""

from __future__ import annotations

import io
import random
import zipfile
from collections.abc import Iterator
from functools import partial

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_script import Bench, bench, chaos, inline, pattern
from tiff_support import Image, tiles_of, write_head

from up42fs.errors import AccessDenied, Unavailable
from up42fs.store.handle import OpenFile
from up42fs.store.members.extent import StoredObject
from up42fs.types import ByteRange

KIB, MIB = 1 << 10, 1 << 20


def image(tile: int | None, side: int, tile_bytes: int, seed: int) -> bytes:
    """A TIFF of tiles or (None) of strips, whose pixels are noise."""
    count = side if tile is None else tiles_of(side, side, tile)
    head, size = write_head([Image(side, side, tile, [tile_bytes] * count)])
    return head + pattern(size - len(head), seed)


def archive(content: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as out:
        out.writestr("readme.txt", b"x" * 5000)
        out.writestr("scene.tif", content)
    return packed.getvalue()


TILED, STRIPS = image(256, 2048, 40_000, 1), image(None, 300, 9_000, 2)
FIXED = {"tiled": TILED, "strips": STRIPS, "zip": archive(TILED)}


def walk(size: int, chance: random.Random) -> Iterator[ByteRange]:
    """Reads as programs make them: runs up and down, jumps, both ends, the same again."""
    position, step = 0, 64 * KIB
    for _ in range(24):
        match chance.randrange(8):
            case 0:
                position = chance.randrange(size)
            case 1:
                position = max(0, size - chance.randrange(1, 200 * KIB))
            case 2:
                position, step = max(0, position - 2 * step), chance.choice([4 * KIB, 128 * KIB])
            case 3:
                step = chance.choice([1, 4 * KIB, 64 * KIB, 300 * KIB])
        start = min(position, size - 1)
        yield ByteRange(start, min(start + step, size))
        position = start + step


async def check(
    file: OpenFile, data: bytes, chance: random.Random, *, may_fail: bool, b: Bench
) -> None:
    for span in walk(len(data), chance):
        try:
            got = await file.read(span.start, len(span))
        except (Unavailable, AccessDenied):
            assert may_fail
        else:
            assert got == data[span.start : span.stop]
        if chance.random() < 0.1:
            await trio.sleep(chance.random() * 3)
        if chance.random() < 0.02:
            b.files.suspend()


@given(
    size=st.one_of(st.integers(1, 3 * MIB), st.sampled_from([MIB, MIB + 1, 128 * KIB])),
    seed=st.integers(0, 2**32),
    share=st.sampled_from([0.0, 0.0, 0.1, 0.3]),
    memory=st.sampled_from([64 * KIB, MIB, 16 * MIB]),
    disk=st.sampled_from([0, 600 * KIB, 3 * MIB, 64 * MIB]),
    life_s=st.sampled_from([0.5, 5.0, 300.0]),
)
@settings(
    max_examples=12,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@pytest.mark.claim("S6")
async def test_every_read_is_the_files(
    tmp_path_factory: pytest.TempPathFactory,
    autojump_clock: trio.testing.MockClock,
    size: int,
    seed: int,
    share: float,
    memory: int,
    disk: int,
    life_s: float,
) -> None:
    chance = random.Random(seed)
    objects = FIXED | {"noise": pattern(size, seed)}
    directory = tmp_path_factory.mktemp("cache")
    for mount in range(2):
        async with trio.open_nursery() as nursery:
            b = bench(
                nursery, objects, chaos(seed + mount, share), inline,
                memory_bytes=memory, cache_dir=directory, cache_bytes=disk,
            )  # fmt: skip
            b.script.life_s = life_s
            handles = []
            async with trio.open_nursery() as readers:
                for name in chance.choices([*objects], k=3):
                    data = objects[name]
                    file = b.files.open(StoredObject(name, len(data), name))
                    handles.append(file)
                    for _ in range(chance.randint(1, 3)):
                        dice = random.Random(chance.random())
                        readers.start_soon(
                            partial(check, file, data, dice, may_fail=share > 0, b=b)
                        )
            for file in handles:
                file.close()
            await trio.sleep(60)
            assert b.script.active == 0
            assert b.files.gauges()["memory_bytes"] <= memory
            await b.files.aclose()
            nursery.cancel_scope.cancel()

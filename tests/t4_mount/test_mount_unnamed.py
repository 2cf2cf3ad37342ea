"""A real mount before stores that do not say which version of an object they send."""

from __future__ import annotations

import errno
import os

import pytest

from up42fs.emulator import pattern_bytes

pytestmark = pytest.mark.mount

MIB = 1 << 20
SIZE = 6 * MIB


@pytest.mark.claim("S113")
def test_a_generation_alone_pins_the_version(start, mount) -> None:
    store = start("--synthetic", "1", "--no-etag", "--no-last-modified")
    asset = store.remote.storage("add_asset", name="moving.bin", size=SIZE, seed=5)
    there = mount(store)
    path = there.find("moving.bin")
    with path.open("rb", buffering=0) as file:
        assert os.pread(file.fileno(), 10, 0) == pattern_bytes(5, 0, 10)
        store.remote.storage("replace_object", id=asset["id"], seed=9, size=SIZE)
        with pytest.raises(OSError) as caught:
            os.pread(file.fileno(), 10, 4 * MIB)
        assert caught.value.errno == errno.ESTALE
    assert path.read_bytes() == pattern_bytes(9, 0, SIZE)
    assert there.status()["counters"]["store.disk_writes_bytes"] > 0, "it is kept"
    assert "sends no ETag" not in there.log.read_text()


@pytest.mark.claim("S114")
def test_nothing_is_kept_of_an_object_without_a_name_for_its_version(start, mount) -> None:
    store = start("--synthetic", "1", "--no-etag", "--no-last-modified", "--no-generation")
    asset = store.remote.storage("add_asset", name="moving.bin", size=SIZE, seed=5)
    there = mount(store)
    path = there.find("moving.bin")
    for seed in (5, 9, 13):
        store.remote.storage("replace_object", id=asset["id"], seed=seed, size=SIZE)
        assert path.read_bytes() == pattern_bytes(seed, 0, SIZE), "no page of the one before"
    assert there.status()["counters"].get("store.disk_writes_bytes", 0) == 0
    assert there.log.read_text().count("sends no ETag") == 1

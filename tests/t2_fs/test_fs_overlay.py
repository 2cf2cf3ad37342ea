"""Sidecars as they are kept: read, written, renamed, removed, by one mount and by two."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from up42fs.errors import BadHandle, ConfigurationError, NoSpace, Unavailable, VersionChanged
from up42fs.fs.sidecars.disk import OverlayDirectory
from up42fs.fs.sidecars.file import OpenSidecar
from up42fs.fs.sidecars.names import Tag, kept_name
from up42fs.fs.sidecars.overlay import Overlay

AUX, OVR = Tag(".aux.xml"), Tag(".ovr")
PASSING = Tag(".aux.xml", ".Ab12Cd", is_hidden=True)


@contextmanager
def overlay(path: Path, limit_bytes: int = 1 << 20) -> Iterator[Overlay]:
    made = Overlay(OverlayDirectory(path), limit_bytes, clock=lambda: 0.0)
    try:
        yield made
    finally:
        made.close()


async def put(there: Overlay, tag: Tag, content: bytes, owner: str = "a") -> None:
    known = there.get(owner, tag)
    opened = await (
        there.create(owner, tag) if known is None else known.open(writable=True, truncated=True)
    )
    await opened.write(0, content)
    await opened.flush()
    opened.close()


async def get(there: Overlay, tag: Tag, owner: str = "a") -> bytes | None:
    sidecar = there.get(owner, tag)
    if sidecar is None:
        return None
    opened = await sidecar.open()
    content = await opened.read(0, 1 << 20)
    opened.close()
    return content


def kept(path: Path) -> dict[str, bytes]:
    return {entry.name: entry.read_bytes() for entry in path.iterdir()}


@pytest.mark.claim("S92")
async def test_what_is_closed_is_kept_for_the_next_mount(tmp_path: Path) -> None:
    with overlay(tmp_path / "x/y/z") as first:
        await put(first, AUX, b"statistics")
    with overlay(tmp_path / "x/y/z") as second:
        assert second.get("a", AUX) is None
        await second.look(at_once=True)
        assert await get(second, AUX) == b"statistics"
        assert [sidecar.key for sidecar in second.of("a")] == [("a", AUX)]
        assert second.used_bytes == 10


@pytest.mark.claim("S93")
async def test_what_is_not_closed_is_not_on_disk(tmp_path: Path) -> None:
    with overlay(tmp_path) as there:
        await put(there, AUX, b"old")
        sidecar = there.get("a", AUX)
        assert sidecar is not None
        opened = await sidecar.open(writable=True)
        await opened.write(3, b" and new")
        assert await get(there, AUX) == b"old and new"  # in this mount it is seen at once
        assert kept(tmp_path)["a+.aux.xml"] == b"old"
        await opened.flush()
        assert kept(tmp_path) == {"a+.aux.xml": b"old and new"}
        await opened.write(0, b"OLD")
    assert kept(tmp_path) == {"a+.aux.xml": b"old and new"}


@pytest.mark.claim("S93")
async def test_drafts_of_a_dead_mount_go_those_of_a_living_one_stay(tmp_path: Path) -> None:
    with overlay(tmp_path) as living:
        opened = await living.create("a", AUX)
        await opened.write(0, b"x")
        (draft,) = tmp_path.iterdir()
        dead, young = tmp_path / ".draft-1-1-1", tmp_path / ".draft-1-1-2"
        dead.write_bytes(b"half")
        young.write_bytes(b"half")
        with pytest.MonkeyPatch.context() as patch:
            now_s = young.stat().st_ctime + 61.0
            patch.setattr("up42fs.fs.sidecars.disk.time.time", lambda: now_s)
            with overlay(tmp_path):
                assert set(tmp_path.iterdir()) == {draft}
        young.write_bytes(b"not locked yet")
        with overlay(tmp_path):
            assert set(tmp_path.iterdir()) == {draft, young}


@pytest.mark.claim("S92")
async def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        with overlay(tmp_path / "data/up42fs/sidecars/key") as there:
            await put(there, AUX, b"x")
    finally:
        os.umask(old)
    for path in tmp_path.rglob("up42fs/**/*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o600 if path.is_file() else 0o700), path


@pytest.mark.claim("S64")
async def test_links_are_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    home = tmp_path / "home"
    home.mkdir()
    (home / "a+.aux.xml").symlink_to(secret)
    with overlay(home) as there:
        await there.look(at_once=True)
        assert there.get("a", AUX) is None
        await put(there, AUX, b"mine")
        sidecar = there.get("a", AUX)
        assert sidecar is not None
        (home / "a+.aux.xml").unlink()
        (home / "a+.aux.xml").symlink_to(secret)
        with pytest.raises((VersionChanged, Unavailable)):
            await sidecar.open()
    assert secret.read_bytes() == b"secret"
    (tmp_path / "link").symlink_to(home)
    with pytest.raises(ConfigurationError, match="XDG_DATA_HOME"):
        OverlayDirectory(tmp_path / "link")


async def test_more_than_the_limit_is_no_space_and_nothing_is_lost(tmp_path: Path) -> None:
    with overlay(tmp_path, limit_bytes=100) as there:
        await put(there, AUX, b"x" * 60)
        opened = await there.create("a", OVR)
        await opened.write(0, b"y" * 40)
        with pytest.raises(NoSpace, match="sidecars_size"):
            await opened.write(40, b"y")
        with pytest.raises(NoSpace):
            await opened.sidecar.truncate(41)
        assert await opened.read(0, 100) == b"y" * 40
        await opened.sidecar.truncate(30)
        await opened.write(30, b"z" * 10)
        opened.close()
        assert await get(there, AUX) == b"x" * 60
        assert there.get("a", OVR) is None  # never closed: no whole file


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
async def test_an_error_of_the_disk_reaches_who_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with overlay(tmp_path) as there:
        await put(there, AUX, b"old")
        sidecar = there.get("a", AUX)
        assert sidecar is not None
        opened = await sidecar.open(writable=True)
        await opened.write(0, b"new")
        with monkeypatch.context() as patch:
            patch.setattr("up42fs.fs.sidecars.disk.os.pwrite", fail)
            expected = Unavailable if number == errno.EIO else NoSpace
            with pytest.raises(expected):
                await opened.write(3, b"er")
        with monkeypatch.context() as patch:
            patch.setattr("up42fs.fs.sidecars.disk.os.fdatasync", fail)
            with pytest.raises(expected):
                await opened.flush()
        opened.close()
        assert await get(there, AUX) == b"old"


async def test_who_has_a_removed_one_open_goes_on_reading_it(tmp_path: Path) -> None:
    with overlay(tmp_path) as there:
        await put(there, AUX, b"old")
        sidecar = there.get("a", AUX)
        assert sidecar is not None
        reader = await sidecar.open()
        await there.remove(sidecar)
        await put(there, AUX, b"new")
        assert await reader.read(0, 9) == b"old"
        assert await get(there, AUX) == b"new"
        assert there.of_node(sidecar.node_id) is sidecar
        again = there.get("a", AUX)
        assert again is not None
        assert again.node_id != sidecar.node_id
        reader.close()
        assert there.of_node(sidecar.node_id) is None
        await reader.flush()
        assert kept(tmp_path) == {"a+.aux.xml": b"new"}


async def test_a_handle_for_reading_does_not_write(tmp_path: Path) -> None:
    with overlay(tmp_path) as there:
        await put(there, AUX, b"x")
        sidecar = there.get("a", AUX)
        assert sidecar is not None
        opened = await sidecar.open()
        with pytest.raises(BadHandle):
            await opened.write(0, b"y")
        opened.close()
        with pytest.raises(BadHandle):
            await opened.read(0, 1)


async def test_a_draft_takes_the_place_of_what_is_kept_when_it_is_closed(tmp_path: Path) -> None:
    with overlay(tmp_path) as there:
        await put(there, AUX, b"old")
        opened = await there.create("a", PASSING)
        await opened.write(0, b"new")
        await there.rename(opened.sidecar, "a", AUX)
        assert await get(there, AUX) == b"new"
        assert kept(tmp_path)["a+.aux.xml"] == b"old"
        await opened.flush()
        opened.close()
        assert kept(tmp_path) == {"a+.aux.xml": b"new"}
        # Removed while still a draft: what lay beneath goes with it.
        opened = await there.create("a", PASSING)
        await there.rename(opened.sidecar, "a", AUX)
        await there.remove(opened.sidecar)
        opened.close()
        assert kept(tmp_path) == {}


# two mounts


@pytest.mark.claim("S94")
async def test_another_mount_sees_what_was_closed_within_a_look(tmp_path: Path) -> None:
    now_s = 0.0
    disk = OverlayDirectory(tmp_path)
    one = Overlay(disk, 1 << 20)
    two = Overlay(OverlayDirectory(tmp_path), 1 << 20, clock=lambda: now_s)
    await two.look()
    await put(one, AUX, b"statistics")
    await two.look()
    assert two.get("a", AUX) is None  # the disk is asked once a second
    now_s = 1.1
    await two.look()
    assert await get(two, AUX) == b"statistics"
    sidecar = two.get("a", AUX)
    assert sidecar is not None
    await put(one, AUX, b"others")  # another file by now
    with pytest.raises(VersionChanged):
        await sidecar.refresh()  # the kernel looks it up again
    assert await get(two, AUX) == b"others"
    found = one.get("a", AUX)
    assert found is not None
    await one.remove(found)
    found = two.get("a", AUX)
    assert found is not None
    with pytest.raises(VersionChanged):
        await found.open()
    assert two.get("a", AUX) is None
    one.close()
    two.close()


async def test_names_asked_for_in_vain_cost_no_look_at_the_disk(tmp_path: Path) -> None:
    with overlay(tmp_path) as there:
        await there.look()
        scans = 0

        def scan(known_ns: int) -> None:
            nonlocal scans
            scans += 1

        there._scan = scan  # type: ignore[method-assign]
        for _ in range(1000):
            await there.look()
        assert scans == 0


class TwoMounts(RuleBasedStateMachine):
    """Two mounts of one directory against a plain dictionary of what was closed last."""

    tags = st.sampled_from([AUX, OVR, PASSING])
    owners = st.sampled_from(["a", "b"])
    mounts = st.integers(0, 1)
    contents = st.binary(max_size=20)

    def __init__(self) -> None:
        super().__init__()
        self.home = tempfile.TemporaryDirectory()
        self.now_s = 0.0
        path = Path(self.home.name)
        self.mounts_ = [
            Overlay(OverlayDirectory(path), 1 << 20, clock=lambda: self.now_s) for _ in range(2)
        ]
        self.model: dict[tuple[str, Tag], bytes] = {}

    async def _look(self, mount: int) -> Overlay:
        self.now_s += 2.0
        there = self.mounts_[mount]
        there._stamp_ns = 0  # two changes within one step of the directory's clock
        await there.look()
        return there

    @rule(mount=mounts, owner=owners, tag=tags, content=contents)
    def put(self, mount: int, owner: str, tag: Tag, content: bytes) -> None:
        async def act() -> None:
            await put(await self._look(mount), tag, content, owner)

        trio.run(act)
        self.model[owner, tag] = content

    @rule(mount=mounts, owner=owners, tag=tags, content=contents, offset=st.integers(0, 30))
    def patch(self, mount: int, owner: str, tag: Tag, content: bytes, offset: int) -> None:
        async def act() -> None:
            sidecar = (await self._look(mount)).get(owner, tag)
            assert (sidecar is not None) == ((owner, tag) in self.model)
            if sidecar is None:
                return
            opened = await sidecar.open(writable=True)
            await opened.write(offset, content)
            await opened.flush()
            opened.close()
            old = self.model[owner, tag].ljust(offset if content else 0, b"\0")
            self.model[owner, tag] = old[:offset] + content + old[offset + len(content) :]

        trio.run(act)

    @rule(mount=mounts, owner=owners, tag=tags)
    def remove(self, mount: int, owner: str, tag: Tag) -> None:
        async def act() -> None:
            there = await self._look(mount)
            sidecar = there.get(owner, tag)
            assert (sidecar is not None) == (self.model.pop((owner, tag), None) is not None)
            if sidecar is not None:
                await there.remove(sidecar)

        trio.run(act)

    @rule(mount=mounts, old=st.tuples(owners, tags), new=st.tuples(owners, tags))
    def rename(self, mount: int, old: tuple[str, Tag], new: tuple[str, Tag]) -> None:
        async def act() -> None:
            there = await self._look(mount)
            sidecar = there.get(*old)
            if sidecar is not None:
                await there.rename(sidecar, *new)
                self.model[new] = self.model.pop(old)

        trio.run(act)

    @rule(mount=mounts, owner=owners, tag=tags)
    def dies_while_writing(self, mount: int, owner: str, tag: Tag) -> None:
        async def act() -> None:
            there = await self._look(mount)
            sidecar = there.get(owner, tag)
            opened: OpenSidecar = await (
                sidecar.open(writable=True) if sidecar else there.create(owner, tag)
            )
            await opened.write(0, b"half of it")
            opened.close()  # the kernel does without having said that it was closed

        trio.run(act)

    @invariant()
    def both_mounts_and_the_disk_hold_what_was_closed(self) -> None:
        async def look() -> None:
            for mount in range(2):
                there = await self._look(mount)
                for owner in ("a", "b"):
                    for tag in (AUX, OVR, PASSING):
                        assert await get(there, tag, owner) == self.model.get((owner, tag))
                assert there.used_bytes == sum(map(len, self.model.values()))

        trio.run(look)
        files = kept(Path(self.home.name))
        assert files == {kept_name(*key): content for key, content in self.model.items()}

    def teardown(self) -> None:
        with suppress(OSError):
            for there in self.mounts_:
                there.close()
        self.home.cleanup()


TestTwoMounts = TwoMounts.TestCase
TestTwoMounts.settings = settings(max_examples=25, stateful_step_count=12)

"""`up42fs.FileSystem` where the account is mounted on this host: through the mount."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Emulator, Mount, become, emulator, mounted

import up42fs
from up42fs.emulator.content import pattern_bytes

pytest.importorskip("fsspec", reason="no fsspec: pip install 'up42fs[fsspec]'")
pytestmark = pytest.mark.mount

SIZE, SEED = 3_000_000, 7


@pytest.fixture(scope="module")
def store() -> Iterator[Emulator]:
    with emulator("--synthetic", "10,2,2") as running:
        running.remote.storage("add_asset", name="big.tif", size=SIZE, seed=SEED, tags=["mine"])
        yield running


@pytest.fixture
def mount(store: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mount]:
    become(store, monkeypatch)
    with mounted(store.env, home=tmp_path) as made:
        yield made


@pytest.mark.claim("S268")
def test_it_reads_through_the_mount(store: Emulator, mount: Mount) -> None:
    (mount.path / "assets/big.tif").read_bytes()
    since = store.remote.position()
    fs = up42fs.FileSystem(memory=71)
    assert fs.ls("tags/mine", detail=False) == ["tags/mine/big.tif"]
    info = fs.info("tags/mine/big.tif")
    assert (info["size"], info["up42.id"]) == (SIZE, store.asset("big.tif"))
    with fs.open("tags/mine/big.tif") as file:
        file.seek(1_000_000)
        assert file.read(1000) == pattern_bytes(SEED, 1_000_000, 1000)
    assert fs.cat_ranges(["assets/big.tif"], [10], [20]) == [pattern_bytes(SEED, 10, 10)]
    with pytest.raises(FileNotFoundError):
        fs.open("assets/absent")
    with pytest.raises(IsADirectoryError):
        fs.open("assets")
    assert store.requests(since) == {}
    assert "Signature=" in fs.sign("assets/big.tif")


def test_another_accounts_mount_is_not_used(
    store: Emulator, mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    since = store.remote.position()
    never = up42fs.FileSystem(memory=72, mount="never", cache_size=0)
    assert never.cat_file("tags/mine/big.tif", 0, 10) == pattern_bytes(SEED, 0, 10)
    assert store.requests(since)["auth.token"] == 1
    monkeypatch.setenv("UP42_USERNAME", "another@example.com")
    other = up42fs.FileSystem(memory=73, cache_size=0)
    with pytest.raises(PermissionError):
        other.ls("tags")


def test_a_mount_can_be_named(mount: Mount) -> None:
    fs = up42fs.FileSystem(mount=str(mount.path), memory=74)
    with fs.open("tags/mine/big.tif") as file:
        assert file.read(10) == pattern_bytes(SEED, 0, 10)


@pytest.mark.claim("S397")
def test_the_text_of_a_mount_is_not_in_the_storage(mount: Mount) -> None:
    """The same names and the same absence, however the storage is reached."""
    assert (mount.path / "README.txt").is_file()
    for how, memory in ((str(mount.path), 75), ("auto", 76), ("never", 77)):
        fs = up42fs.FileSystem(mount=how, memory=memory)
        assert "README.txt" not in fs.ls("", detail=False), how
        assert not fs.exists("README.txt"), how
        with pytest.raises(FileNotFoundError):
            fs.open("README.txt")

"""The network goes away under a mount and comes back; and one account has several workspaces."""

from __future__ import annotations

import base64
import errno
import os
import socket
import subprocess
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from harness import Emulator, Mount, check, emulator, mounted, wait_until

from up42fs.emulator import pattern_bytes

pytestmark = pytest.mark.mount

STORAGE = ("--synthetic", "40,4,3,4,2")
#: Directories of each kind that a walk looks into.
WALKED = 4
#: A zip without members.
EMPTY_ZIP = base64.b64encode(b"PK\5\6" + bytes(18)).decode()


def views(mount: Mount) -> str:
    return check("find", "orders", "tags", "cnam", "assets", "-printf", "%P %i %s", cwd=mount.path)


@pytest.mark.claim("S62")
def test_the_network_goes_and_comes_back(stack: ExitStack, tmp_path: Path) -> None:
    with emulator(*STORAGE) as running:
        env = running.env | {"UP42FS_CRAWL_AFTER_S": "0"}
        there = stack.enter_context(mounted(env, "-o", "refresh=1", home=tmp_path))
        before = views(there)
        read, unread = sorted((there.path / "assets").glob("*.zip"))[:2]
        with read.open("rb") as file:
            head = file.read(100_000)
    assert views(there) == before
    with read.open("rb") as file:
        assert file.read(100_000) == head
    started_s = time.monotonic()
    with unread.open("rb") as file, pytest.raises(OSError) as caught:
        file.read(1)
    assert caught.value.errno == errno.ENETUNREACH
    assert time.monotonic() - started_s < 10  # of the 35 s that a read may wait
    with emulator(*STORAGE, *same_ports(running)) as again:
        again.remote.storage("add_asset", name="meanwhile.bin", size=10)
        wait_until((there.path / "assets/meanwhile.bin").exists, 15, "it refreshes by itself")
        with unread.open("rb") as file:
            assert len(file.read(100_000)) == 100_000


@pytest.mark.claim("S20", "S112")
def test_a_store_whose_packets_are_dropped_is_out_of_reach(
    start, stack: ExitStack, tmp_path: Path
) -> None:
    """A full backlog drops the first packet of a connection, as a firewall does."""
    running: Emulator = start("--synthetic", "1")
    running.remote.storage("add_asset", name="file.bin", size=1 << 20, seed=5)
    env = running.env | {"UP42FS_HURRY": "10"}
    there = stack.enter_context(mounted(env, "-o", "refresh=3600", home=tmp_path))
    listener = stack.enter_context(socket.socket())
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    for _ in range(4):
        waiting = stack.enter_context(socket.socket())
        waiting.setblocking(False)
        waiting.connect_ex(listener.getsockname())
    dropped = f"http://127.0.0.1:{listener.getsockname()[1]}"
    running.remote.faults(fail_route="assets.sign", link_origin=dropped)
    before = there.counters()
    with there.find("file.bin").open("rb") as file, pytest.raises(OSError) as caught:
        file.read(1)
    assert caught.value.errno == errno.ENETUNREACH
    after = there.counters()
    assert after["store.requests"] - before.get("store.requests", 0) == 2
    assert "the object store could not be reached" in there.log.read_text()
    running.remote.faults(fail_route="", link_origin="")
    wait_until(lambda: reads(there, "file.bin", pattern_bytes(5, 0, 1 << 20)), 15, "it is back")


@pytest.mark.claim("S386")
def test_walks_over_what_is_silent_wait_in_full_twice_each(
    start, stack: ExitStack, tmp_path: Path
) -> None:
    """`find` over directories that UP42 must tell, `ls -R` over archives, while nobody answers."""
    running: Emulator = start("--synthetic", "1")
    for number in range(WALKED):
        transformed = running.remote.storage("add_asset", name=f"items-{number}.zip", size=1000)
        running.remote.storage("set_cnam_status", id=transformed["id"], status="SUCCESSFUL")
        running.remote.storage("add_asset", name=f"packed-{number}.zip", content_base64=EMPTY_ZIP)
    env = running.env | {"UP42FS_HURRY": "10"}
    there = stack.enter_context(mounted(env, "-o", "refresh=3600", home=tmp_path))
    assets = there.path / "assets"
    wait_until(lambda: len(list(assets.glob("*-*.zip"))) == 2 * WALKED, 15, "the listing")
    running.remote.faults(stall_before_headers_s=3600.0)
    in_c = {**os.environ, "LC_ALL": "C"}
    walks = [
        subprocess.Popen([*words, *sorted(assets.glob(kind))], stderr=subprocess.PIPE, env=in_c)
        for words, kind in ((["find"], "items-?"), (["ls", "-R"], "packed-?"))
    ]
    for walk in walks:
        assert walk.communicate(timeout=60)[1].count(b"timed out") == WALKED
    log = there.log.read_text()
    assert log.count("what is in here was not waited for") == WALKED - 2, log
    assert log.count("its members were not waited for") == WALKED - 2, log


def reads(mount: Mount, name: str, content: bytes) -> bool:
    try:
        return mount.find(name).read_bytes() == content
    except OSError:
        return False


def same_ports(running: Emulator) -> list[str]:
    flags = {"api_url": "--port", "auth_url": "--auth-port", "store_url": "--store-port"}
    ports = ((flag, urlsplit(running.ready[url]).port) for url, flag in flags.items())
    return [str(word) for pair in ports for word in pair]


def workspaces(mount: Mount) -> Counter[str]:
    """How many assets are shown of each workspace."""
    paths = (path for path in (mount.path / "assets").iterdir() if path.is_file())
    return Counter(os.getxattr(path, "user.up42.workspace_id").decode() for path in paths)


def test_one_workspace_or_all(sample: Emulator, sample_mount: Mount, tmp_path: Path) -> None:
    """By option and by environment; by default all of the account."""
    shown = workspaces(sample_mount)
    assert len(shown) == 2
    cache = tmp_path / "cache"  # one for all: none may see what another stored
    for workspace, count in shown.items():
        told: list[tuple[list[str], dict[str, str]]] = [
            (["-o", f"workspace={workspace}"], {}),
            ([], {"UP42_WORKSPACE": workspace}),
        ]
        for options, env in told:
            arguments = (*options, "--cache-dir", str(cache))
            with mounted(sample.env | env, *arguments, home=tmp_path) as mount:
                assert workspaces(mount) == {workspace: count}
                assert mount.status()["workspace"] == workspace
    assert len(list((cache / "catalogue").glob("*.sqlite"))) == 2

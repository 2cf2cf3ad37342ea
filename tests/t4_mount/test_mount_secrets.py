"""Secrets planted in a mount's account are looked for in all that it leaves behind."""

from __future__ import annotations

import os
import re
import resource
import signal
import time
from pathlib import Path

import pytest
from harness import Emulator, Mount, mount_lines, run, wait_until

pytestmark = pytest.mark.mount

PASSWORD = "pl4nted-Passw0rd-7b1f"
#: What a token, a link and a request with either look like.
SHAPES = (
    re.compile(rb"eyJ[\w-]{12,}\.[\w-]+"),
    re.compile(rb"[?&]Signature=(?!<redacted>)[\w%+/=-]{8,}"),
    re.compile(rb"GoogleAccessId=(?!<redacted>)[\w%.-]{6,}"),
    re.compile(rb"Bearer (?!<)[\w.-]{12,}"),
)


def use_all_of_it(emulator: Emulator, there: Mount) -> list[bytes]:
    """Read, fail, ask for links, dump stacks; the links that were given out on demand."""
    assets = there.path / "assets"
    given = []
    for path in filter(Path.is_file, assets.iterdir()):
        path.read_bytes()
        given.append(os.getxattr(path, "user.up42.download_url"))
        os.getxattr(path, "user.up42.json")
    for faults in (
        {"fail_plane": "store", "fail_status": 403},
        {"fail_plane": "api", "fail_status": 500, "fail_body": "html", "fail_next": 4},
        {"fail_plane": "auth", "fail_status": 401, "fail_next": 1},
    ):
        added = emulator.remote.storage("add_asset", name=f"{len(given)}.bin", size=300_000)
        given.append(added["id"].encode())
        emulator.remote.storage("revoke_tokens")
        os.kill(there.pid, signal.SIGHUP)
        wait_until(lambda n=added: (assets / str(n["name"])).exists(), 15, "it shows")
        emulator.remote.faults(**faults)
        emulator.remote.storage("revoke_tokens")
        run("cmp", assets / str(added["name"]), "/dev/null", timeout_s=60)
        emulator.remote.faults(fail_status=None, fail_next=None, fail_body=None, fail_plane=None)
    os.kill(there.pid, signal.SIGUSR1)
    time.sleep(0.5)
    return [url for url in given if url.startswith(b"http")]


def left_behind(there: Mount, home: Path) -> dict[str, bytes]:
    """All that could hold a secret, by where it is."""
    found = {
        "command line": Path(f"/proc/{there.pid}/cmdline").read_bytes(),
        "mount table": Path("/proc/self/mountinfo").read_bytes(),
        "attributes": run("getfattr", "-dR", there.path, timeout_s=60).stdout.encode(),
    }
    for name in ("status.json", "metrics", "README"):
        found[name] = (there.path / ".up42fs" / name).read_bytes()
    for path in home.rglob("*"):
        inside = there.path in path.parents
        if not inside and path.is_file() and not path.is_symlink():
            found[str(path)] = path.read_bytes()
    return found


@pytest.mark.claim("S80")
@pytest.mark.parametrize("level", ["debug", "info"])
def test_planted_secrets_are_nowhere(start, mount, tmp_path: Path, level: str) -> None:
    emulator: Emulator = start("--synthetic", "3,1,1", "--password", PASSWORD)
    for name in ("one.bin", "two.bin"):
        emulator.remote.storage("add_asset", name=name, size=400_000)
    # The others are too large to read.
    for asset in emulator.remote.storage()["assets"]:
        if asset["size"] > 1 << 20:
            emulator.remote.storage("remove_asset", id=asset["id"])
    there: Mount = mount(emulator, "--log-level", level, by_command=True)
    links = use_all_of_it(emulator, there)
    assert links
    left = left_behind(there, tmp_path)
    assert any("blocks" in place for place in left), "the disk cache was not looked at"
    assert any("sqlite" in place for place in left), "the stored catalogue was not looked at"
    assert b"one.bin" in b"".join(left.values())  # what is there would be found
    signatures = [re.findall(rb"Signature=([^&]+)", link)[0] for link in links]
    for place, content in left.items():
        assert PASSWORD.encode() not in content, place
        for shape in SHAPES:
            assert not shape.search(content), (place, shape.search(content))
        assert not any(signature in content for signature in signatures), place
    assert "Traceback" not in there.log.read_text()


def test_no_core_file_is_left(start, mount) -> None:
    """A core file would hold the password and every link."""
    emulator: Emulator = start("--synthetic", "1")
    there: Mount = mount(emulator, by_command=True)
    soft, _ = resource.prlimit(there.pid, resource.RLIMIT_CORE)
    assert soft == 0


def test_others_see_nothing_unless_they_are_let_in(start, mount, tmp_path: Path) -> None:
    emulator: Emulator = start("--synthetic", "1")
    there: Mount = mount(emulator, by_command=True)
    (mine,) = [line for line in mount_lines() if f" {there.path} " in line]
    assert "allow_other" not in mine
    for path in tmp_path.rglob("*"):
        if there.path not in path.parents and path != there.path and "cache" in str(path):
            assert path.stat().st_mode & 0o077 == 0, path

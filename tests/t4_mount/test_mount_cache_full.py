"""A disk cache on a disk that is full, or read-only, or attacked while two mounts use it."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from harness import IN_A_NAMESPACE, UP42FS, Emulator, environ, mounted

from up42fs.emulator import pattern_bytes

pytestmark = pytest.mark.mount

MIB = 1 << 20
SIZE = 12 * MIB

#: In a mount namespace of its own: $1 cache, $2 mount point, $3 the file's copy, $4 the log.
_SCRIPT = """
set -e
mount -t tmpfs -o size=4m,mode=700 none "$1"
{up42fs} mount "$2" --cache-dir "$1" --log-file "$4" -o refresh=3600,memory=64
{before}
cmp "$2/assets/a.bin" "$3"
cmp "$2/assets/b.bin" "$3"
{up42fs} unmount "$2"
"""


def in_a_namespace(emulator: Emulator, home: Path, before: str) -> str:
    """Read two files with a cache of 4 MiB; returns the log."""
    for name in ("a.bin", "b.bin"):
        emulator.remote.storage("add_asset", name=name, size=SIZE, seed=4)
    (home / "copy").write_bytes(pattern_bytes(4, 0, SIZE))
    for name in ("cache", "mnt"):
        (home / name).mkdir()
    script = _SCRIPT.format(up42fs=" ".join(UP42FS), before=before)
    places = [str(home / name) for name in ("cache", "mnt", "copy", "log")]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", *places],
        env=environ(emulator.env),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, (done.stderr, (home / "log").read_text())
    return (home / "log").read_text()


@pytest.mark.claim("S67", "S69")
@IN_A_NAMESPACE
def test_a_full_disk_is_no_wrong_byte(start, tmp_path: Path) -> None:
    fill = 'dd if=/dev/zero of="$1/filler" bs=64k 2>/dev/null || true'
    log = in_a_namespace(start("--synthetic", "1"), tmp_path, fill)
    assert log.count("WARNING") <= 1
    assert "Traceback" not in log


@pytest.mark.claim("S67", "S69")
@IN_A_NAMESPACE
def test_a_disk_that_becomes_read_only_is_no_wrong_byte(start, tmp_path: Path) -> None:
    # A mount at rest has no file open for writing, so that its disk can become read-only.
    remount = """n=0
    until mount -o remount,ro "$1" 2>/dev/null; do n=$((n + 1)); [ $n -lt 200 ]; sleep 0.1; done"""
    log = in_a_namespace(start("--synthetic", "1"), tmp_path, remount)
    assert "Traceback" not in log


def vandalise(blocks: Path, chance: random.Random) -> None:
    """Do something to one of the cache's files that no mount would."""
    files = [path for path in blocks.rglob("*") if path.is_file() and not path.is_symlink()]
    if not files:
        return
    path = chance.choice(files)
    try:
        deed = chance.randrange(4)
        if deed == 0:
            os.truncate(path, chance.randrange(path.stat().st_size + 1))
        elif deed == 1:
            path.unlink()
        elif deed == 2:
            with path.open("r+b") as file:
                file.seek(chance.randrange(max(1, path.stat().st_size)))
                file.write(chance.randbytes(200))
        else:
            path.unlink()
            path.symlink_to("/etc/passwd")
    except OSError:
        pass


@pytest.mark.claim("S67", "S68")
def test_two_mounts_on_one_cache_that_is_attacked(start, tmp_path: Path) -> None:
    """Bits flipped, files cut, deleted, replaced by links, all while both read and write."""
    emulator: Emulator = start("--synthetic", "1")
    emulator.remote.storage("add_asset", name="a.bin", size=SIZE, seed=4)
    cache, over, chance = tmp_path / "cache", threading.Event(), random.Random(2)
    passwd = Path("/etc/passwd").read_bytes()

    def attack() -> None:
        while not over.wait(0.01):
            vandalise(cache / "blocks", chance)

    script = (
        "import os, sys\n"
        "from up42fs.emulator import pattern_bytes\n"
        f"want = pattern_bytes(4, 0, {SIZE})\n"
        "fd = os.open(sys.argv[1], os.O_RDONLY)\n"
        "for _ in range(4):\n"
        "    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)\n"
        f"    for at in range(0, {SIZE}, 1 << 19):\n"
        "        assert os.pread(fd, 1 << 19, at) == want[at : at + (1 << 19)], at\n"
    )
    options = ("--cache-dir", str(cache), "-o", "memory=16,refresh=3600")
    vandal = threading.Thread(target=attack)
    with mounted(emulator.env, *options, home=tmp_path) as one:
        with mounted(emulator.env, *options, home=tmp_path) as two:
            vandal.start()
            try:
                readers = [
                    subprocess.Popen(
                        [sys.executable, "-c", script, str(mount.find("a.bin"))],
                        stderr=subprocess.PIPE,
                        text=True,
                    )
                    for mount in (one, two, one)
                ]
                for reader in readers:
                    _, stderr = reader.communicate(timeout=90)
                    assert reader.returncode == 0, stderr
            finally:
                over.set()
                vandal.join()
        assert "Traceback" not in one.log.read_text() + two.log.read_text()
    assert Path("/etc/passwd").read_bytes() == passwd

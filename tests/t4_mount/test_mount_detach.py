"""Unmounting where fusermount3 cannot: roots without /etc/mtab."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from harness import UP42FS, Emulator, run

from up42fs.fuse.mount_table import ours

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root unmounts without fusermount3"),
]


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A fusermount3 that mounts, but unmounts nothing, as without /etc/mtab."""
    directory = tmp_path / "tools"
    directory.mkdir()
    script = directory / "fusermount3"
    script.write_text(
        '#!/bin/sh\ncase " $* " in *" -u "*)\n'
        "echo 'fusermount3: failed to open /etc/mtab: No such file or directory' >&2; exit 1;;\n"
        f'esac\nPATH=${{PATH#{directory}:}} exec fusermount3 "$@"\n'
    )
    script.chmod(0o755)
    return directory


def mounted_in(directory: Path) -> list[str]:
    return [mount.mountpoint for mount in ours() if mount.mountpoint.startswith(str(directory))]


@pytest.mark.claim("S347")
def test_root_unmounts_without_fusermount3(sample: Emulator, tools: Path, tmp_path: Path) -> None:
    env = sample.env | {"PATH": f"{tools}:{os.environ['PATH']}"}
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    for how in ("unmount", "terminate"):
        done = run(*UP42FS, "mount", mountpoint, env=env)
        assert done.returncode == 0, done.stderr
        if how == "unmount":
            done = run(*UP42FS, "unmount", mountpoint, env=env)
        else:
            status = run(*UP42FS, "status", "--json", mountpoint, env=env)
            pid = run(
                "sh",
                "-c",
                "sed -n 's/.*\"pid\": \\([0-9]*\\).*/\\1/p' | head -n 1",
                input=status.stdout,
            )
            done = run("sh", "-c", f"kill {pid.stdout.strip()}; sleep 5")
        assert done.returncode == 0, done.stderr
        assert mounted_in(tmp_path) == []


@pytest.mark.claim("S347")
def test_a_demo_deletes_nothing_through_a_mount_that_stays(tools: Path, tmp_path: Path) -> None:
    (tools / "umount").write_text("#!/bin/sh\nexit 1\n")
    (tools / "umount").chmod(0o755)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    env = {"PATH": f"{tools}:{os.environ['PATH']}", "TMPDIR": str(temporary)}
    done = run(*UP42FS, "demo", "--", "ls", env=env)
    try:
        (there,) = mounted_in(temporary)
        assert f"{there} is still mounted" in done.stderr
        assert "Read-only file system" not in done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout.split()
    finally:
        for place in mounted_in(temporary):
            run("umount", "-l", place)

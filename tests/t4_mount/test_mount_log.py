"""`up42fs log` finds what a mount logs: in its file, the journal, syslog, or the mount itself."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import REPOSITORY, Emulator, Mount, check, environ, mounted, run

from up42fs.cli import log
from up42fs.cli.main import main as command

pytestmark = pytest.mark.mount

UP42FS = (sys.executable, "-m", "up42fs")


@pytest.fixture(scope="module")
def there(sample: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    home = tmp_path_factory.mktemp("log")
    with mounted(sample.env, "-o", "refresh=3600,log_size=4k,log_keep=2", home=home) as mount:
        yield mount


@pytest.mark.claim("S364")
def test_a_log_file_is_shown_and_stays_small(there: Mount, capsys) -> None:
    assert there.status()["log"] == "file"
    assert command(["log", "-n", "3", str(there.path)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown == there.log.read_text().splitlines()[-3:]
    assert command(["log", "--json", str(there.path)]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert any(event["message"].startswith("mounted ") for event in events)
    assert {event["mountpoint"] for event in events} == {str(there.path)}
    for number in range(120):  # each refused read is a line
        (there.path / ".up42fs/refresh").touch()
        with pytest.raises(OSError):
            os.getxattr(there.path / f"assets/none-{number}", "user.up42.id")
    sizes = [path.stat().st_size for path in there.log.parent.glob(f"{there.log.name}*")]
    assert len(sizes) <= 3
    assert max(sizes) <= 4096 + 1024, "a line may be longer than what is left"


def test_the_mount_gives_its_last_lines_itself(there: Mount) -> None:
    """Where the file is gone, or was never there."""
    ring = (there.path / ".up42fs/log").read_text()
    assert f"at {there.path}" in ring
    assert there.env["UP42_PASSWORD"] not in ring.replace("demo@", "")
    aside = there.log.with_suffix(".aside")
    for path in there.log.parent.glob(f"{there.log.name}*"):
        path.rename(aside.with_name(path.name.replace(".log", ".gone")))
    shown = check(*UP42FS, "log", "-n", "100", there.path)
    assert f"at {there.path}" in shown


def test_follow_shows_what_comes_and_ends_with_the_reader(there: Mount) -> None:
    process = subprocess.Popen(
        [*UP42FS, "log", "-f", "-n", "1", there.path],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env=environ({}),
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline()
        os.kill(there.pid, signal.SIGUSR2)  # SIGUSR2: the level of the log, which is logged
        assert "logging from debug on" in process.stdout.readline()
    finally:
        os.kill(there.pid, signal.SIGUSR2)
        process.terminate()
        process.wait(30)
        process.stdout.close()


def test_what_is_not_there_is_said(tmp_path: Path, capsys) -> None:
    assert command(["log", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert f"no log of {tmp_path} is left: nothing is mounted there" in said
    done = run(*UP42FS, "log", "-n", "many", tmp_path)
    assert (done.returncode, "'many' will not do: a number of lines" in done.stderr) == (2, True)


JOURNALD = Path("/lib/systemd/systemd-journald")

#: A journal of its own, by the real daemon: files in memory, no messages of the kernel.
IN_A_ROOM = r"""
set -eu
room=$1; python=$2; journald=$3
mkdir -p /run/systemd /run/log
mount -t tmpfs none /run/systemd; mount -t tmpfs none /run/log
mkdir /run/systemd/journal /run/log/journal
echo 0123456789abcdef0123456789abcdef > $room/id
touch /etc/machine-id; mount --bind $room/id /etc/machine-id
printf '[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=no\nForwardToSyslog=no\n' > $room/conf
mount --bind $room/conf /etc/systemd/journald.conf
$journald 2> $room/journald & pid=$!
trap 'kill $pid' EXIT
while [ ! -S /run/systemd/journal/socket ]; do kill -0 $pid; sleep 0.05; done
mkdir $room/mnt
$python -m up42fs mount --cache-dir $room/cache -o refresh=3600 $room/mnt
cat $room/mnt/.up42fs/status.json > $room/status
journalctl --sync  # until the daemon has written what was sent
journalctl -q -o cat UP42FS_MOUNTPOINT=$room/mnt > $room/entries
$python -m up42fs log -n 500 $room/mnt > $room/by-journal
$python -m up42fs log -n 500 --json $room/mnt > $room/by-journal.json
rm -r /run/log/journal/*
$python -m up42fs log -n 500 $room/mnt > $room/by-ring
$python -m up42fs unmount $room/mnt
"""


@pytest.mark.claim("S364")
@pytest.mark.skipif(not JOURNALD.exists(), reason="no journal: sudo apt-get install systemd")
def test_in_the_background_the_journal_gets_the_log(sample: Emulator, tmp_path: Path) -> None:
    done = run(
        *("unshare", "-m", "sh", "-c", IN_A_ROOM, "sh", tmp_path, sys.executable, JOURNALD),
        env=sample.env | {"HOME": str(tmp_path), "PYTHONPATH": str(REPOSITORY)},
    )
    assert done.returncode == 0, done
    status = json.loads((tmp_path / "status").read_text())
    assert (status["log"], status["log_file"]) == ("journal", None)
    assert "up42fs.mount.mount: mounted up42:" in (tmp_path / "entries").read_text()
    shown = (tmp_path / "by-journal").read_text()
    assert re.search(r"up42fs\[\d+\]: up42fs\.mount\.mount: mounted up42:", shown), shown
    events = [json.loads(line) for line in (tmp_path / "by-journal.json").read_text().splitlines()]
    (mounted,) = [event for event in events if event["message"].startswith("mounted up42:")]
    assert mounted["logger"] == "up42fs.mount.mount"
    ring = (tmp_path / "by-ring").read_text()
    assert "mounted up42:" in ring
    assert "up42fs[" not in ring
    assert not list(tmp_path.rglob("*.log"))


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("2026-11-30T21:42:04+0000 here up42fs[7]: up42fs.a.b: said: more", None),
        ("2026-11-30T21:43:43.5+00:00 here up42fs[7]: [/mnt/a [b]] up42fs.a.b: said: more", None),
        ("Nov  3 21:44:00 here user.info up42fs[7]: [/m] up42fs.a.b: said: more", "info"),
        ("2026-11-30 21:42:04,123 WARNING up42fs.a.b: said: more", "WARNING"),
    ],
)
def test_a_line_of_any_log_is_the_same_object(line: str, level: str | None) -> None:
    event = log._event(Path("/m"), line)
    time = event.pop("time")
    assert line.startswith(time)
    wanted = {"mountpoint": "/m", "logger": "up42fs.a.b", "message": "said: more"}
    assert event == wanted | ({} if level is None else {"level": level})

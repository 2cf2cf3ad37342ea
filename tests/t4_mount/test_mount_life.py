"""Mounting, failing to mount, unmounting: what the commands promise (design §3, §7)."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from harness import (
    IN_A_NAMESPACE,
    REPOSITORY,
    UP42FS,
    Emulator,
    check,
    environ,
    is_running,
    mounted,
    run,
    wait_for_end,
    wait_until,
)

from up42fs.cli.mount import READY_TIMEOUT_S
from up42fs.fuse.mount_table import mount_at

pytestmark = pytest.mark.mount


def refused(env: dict[str, str], mountpoint: Path, *arguments: str) -> str:
    """Mounting fails in time, with one line, leaving nothing; returns the line."""
    started_s = time.monotonic()
    # A catalogue kept by another test's mount would be shown instead.
    env = dict(env) | {"XDG_CACHE_HOME": str(mountpoint.parent / "cache")}
    done = run(*UP42FS, "mount", mountpoint, *arguments, env=env)
    assert time.monotonic() - started_s < READY_TIMEOUT_S - 2  # by its own error
    assert done.returncode == 1, done
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("up42fs: ")
    assert mount_at(mountpoint) is None
    assert not any(str(mountpoint) in line for line in command_lines())
    return lines[0]


def command_lines() -> list[str]:
    """What runs on this machine, without this process; other tests' words may be any bytes."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and int(process.name) != os.getpid():
            with suppress(OSError):
                words = (process / "cmdline").read_bytes().replace(b"\0", b" ")
                found.append(os.fsdecode(words))
    return found


@contextmanager
def deaf_server() -> Iterator[str]:
    """Accepts connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def mountpoint(tmp_path: Path) -> Path:
    (tmp_path / "mnt").mkdir()
    return tmp_path / "mnt"


def test_a_wrong_password_is_one_clear_line(sample: Emulator, mountpoint: Path) -> None:
    line = refused(sample.env | {"UP42_PASSWORD": "s3cret-wrong"}, mountpoint)
    assert "password" in line
    assert "UP42_PASSWORD" in line
    assert "s3cret-wrong" not in line


def test_an_unreachable_identity_server(sample: Emulator, mountpoint: Path) -> None:
    line = refused(sample.env | {"UP42_AUTH_URL": "http://127.0.0.1:1"}, mountpoint)
    assert "identity server" in line


def test_an_unreachable_api(sample: Emulator, mountpoint: Path) -> None:
    line = refused(sample.env | {"UP42_API_URL": "http://127.0.0.1:1"}, mountpoint)
    assert "UP42" in line


def test_an_unknown_host(sample: Emulator, mountpoint: Path) -> None:
    refused(sample.env | {"UP42_AUTH_URL": "https://no-such-host.invalid"}, mountpoint)


def test_a_deaf_host(sample: Emulator, mountpoint: Path) -> None:
    with deaf_server() as url:
        assert "12 s" in refused(sample.env | {"UP42_AUTH_URL": url}, mountpoint)


def test_plain_http_is_refused_off_loopback(sample: Emulator, mountpoint: Path) -> None:
    assert "https" in refused(sample.env | {"UP42_API_URL": "http://example.com"}, mountpoint)


def test_an_address_where_no_api_is(sample: Emulator, mountpoint: Path) -> None:
    refused(sample.env | {"UP42_API_URL": sample.ready["auth_url"]}, mountpoint)


def test_a_busy_mount_point(sample: Emulator, mount) -> None:
    there = mount(sample)
    done = run(*UP42FS, "mount", "-o", "rw", there.path, env=sample.env)
    assert done.returncode == 1
    assert "busy" in done.stderr
    assert there.status()["pid"] == there.pid


def test_a_missing_mount_point(sample: Emulator, tmp_path: Path) -> None:
    assert "mkdir" in refused(sample.env, tmp_path / "missing")


def test_a_file_as_mount_point(sample: Emulator, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "not a directory" in refused(sample.env, tmp_path / "file")


@pytest.mark.claim("S102")
def test_a_mount_hides_nothing_unless_told_to(sample: Emulator, mountpoint: Path) -> None:
    (mountpoint / "thesis.odt").write_text("years of work")
    assert "-o nonempty" in refused(sample.env, mountpoint)
    assert (mountpoint / "thesis.odt").read_text() == "years of work"
    check(*UP42FS, "mount", mountpoint, "-o", "nonempty", env=sample.env)
    assert "thesis.odt" not in os.listdir(mountpoint)
    check(*UP42FS, "unmount", mountpoint)
    assert (mountpoint / "thesis.odt").read_text() == "years of work"


@pytest.mark.claim("S102")
def test_a_home_directory_is_not_covered(sample: Emulator, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home/.profile").touch()
    env = sample.env | {"HOME": str(tmp_path / "home")}
    assert "is not empty" in refused(env, tmp_path / "home")
    done = run("sh", "-c", f"cd && {' '.join(UP42FS)} mount ~", env=env)
    assert (done.returncode, mount_at(tmp_path / "home")) == (1, None)


def test_a_crashed_mount_hides_nothing_either(sample: Emulator, tmp_path: Path) -> None:
    """What lies below it shows when it is taken away, and counts then."""
    (tmp_path / "mnt").mkdir()
    (tmp_path / "mnt/kept").touch()
    command = (*UP42FS, "mount", tmp_path / "mnt", "--log-file", tmp_path / "log")
    for options, status in (("nonempty", 0), ("rw", 1), ("nonempty", 0)):
        done = run(*command, "-o", options, env=sample.env)
        assert done.returncode == status, done.stderr
        assert ("is not empty" in done.stderr) == (status == 1)
        if status == 0:
            document = (tmp_path / "mnt/.up42fs/status.json").read_text()
            os.kill(json.loads(document)["pid"], signal.SIGKILL)
            wait_until(lambda: not answers(tmp_path / "mnt"), 5, "the mount is dead")
    check(*UP42FS, "unmount", tmp_path / "mnt")
    assert os.listdir(tmp_path / "mnt") == ["kept"]


def answers(path: Path) -> bool:
    try:
        os.statvfs(path)
    except OSError:
        return False
    return True


def test_no_account(mountpoint: Path) -> None:
    assert "UP42_USERNAME" in refused({}, mountpoint)


def test_a_missing_fusermount3(sample: Emulator, mountpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    assert "fuse3" in refused(sample.env | {"PATH": str(tmp_path / "bin")}, mountpoint)


@IN_A_NAMESPACE
def test_a_missing_fuse_device(sample: Emulator, mountpoint: Path) -> None:
    """With an empty /dev, in a namespace of its own."""
    script = 'mount -t tmpfs none /dev && exec "$@"'
    command = ["unshare", "-m", "sh", "-c", script, "sh", *UP42FS, "mount", str(mountpoint)]
    done = subprocess.run(command, env=environ(sample.env), capture_output=True, text=True)
    assert done.returncode == 1
    assert "/dev/fuse is missing" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_secret_as_an_option_is_refused(sample: Emulator, mountpoint: Path) -> None:
    line = refused(sample.env, mountpoint, "-o", "password=hunter2")
    assert "hunter2" not in line
    assert "UP42_PASSWORD" in line


def test_unmount_leaves_nothing(sample: Emulator, mount) -> None:
    there = mount(sample)
    done = run(*UP42FS, "unmount", there.path)
    assert done.returncode == 0, done.stderr
    assert mount_at(there.path) is None
    # A test beside this one may have made a namespace, which begins with copies of all mounts.
    assert not is_running(there.pid) or "a copy of the mount is" in done.stderr
    assert os.listdir(there.path) == []


def test_mounting_again_and_again(sample: Emulator, mountpoint: Path) -> None:
    for _ in range(3):
        check(*UP42FS, "mount", mountpoint, env=sample.env)
        assert "assets" in os.listdir(mountpoint)
        check(*UP42FS, "unmount", mountpoint)


@IN_A_NAMESPACE
@pytest.mark.claim("S180")
def test_unmount_names_who_keeps_a_copy_in_another_namespace(sample: Emulator, mount) -> None:
    there = mount(sample)
    copy = subprocess.Popen(["unshare", "-m", "sh", "-c", "echo; exec sleep 60"], stdout=-1)
    try:
        assert copy.stdout is not None
        copy.stdout.readline()
        done = run(*UP42FS, "unmount", there.path)
        assert done.returncode == 0
        assert mount_at(there.path) is None
        assert f"process {there.pid} goes on" in done.stderr
        assert f"{copy.pid} (s" in done.stderr
        assert is_running(there.pid), "whoever has the copy may read on"
        assert "assets" in check("nsenter", "-m", "-t", str(copy.pid), "ls", there.path)
        os.kill(there.pid, signal.SIGTERM)
        wait_until(lambda: not is_running(there.pid), 10, "it ends when told to")
    finally:
        copy.kill()
        copy.communicate()


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
@pytest.mark.claim("S180")
def test_unmount_names_a_bind_mount_of_the_mount(sample: Emulator, mount, tmp_path: Path) -> None:
    there = mount(sample)
    other = tmp_path / "other place"
    other.mkdir()
    check("mount", "--bind", there.path / "assets", other)
    try:
        done = run(*UP42FS, "unmount", there.path)
        assert f"process {there.pid} goes on" in done.stderr
        assert f"sudo umount '{other}'" in done.stderr
        assert os.listdir(other)
    finally:
        check("umount", other)
    wait_for_end(there)


def test_unmount_of_what_is_no_mount(tmp_path: Path) -> None:
    done = run(*UP42FS, "unmount", tmp_path)
    assert done.returncode == 1
    assert "is not an up42fs mount" in done.stderr


@pytest.mark.claim("S84")
def test_unmount_of_a_busy_mount_says_so_and_lazy_helps(sample: Emulator, mount) -> None:
    there = mount(sample)
    with subprocess.Popen(["sleep", "60"], cwd=there.path / "assets") as user:
        done = run(*UP42FS, "unmount", there.path)
        assert done.returncode == 1
        assert "--lazy" in done.stderr
        assert there.status()["pid"] == there.pid
        check(*UP42FS, "unmount", "--lazy", there.path)
        assert mount_at(there.path) is None
        user.kill()
    wait_for_end(there)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_unmount_cleanly(sample: Emulator, mount, number: int) -> None:
    there = mount(sample)
    os.kill(there.pid, number)
    wait_for_end(there)
    assert mount_at(there.path) is None
    assert "Traceback" not in there.log.read_text()


@pytest.mark.claim("S85")
def test_fusermount_unmounts_cleanly(sample: Emulator, mount) -> None:
    there = mount(sample)
    check("fusermount3", "-u", there.path)
    wait_for_end(there)
    assert "Traceback" not in there.log.read_text()


def test_foreground_ends_with_status_0_on_ctrl_c(sample: Emulator, mountpoint: Path) -> None:
    process = subprocess.Popen(
        [*UP42FS, "mount", "-f", str(mountpoint)],
        env=environ(sample.env),
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: mount_at(mountpoint) is not None, 15, "the mount appears")
    wait_until(lambda: os.path.isdir(mountpoint / "assets"), 15, "the mount answers")
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 0, stderr
    assert mount_at(mountpoint) is None
    assert "Traceback" not in stderr


def test_as_mount_8_calls_it(sample: Emulator, mountpoint: Path) -> None:
    check(*UP42FS, "eu", mountpoint, "-o", "rw,nosuid,nodev,refresh=30", env=sample.env)
    try:
        mount = mount_at(mountpoint)
        assert mount is not None
        assert mount.fstype == "fuse.up42fs"
        assert "assets" in os.listdir(mountpoint)
    finally:
        check(*UP42FS, "unmount", mountpoint)


@IN_A_NAMESPACE
@pytest.mark.skipif(shutil.which("mount.fuse3") is None, reason="no mount.fuse3")
def test_mount_t_fuse_up42fs(sample: Emulator, mountpoint: Path, tmp_path: Path) -> None:
    """mount(8) finds commands in /usr/local/bin: put ours there, in a namespace of its own."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/up42fs").write_text(f'#!/bin/sh\nexec {sys.executable} -m up42fs "$@"\n')
    (tmp_path / "bin/up42fs").chmod(0o755)
    script = (
        'mount --bind "$1" /usr/local/bin && mount -t fuse.up42fs eu "$2" -o umask=027 '
        '&& stat -c %a "$2/assets" && umount "$2"'
    )
    at = (tmp_path / "bin", mountpoint)
    assert check("unshare", "-m", "sh", "-c", script, "sh", *at, env=sample.env) == "750\n"


def test_the_mount_helper(sample: Emulator, mountpoint: Path) -> None:
    helper = REPOSITORY / "contrib" / "mount.up42fs"
    env = sample.env | {"UP42FS": shutil.which("up42fs") or f"{Path(sys.executable).parent}/up42fs"}
    check(helper, "eu", mountpoint, "-n", "-o", "rw,refresh=30", env=env)
    assert "assets" in os.listdir(mountpoint)
    check(*UP42FS, "unmount", mountpoint)


def test_credentials_from_a_file(sample: Emulator, mountpoint: Path, tmp_path: Path) -> None:
    env = {k: v for k, v in sample.env.items() if k.endswith("_URL")}
    credentials = tmp_path / "up42.json"
    credentials.write_text(
        f'{{"username": "{sample.ready["username"]}", "password": "{sample.ready["password"]}"}}'
    )
    credentials.chmod(0o600)
    check(*UP42FS, "mount", mountpoint, "--credentials", credentials, env=env)
    check(*UP42FS, "unmount", mountpoint)


def test_a_crashed_mount_is_cured_by_unmount(sample: Emulator, tmp_path: Path) -> None:
    with mounted(sample.env, home=tmp_path) as there:
        os.kill(there.pid, signal.SIGKILL)
        wait_until(lambda: not is_running(there.pid), 5, "the process is gone")
        with pytest.raises(OSError) as caught:
            os.listdir(there.path)
        assert caught.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)
        check(*UP42FS, "unmount", there.path)
        check(*UP42FS, "mount", there.path, env=sample.env)
        assert "assets" in os.listdir(there.path)
        check(*UP42FS, "unmount", there.path)


def test_demo_runs_a_command_inside_and_passes_its_status(tmp_path: Path) -> None:
    command = 'test -d orders && test "$(ls)" = "$(printf "%s\\n" assets cnam orders tags)"; exit 7'
    done = run(*UP42FS, "demo", tmp_path / "here", "--", "sh", "-c", command, timeout_s=110)
    assert done.returncode == 7, done.stderr
    assert mount_at(tmp_path / "here") is None
    missing = run(*UP42FS, "demo", "--", "no-such-command-at-all", timeout_s=110)
    assert missing.returncode == 127


def test_demo_serves_a_persons_own_files(tmp_path: Path) -> None:
    (tmp_path / "mine/order one").mkdir(parents=True)
    (tmp_path / "mine/order one/a file.txt").write_text("hello")
    done = run(
        *UP42FS, "demo", "--data", tmp_path / "mine", "--", "cat", "orders/order one/a file.txt"
    )
    assert (done.returncode, done.stdout) == (0, "hello")


def test_demo_without_a_command_ends_on_ctrl_c(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*UP42FS, "demo", str(tmp_path / "mnt")],
        env=environ({}),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert "is mounted at" in process.stdout.readline()
    assert "assets" in os.listdir(tmp_path / "mnt")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert mount_at(tmp_path / "mnt") is None


@pytest.mark.claim("S80")
def test_the_log_holds_no_secret(sample: Emulator, mount) -> None:
    there = mount(sample, "--log-level", "debug")
    for path in filter(Path.is_file, (there.path / "assets").iterdir()):
        path.read_bytes()
        os.getxattr(path, "user.up42.download_url")
    text = there.log.read_text()
    assert "mounted" in text
    for secret in ("Signature=", "Bearer ", "access_token", sample.ready["password"] + " "):
        assert secret not in text.replace("Signature=<redacted>", "")
    assert there.log.stat().st_mode & 0o777 == 0o600


@pytest.mark.claim("S87")
def test_a_signal_at_any_moment_leaves_no_mount(sample: Emulator, mountpoint: Path) -> None:
    """SIGTERM in the first moments: nothing stays mounted, whatever had been done by then."""
    for moment in range(12):
        process = subprocess.Popen(
            [*UP42FS, "mount", "-f", str(mountpoint)],
            env=environ(sample.env),
            stderr=subprocess.DEVNULL,
        )
        if moment % 3:
            while mount_at(mountpoint) is None and process.poll() is None:
                time.sleep(0.0005)  # hardly later than it appears
        if moment % 3 < 2:
            time.sleep(moment * 0.003)
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        assert mount_at(mountpoint) is None, moment


@pytest.mark.claim("S325")
def test_to_mount_what_is_mounted_is_no_failure(sample: Emulator, sample_mount) -> None:
    env = dict(sample_mount.env)
    done = run(*UP42FS, "mount", sample_mount.path, env=env)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert done.stderr == f"up42fs: {sample_mount.path} is mounted already\n"
    assert sample_mount.status()["pid"] == sample_mount.pid, "it is the same mount"
    # What would be another mount is refused, as before: edits, another account, this process.
    for arguments, other in (
        (["-o", "rw"], {}),
        ([], {"UP42_USERNAME": "somebody@else.example"}),
        ([], {"UP42_WORKSPACE": "00000000-0000-4000-8000-000000000000"}),
        (["--foreground"], {}),
    ):
        done = run(*UP42FS, "mount", sample_mount.path, *arguments, env=env | other)
        assert done.returncode == 1, (arguments, other)
        assert "is busy: something is mounted there" in done.stderr

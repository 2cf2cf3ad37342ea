"""`up42fs status` of real mounts: what it says is what the emulator saw."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from harness import UP42FS, Emulator, Mount, check, environ, run
from prometheus_client.parser import text_string_to_metric_families

pytestmark = pytest.mark.mount


def lines(text: str) -> dict[str, str]:
    """The picture's rows by name."""
    split = [line.strip().partition("  ") for line in text.splitlines()]
    return {name: rest.strip() for name, _, rest in split if rest}


def test_the_picture_agrees_with_the_emulator(start, mount, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for number in range(3):
        (tmp_path / f"data/archive{number}.zip").write_bytes(os.urandom(3 << 20))
    emulator: Emulator = start("--data", str(tmp_path / "data"))
    there: Mount = mount(emulator)
    zips = sorted((there.path / "assets").glob("*.zip"))
    zips[0].read_bytes()
    said = lines(check(*UP42FS, "status", there.path, env={"COLUMNS": "120"}))
    seen = emulator.requests()
    size = zips[0].stat().st_size
    assert said["storage"].startswith("3 assets")
    assert f"process {there.pid}" in said["mounted"]
    assert there.env["UP42_USERNAME"] in said["account"]
    store, api, auth = (int(word) for word in said["requests"].split() if word.isdecimal())
    assert (store, auth) == (seen["store.get"], seen["auth.token"])
    assert api == sum(seen.values()) - store - auth
    assert there.counters()["store.bytes_delivered"] == size
    assert said["errors"] == "none"
    assert "1 held, 1 signed" in said["links"]


def test_a_page_to_mail_costs_nothing(sample_mount: Mount, tmp_path: Path) -> None:
    before = sample_mount.counters()
    report = tmp_path / "report.html"
    assert check(*UP42FS, "status", "--html", report, sample_mount.path) == ""
    assert sample_mount.counters().get("store.requests") == before.get("store.requests")
    said = report.read_text()
    assert f"process {sample_mount.pid}" in said


def test_errors_are_counted_and_told(start, mount) -> None:
    emulator: Emulator = start("--synthetic", "3")
    there: Mount = mount(emulator)
    victim = sorted((there.path / "assets").glob("*.zip"))[0]
    emulator.remote.faults(fail_route="assets.sign", fail_status=403)
    with pytest.raises(PermissionError):
        victim.read_bytes()
    said = check(*UP42FS, "status", there.path, env={"COLUMNS": "200"})
    assert "EACCES" in lines(said)["errors"]
    assert victim.name in said
    latest = there.status()["recent_errors"][-1]
    assert latest["level"] == "WARNING"
    assert victim.name in latest["message"]
    assert "signing a link" in latest["message"]


def test_json_is_the_mounts_own_document(sample_mount: Mount) -> None:
    one = json.loads(check(*UP42FS, "status", "--json", sample_mount.path))
    assert one["pid"] == sample_mount.pid
    every = json.loads(check(*UP42FS, "status", "--json"))
    assert sample_mount.pid in [document["pid"] for document in every]


def test_looking_costs_no_request(sample: Emulator, sample_mount: Mount) -> None:
    before = sum(sample.requests().values())
    check(*UP42FS, "status", sample_mount.path)
    (sample_mount.path / ".up42fs/metrics").read_text()
    assert sum(sample.requests().values()) == before


def test_metrics_are_prometheus_text(sample_mount: Mount) -> None:
    text = (sample_mount.path / ".up42fs/metrics").read_text()
    families = {f.name: f for f in text_string_to_metric_families(text)}
    assert families["up42fs_assets"].samples[0].value == 31
    requests = families["up42fs_api_requests"].samples[0]
    assert requests.value == sample_mount.counters()["api.requests"]
    assert families["up42fs_info"].samples[0].labels["mountpoint"] == str(sample_mount.path)


def test_in_a_terminal_it_moves_until_ctrl_c(sample_mount: Mount) -> None:
    viewer, terminal = pty.openpty()
    process = subprocess.Popen(
        [*UP42FS, "status", str(sample_mount.path)],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=environ({"COLUMNS": "100", "TERM": "xterm"}),
        start_new_session=True,
    )
    os.close(terminal)
    seen = b""
    while seen.count(b"freshness") < 2:  # drawn again
        seen += os.read(viewer, 65536)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    os.close(viewer)


def test_where_nothing_is_mounted(tmp_path: Path) -> None:
    done = run(*UP42FS, "status", tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"up42fs: {tmp_path} is not an up42fs mount\n"


def test_a_frozen_mount_does_not_freeze_the_command(
    sample: Emulator, sample_mount: Mount, mount
) -> None:
    there: Mount = mount(sample)
    os.kill(there.pid, signal.SIGSTOP)
    try:
        done = run(*UP42FS, "status", there.path)
        of_all = run(*UP42FS, "status", "--json")
    finally:
        os.kill(there.pid, signal.SIGCONT)
    assert of_all.returncode == 0
    assert str(there.path) in of_all.stderr
    seen = [document["pid"] for document in json.loads(of_all.stdout)]
    assert sample_mount.pid in seen
    assert there.pid not in seen
    assert done.returncode == 1
    assert "does not answer" in done.stderr
    assert "unmount --lazy" in done.stderr


def test_programs_without_a_terminal_get_no_colours(sample_mount: Mount) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "up42fs", "status", sample_mount.path],
        capture_output=True,
        env=environ({}),
        check=True,
    )
    assert b"\x1b" not in done.stdout

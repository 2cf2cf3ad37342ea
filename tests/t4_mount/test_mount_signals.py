"""What a running mount does on SIGUSR1 and SIGUSR2, and how it logs."""

from __future__ import annotations

import json
import os
import signal

import pytest
from harness import Emulator, wait_until

pytestmark = pytest.mark.mount


def test_it_tells_where_every_thread_and_task_is(sample: Emulator, mount) -> None:
    there = mount(sample, by_command=True)
    os.kill(there.pid, signal.SIGUSR1)
    wait_until(lambda: "where each waits" in there.log.read_text(), 10, "the tasks are dumped")
    log = there.log.read_text()
    assert "Current thread" in log  # every thread, also where the loop hangs
    assert "Session.serve" in log
    assert "Sync.run" in log
    assert "assets" in os.listdir(there.path)
    os.kill(there.pid, signal.SIGUSR1)
    wait_until(lambda: there.log.read_text().count("where each waits") == 2, 10, "again")
    assert there.status()["recent_errors"] == []


def test_debug_messages_on_and_off(sample: Emulator, mount) -> None:
    there = mount(sample, by_command=True)
    os.kill(there.pid, signal.SIGUSR2)
    wait_until(lambda: "logging from debug on" in there.log.read_text(), 10, "debug is on")
    os.kill(there.pid, signal.SIGUSR2)
    wait_until(lambda: "logging from info on" in there.log.read_text(), 10, "debug is off")


def test_json_lines(sample: Emulator, mount) -> None:
    there = mount(sample, "--log-format", "json", by_command=True)
    entries = [json.loads(line) for line in there.log.read_text().splitlines()]
    assert any(entry["message"].startswith("mounted ") for entry in entries)
    assert {"time", "level", "logger", "message"} == set(entries[0])

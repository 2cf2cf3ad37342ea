"""`-o max_egress`: past it, what is not cached fails with EDQUOT, and one clear line."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from harness import UP42FS, Emulator, check, emulator, run, wait_until

from up42fs.core.budget import Limit
from up42fs.errors import QuotaExceeded
from up42fs.metrics import Metrics
from up42fs.store.egress import Egress

MIB = 1 << 20


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory):
    data = tmp_path_factory.mktemp("data")
    for number in range(4):
        (data / f"archive{number}.zip").write_bytes(os.urandom(3 * MIB))
    with emulator("--data", str(data)) as running:
        yield running


@pytest.mark.mount
def test_past_the_budget_only_what_is_cached_is_read(
    files: Emulator, mount, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    own = ("--cache-dir", str(cache), "-o", "max_egress=4M/day")
    there = mount(files, *own)
    first, *others = sorted((there.path / "assets").glob("*.zip"))
    content = first.read_bytes()
    with pytest.raises(OSError, match="quota"):
        others[0].read_bytes()  # the budget ends amid it
    before = files.remote.position()
    for path in (others[1], others[2], others[0]):
        with pytest.raises(OSError, match="quota") as error:
            path.read_bytes()
        assert error.value.errno == errno.EDQUOT
    assert files.remote.count("store.get", before) == 0
    assert first.read_bytes() == content
    assert os.listdir(there.path)
    assert there.log.read_text().count("used up") == 1
    status = there.status()
    assert status["egress"]["left_bytes"] == 0
    assert status["counters"]["store.egress_refused"] >= 3
    assert "used up until" in check(*UP42FS, "status", there.path, env={"COLUMNS": "200"})
    assert "up42fs_egress_left_bytes 0" in (there.path / ".up42fs/metrics").read_text()
    wait_until(lambda: not there.status()["disk_cache"]["queued_bytes"], 10, "all is written")
    run(*UP42FS, "unmount", there.path)

    again = mount(files, *own)  # what was spent is remembered
    before = files.remote.position()
    assert (again.path / "assets" / first.name).read_bytes() == content
    with pytest.raises(OSError, match="quota"):
        (again.path / "assets" / others[1].name).read_bytes()
    assert files.remote.count("store.get", before) == 0
    run(*UP42FS, "unmount", again.path)

    more = mount(files, "--cache-dir", str(cache), "-o", "max_egress=1G/day")
    (more.path / "assets" / others[1].name).read_bytes()


def egress(path: Path | None, now_s: list[float]) -> Egress:
    return Egress(Limit(100, 3600.0), path, Metrics(), clock=lambda: now_s[0])


def test_it_says_when_it_is_free_again(caplog: pytest.LogCaptureFixture) -> None:
    now_s = [1e9]
    budget = egress(None, now_s)
    budget.pay(150)
    for _ in range(3):
        with pytest.raises(QuotaExceeded, match="can be read again at 20"):
            budget.pay(1)
    assert len(caplog.records) == 1
    assert budget.status()["free_again_at"] is not None
    now_s[0] += 2 * 3600
    budget.pay(10)
    assert budget.status()["left_bytes"] == 90
    assert budget.status()["free_again_at"] is None


def test_what_was_spent_is_kept(tmp_path: Path) -> None:
    now_s = [1e9]
    path = tmp_path / "egress" / "x.json"
    budget = egress(path, now_s)
    budget.pay(60)
    budget.give_back(20)
    budget.save()
    assert egress(path, now_s).status()["left_bytes"] == 60
    other = Egress(Limit(100, 86400.0), path, Metrics(), clock=lambda: now_s[0])
    assert other.status()["left_bytes"] == 100  # counted by days now


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"period_seconds": 3600.0, "spent": {"a": 1}}'])
def test_a_damaged_note_begins_anew(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    assert egress(path, [1e9]).status()["left_bytes"] == 100
    assert len(caplog.records) == 1


def test_where_nothing_can_be_noted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    budget = egress(tmp_path / "file" / "x.json", [1e9])
    for _ in range(3):
        budget.pay(10)
        budget.save()
    assert len(caplog.records) <= 2

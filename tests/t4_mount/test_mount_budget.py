"""`-o max_egress`: past it, what is not cached fails with EDQUOT, and one clear line."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import trio
from harness import FORKED, Emulator, check, emulator, take_away, wait_until
from hypothesis import given, settings
from hypothesis import strategies as st

from up42fs.errors import QuotaExceeded
from up42fs.metrics import Metrics
from up42fs.net.hedging import HostTimes
from up42fs.store.egress.budget import EgressLimit
from up42fs.store.egress.egress import Egress
from up42fs.store.egress.spending import Book, Spending
from up42fs.store.http.answer import Delivery, Outcome, RangeRequest, VersionPin
from up42fs.store.http.race import Race
from up42fs.store.http.transport import CurlTransport
from up42fs.store.part import Part
from up42fs.types import ByteRange

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
    files = replace(files, env=files.env | {"XDG_STATE_HOME": str(tmp_path / "state")})
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
    assert "used up until" in check(*FORKED, "status", there.path, env={"COLUMNS": "200"})
    assert "up42fs_egress_left_bytes 0" in (there.path / ".up42fs/metrics").read_text()
    wait_until(lambda: not there.status()["disk_cache"]["queued_bytes"], 10, "all is written")
    take_away(there)

    again = mount(files, *own)  # what was spent is remembered
    before = files.remote.position()
    assert (again.path / "assets" / first.name).read_bytes() == content
    with pytest.raises(OSError, match="quota"):
        (again.path / "assets" / others[1].name).read_bytes()
    assert files.remote.count("store.get", before) == 0
    take_away(again)

    more = mount(files, "--cache-dir", str(cache), "-o", "max_egress=1G/day")
    (more.path / "assets" / others[1].name).read_bytes()


@pytest.mark.mount
def test_two_mounts_share_one_budget(files: Emulator, mount, tmp_path: Path) -> None:
    env = {"XDG_STATE_HOME": str(tmp_path / "state")}
    shared = replace(files, env=files.env | env)
    one, two = (mount(shared, "-o", "max_egress=6M/day") for _ in range(2))
    first, second, third, _ = sorted(path.name for path in (one.path / "assets").glob("*.zip"))
    (one.path / "assets" / first).read_bytes()
    with (two.path / "assets" / second).open("rb") as file:
        file.read(2 * MIB)
    with pytest.raises(OSError, match="quota"):
        (two.path / "assets" / third).read_bytes()
    with pytest.raises(OSError, match="quota"):
        (one.path / "assets" / second).read_bytes()
    assert one.status()["egress"]["left_bytes"] == 0
    fetched = sum(m.counters()["store.bytes_fetched"] for m in (one, two))
    # The readers had 5 MiB. Beside that: what was under way, or was paid for and then given up.
    assert 5 * MIB <= fetched <= 6 * MIB + 4 * MIB
    (book,) = (tmp_path / "state/up42fs/egress").glob("*-86400.json")
    assert stat.S_IMODE(book.stat().st_mode) == 0o600


@pytest.mark.mount
def test_what_is_fetched_ahead_leaves_a_tenth_to_who_reads_and_fails_nobody(
    files: Emulator, mount, tmp_path: Path
) -> None:
    env = {"XDG_STATE_HOME": str(tmp_path / "state")}
    there = mount(replace(files, env=files.env | env), "-o", "max_egress=7M/day,read_ahead=128")
    first, second, third, _ = sorted((there.path / "assets").glob("*.zip"))
    for path in (first, second):  # a walk: the next ones are fetched before they are opened
        assert len(path.read_bytes()) == 3 * MIB
    with third.open("rb") as file:
        assert len(file.read(300_000)) == 300_000
    counters = there.counters()
    assert counters["store.egress_spared"] > 0
    assert "store.egress_refused" not in counters
    assert "used up" not in there.log.read_text()


def egress(path: Path | None, now_s: list[float], most: int = 100) -> Egress:
    book = None if path is None else Book(path)
    spending = Spending(EgressLimit(most, 3600.0), book, clock=lambda: now_s[0])
    return Egress(spending, Metrics())


async def test_it_says_when_it_is_free_again(caplog: pytest.LogCaptureFixture) -> None:
    now_s = [1e9]
    budget = egress(None, now_s)
    await budget.pay(150)
    for _ in range(3):
        with pytest.raises(QuotaExceeded, match="can be read again at 20"):
            await budget.pay(1)
    assert caplog.text.count("used up") == 1
    assert budget.status()["free_again_at"] is not None
    now_s[0] += 2 * 3600
    await budget.pay(10)
    assert budget.status()["left_bytes"] == 90
    assert budget.status()["free_again_at"] is None


async def test_what_nobody_waits_for_leaves_a_tenth_and_is_refused_in_silence(
    caplog: pytest.LogCaptureFixture,
) -> None:
    budget = egress(None, [1e9])
    await budget.pay(50, is_wanted=False)
    with pytest.raises(QuotaExceeded):
        await budget.pay(41, is_wanted=False)
    await budget.pay(40, is_wanted=False)
    assert "used up" not in caplog.text
    await budget.pay(10)
    with pytest.raises(QuotaExceeded):
        await budget.pay(1)


async def test_a_request_that_came_to_nothing_is_given_back() -> None:
    class Nothing:
        async def fetch(self, request: RangeRequest, delivery: Delivery) -> Outcome:
            return Outcome(None, None, body_bytes=3)

    budget = egress(None, [1e9])
    transport = cast(CurlTransport, Nothing())
    request = RangeRequest("https://x", ByteRange(0, 80), None, 1.0)
    part = Part(request.span, None, wanted=True, deadline_s=0.0)
    for _ in range(5):
        race = Race(transport, budget, HostTimes(), VersionPin(80), lambda *_: None, time.monotonic)
        await race.run(request, part)
    assert budget.status()["left_bytes"] == 100 - 5 * 3


async def test_what_was_spent_is_kept_and_counted_together(tmp_path: Path) -> None:
    now_s = [1e9]
    path = tmp_path / "egress" / "x.json"
    one, two = egress(path, now_s), egress(path, now_s)
    await one.pay(60)
    one.give_back(20)
    await two.pay(10)
    assert two.status()["left_bytes"] == 30  # what came back is told with the next request
    await one.share()
    assert one.status()["left_bytes"] == 50
    await two.pay(50)
    with pytest.raises(QuotaExceeded):
        await one.pay(1)
    now_s[0] += 2 * 3600
    await one.pay(1)
    assert json.loads(path.read_text()) == {str(int(now_s[0] // 150)): 1}
    assert egress(path, now_s).status()["left_bytes"] == 100  # it asks when it pays
    later = egress(path, now_s)
    await later.share()
    assert later.status()["left_bytes"] == 99


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(1, 60), st.integers(0, 60), st.booleans()),
        max_size=40,
    )
)
def test_together_they_never_spend_more_than_the_last_request_over(
    payments: list[tuple[int, int, int, bool]],
) -> None:
    async def spend() -> None:
        mounts = [egress(Path(home) / "book", [1e9], most=500) for _ in range(3)]
        spent = 0
        for who, count, back, is_wanted in payments:
            before = spent
            try:
                await mounts[who].pay(count, is_wanted=is_wanted)
            except QuotaExceeded:
                assert before >= 500 if is_wanted else before + count > 450
                continue
            assert before < 500
            spent += count - min(back, count)
            mounts[who].give_back(min(back, count))
            await mounts[who].share()
        assert spent < 500 + 60

    with tempfile.TemporaryDirectory() as home:
        trio.run(spend)


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}', '{"1": []}', "\0\0"])
async def test_a_damaged_book_begins_anew(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    budget = egress(path, [1e9])
    await budget.pay(1)
    await budget.pay(1)
    assert budget.status()["left_bytes"] == 98
    assert len(caplog.records) == 1


async def test_where_nothing_can_be_noted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    budget = egress(tmp_path / "file" / "x.json", [1e9])
    for _ in range(3):
        await budget.pay(10)
    assert budget.status()["left_bytes"] == 70
    assert len(caplog.records) == 1


async def test_a_disk_that_hangs_holds_up_one_request_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("up42fs.store.egress.spending.BOOK_TIMEOUT_S", 0.1)
    path = tmp_path / "x.json"
    budget = egress(path, [1e9])
    with path.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        await budget.pay(10)
        await budget.pay(10)
    assert budget.status()["left_bytes"] == 80
    assert len(caplog.records) == 1

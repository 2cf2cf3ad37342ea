"""One pace for all processes of an account: the file, whatever it holds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from up42fs.api.shared_pace import PaceBook
from up42fs.api.transport import ApiTransport, Call, Limits
from up42fs.metrics import Metrics
from up42fs.net.pacing import LONGEST_PAUSE_S, Pace, Rate, plausible
from up42fs.net.retry import Plane

RATE = Rate(per_s=10.0, burst=4)


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def books(tmp_path: Path, count: int) -> tuple[list[PaceBook], Clock]:
    clock = Clock()
    return [PaceBook(tmp_path / "c" / "pace" / "a", clock) for _ in range(count)], clock


@pytest.mark.claim("S273")
@settings(max_examples=30)  # each opens a file many times
@given(st.lists(st.tuples(st.integers(0, 4), st.floats(0, 1)), min_size=1, max_size=60))
def test_processes_together_keep_the_rate(
    tmp_path_factory: pytest.TempPathFactory, calls: list[tuple[int, float]]
) -> None:
    several, clock = books(tmp_path_factory.mktemp("pace"), 5)
    sent = []
    for who, pause_s in calls:
        clock.now_s += pause_s
        sent.append(clock.now_s + several[who].admit(RATE, 1e9))
    sent.sort()
    for first, moment_s in enumerate(sent):
        within = sum(moment_s <= other <= moment_s + 1.0 for other in sent[first:])
        assert within <= RATE.burst + RATE.per_s + 1


@pytest.mark.claim("S273")
def test_a_pause_holds_all(tmp_path: Path) -> None:
    (one, two), clock = books(tmp_path, 2)
    one.pause(RATE, 7.0)
    assert two.is_paused(RATE)
    assert two.admit(RATE, 1e9) >= 7.0
    clock.now_s += 8.0
    assert not two.is_paused(RATE)


def test_too_long_a_wait_reserves_nothing(tmp_path: Path) -> None:
    (one, two), _ = books(tmp_path, 2)
    one.pause(RATE, 7.0)
    assert [round(two.admit(RATE, 1.0), 6) for _ in range(3)] == [7.0] * 3


@pytest.mark.parametrize(
    "text",
    [b"", b"{}", b"[1]", b"\0" * 99, b'{"boot": "another", "arrival": 1e9, "paused": 1e9}'],
)
def test_what_is_no_pace_stops_nobody(tmp_path: Path, text: bytes) -> None:
    (one,), _ = books(tmp_path, 1)
    one.admit(RATE, 1.0)
    one.path.write_bytes(text)
    assert one.admit(RATE, 1.0) == 0.0


def test_a_pace_that_cannot_be_stops_nobody(tmp_path: Path) -> None:
    (one,), _ = books(tmp_path, 1)
    one.admit(RATE, 1.0)
    found = json.loads(one.path.read_bytes())
    one.path.write_text(json.dumps(found | {"arrival": 1e12, "paused": 1e12}))
    assert one.admit(RATE, 1.0) == 0.0


@given(st.floats(0, 1e6), st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_plausible(now_s: float, arrival_s: float, paused_s: float) -> None:
    found = plausible(Pace(arrival_s, paused_s), RATE, now_s)
    assert found.paused_until_s <= now_s + LONGEST_PAUSE_S


def test_the_file_is_private(tmp_path: Path) -> None:
    (one,), _ = books(tmp_path, 1)
    one.admit(RATE, 1.0)
    assert one.path.stat().st_mode & 0o777 == 0o600
    assert one.path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.claim("S273")
def test_processes_at_once_lose_no_reservation(tmp_path: Path) -> None:
    path = tmp_path / "pace" / "a"
    script = (
        "import sys; from pathlib import Path; from up42fs.api.shared_pace import PaceBook;"
        "from up42fs.net.pacing import Rate; book = PaceBook(Path(sys.argv[1]));"
        "print(max(book.admit(Rate(1.0, 1), 1e9) for _ in range(50)))"
    )
    command = [sys.executable, "-c", script, str(path)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    waits = [float(one.communicate()[0]) for one in running]
    # 150 requests at one a second; some seconds have passed since the first.
    assert 149 - 60 < max(waits) <= 149


@pytest.mark.claim("S273")
async def test_a_refusal_pauses_the_other_process(tmp_path: Path) -> None:
    """Two transports, as two processes have them: one is told to wait, both do."""
    refused = True

    def answer(_: httpx.Request) -> httpx.Response:
        nonlocal refused
        if refused:
            refused = False
            return httpx.Response(429, headers={"Retry-After": "1"}, json={})
        return httpx.Response(200, json={"ok": 1})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        paces = [PaceBook(tmp_path / "pace" / "a") for _ in range(2)]
        one, two = (
            ApiTransport(http, plane=Plane.API, metrics=Metrics(), limits=Limits(book=book))
            for book in paces
        )
        call = Call("listing", "GET", "https://api.example/x")
        await one.fetch(call)  # refused, then answered after the pause
        paces[0].pause(Limits().rate, 0.5)
        began_s = trio.current_time()
        await two.fetch(call)
        assert trio.current_time() - began_s >= 0.4


async def test_a_book_that_fails_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    http = httpx.AsyncClient(
        transport=httpx.MockTransport(lambda _: httpx.Response(200, json={"ok": 1}))
    )
    async with http:
        limits = Limits(book=PaceBook(tmp_path / "file" / "pace" / "a"))
        transport = ApiTransport(http, plane=Plane.API, metrics=Metrics(), limits=limits)
        for _ in range(2):
            answer = await transport.fetch(Call("listing", "GET", "https://api.example/x"))
            assert answer.document == {"ok": 1}

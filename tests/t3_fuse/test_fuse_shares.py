"""The leader's time between readers and storms of lookups."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from up42fs.fuse.load import (
    BURST_S,
    KEPT_SHARE,
    MOST_PAUSE_S,
    QUANTUM_S,
    STORMS_SHARE,
    WINDOW_S,
    Shares,
)

READ_S = 0.000_5
READER = 1


class Thread:
    """A thread that answers a reader's next request whenever it has nothing else to do."""

    def __init__(self, read_s: float = READ_S, idle_s: float = 0.0) -> None:
        self.shares = Shares()
        self.now_s = 100.0
        self.reads_s = 0.0
        self._read_s, self._idle_s = read_s, idle_s

    def read_until(self, until_s: float) -> None:
        while self.now_s < until_s:
            self._serve(READER, self._read_s, is_read=True)
            self.reads_s += self._read_s
            self.now_s += self._idle_s

    def ask(self, client: int, seconds: float) -> float:
        """Answer a request of `client`, after its pause; returns that."""
        pause_s = self.shares.pause_s(client, self.now_s)
        self.read_until(self.now_s + pause_s)
        self._serve(client, seconds, is_read=False)
        return pause_s

    def _serve(self, client: int, seconds: float, *, is_read: bool) -> None:
        self.now_s += seconds
        self.shares.took(client, seconds, self.now_s, is_read=is_read)


@settings(max_examples=40)
@given(st.lists(st.floats(0.000_01, 0.02), min_size=1, max_size=5), st.integers(1, 4))
def test_storms_get_their_share_beside_a_reader_that_uses_the_thread(
    costs: list[float], clients: int
) -> None:
    thread = Thread()
    thread.read_until(thread.now_s + 2 * WINDOW_S)
    began_s, thread.reads_s, turn = thread.now_s, 0.0, 0
    while thread.now_s < began_s + 4.0:
        assert 0.0 <= thread.ask(10 + turn % clients, costs[turn % len(costs)]) <= MOST_PAUSE_S
        turn += 1
    took_s = thread.now_s - began_s
    # What a client used is forgotten bit by bit, so each has some of its burst again.
    free_share = 2 * clients * BURST_S * (1 - KEPT_SHARE) / WINDOW_S
    one_each = max(costs) / (max(costs) + MOST_PAUSE_S)
    most_s = (max(STORMS_SHARE, one_each) + free_share) * took_s
    assert took_s - thread.reads_s <= most_s + clients * (BURST_S + max(costs)) + QUANTUM_S


@settings(max_examples=40)
@given(st.floats(0.000_01, 0.000_5))
def test_a_storm_goes_on_all_the_time(cost_s: float) -> None:
    thread = Thread()
    thread.read_until(thread.now_s + 2 * WINDOW_S)
    began_s, asked = thread.now_s, 0
    while thread.now_s < began_s + 2.0:
        thread.ask(10, cost_s)
        asked += 1
    assert asked * cost_s >= 0.04 * 2.0


@pytest.mark.claim("S123")
@given(st.integers(1, 60))
def test_small_listings_never_pause(requests: int) -> None:
    """Whatever storms there are beside them."""
    thread = Thread()
    thread.read_until(thread.now_s + 2 * WINDOW_S)
    for _ in range(200):
        thread.ask(10, 0.000_3)
    for _ in range(requests):
        assert thread.ask(11, 0.000_05) == 0.0


@given(st.floats(0.000_01, 0.01))
def test_without_readers_nobody_pauses(cost_s: float) -> None:
    thread = Thread()
    for _ in range(300):
        assert thread.shares.pause_s(10, thread.now_s) == 0.0
        thread._serve(10, cost_s, is_read=False)


def test_a_reader_that_waits_for_its_line_makes_nobody_pause() -> None:
    """25 MB/s in pieces of a megabyte: half a percent of the thread."""
    thread = Thread(idle_s=0.04)
    thread.read_until(thread.now_s + 1.0)
    assert all(thread.ask(10, 0.000_3) == 0.0 for _ in range(300))


def test_the_pauses_end_with_the_reads() -> None:
    thread = Thread()
    thread.read_until(thread.now_s + 2 * WINDOW_S)
    assert any(thread.ask(10, 0.000_3) for _ in range(300))
    for _ in range(1000):
        thread._serve(10, 0.000_3, is_read=False)
    assert thread.shares.pause_s(10, thread.now_s) == 0.0


def test_clients_are_forgotten() -> None:
    thread = Thread()
    for client in range(10_000):
        thread.ask(client, 0.000_02)
    assert len(thread.shares._used_s) < 200 + 2 * WINDOW_S / 0.000_02

"""Leases: one signing however many readers, renewed ahead, dropped when refused, never shown."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from up42fs.errors import DeadlineExceeded, Unavailable
from up42fs.metrics import Metrics
from up42fs.store.http.links import MOST_LEASES, Leases
from up42fs.store.http.tally import Tallies
from up42fs.types import SignedUrl


class Signer:
    def __init__(self, life_s: float = 300.0, takes_s: float = 1.0) -> None:
        self.calls: list[str] = []
        self.life_s = life_s
        self.takes_s = takes_s
        self.error: Exception | None = None

    async def __call__(self, object_id: str) -> SignedUrl:
        self.calls.append(object_id)
        number = len(self.calls)
        await trio.sleep(self.takes_s)
        if self.error is not None:
            raise self.error
        return SignedUrl(f"https://store/{object_id}?Signature=secret{number}", self.life_s)


def leases(nursery: trio.Nursery, signer: Signer, metrics: Metrics | None = None) -> Leases:
    return Leases(nursery, signer, Tallies(metrics or Metrics()), trio.current_time)


async def test_many_readers_cause_one_signing(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    signer = Signer()
    book = leases(nursery, signer)
    urls: list[str] = []

    async def reader() -> None:
        urls.append((await book.get("a")).url)

    async with trio.open_nursery() as readers:
        for _ in range(50):
            readers.start_soon(reader)
    assert signer.calls == ["a"]
    assert len(set(urls)) == 1
    await book.get("b")
    assert signer.calls == ["a", "b"]


async def test_life_counts_from_before_the_signing(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    signer = Signer(life_s=100, takes_s=20)
    before = trio.current_time()
    lease = await leases(nursery, signer).get("a")
    assert lease.expires_at_s == before + 100


async def test_renewal_happens_ahead_and_behind_the_reader(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    signer, metrics = Signer(), Metrics()
    book = leases(nursery, signer, metrics)
    first = await book.get("a")
    await trio.sleep(230)
    assert await book.get("a") is first
    assert signer.calls == ["a"]
    await trio.sleep(15)  # within 60 s of the end
    assert await book.get("a") is first
    assert await book.get("a") is first
    await trio.sleep(2)
    assert signer.calls == ["a", "a"]
    assert await book.get("a") is not first
    assert metrics["store.signs"] == 2
    assert metrics["store.renewals"] == 1


async def test_an_unused_lease_is_not_renewed(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    signer = Signer()
    book = leases(nursery, signer)
    await book.get("a")
    await trio.sleep(100_000)
    assert signer.calls == ["a"]
    await book.get("a")
    assert signer.calls == ["a", "a"]


async def test_sleeping_machines_end_leases(nursery: trio.Nursery) -> None:
    now = [0.0]
    signer = Signer(takes_s=0)
    book = Leases(nursery, signer, Tallies(Metrics()), lambda: now[0])
    await book.get("a")
    now[0] += 301
    await book.get("a")
    assert signer.calls == ["a", "a"]


async def test_only_the_refused_lease_is_discarded(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    signer = Signer()
    book = leases(nursery, signer)
    first = await book.get("a")
    book.discard("a", first)
    second = await book.get("a")
    assert second is not first
    book.discard("a", first)  # a second reader learns late
    assert await book.get("a") is second
    assert signer.calls == ["a", "a"]


async def test_a_failed_signing_reaches_all_and_is_tried_again(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    signer = Signer()
    signer.error = Unavailable("scene.tif: UP42 is down")
    book = leases(nursery, signer)
    raised: list[str] = []

    async def reader() -> None:
        with pytest.raises(Unavailable, match="is down") as caught:
            await book.get("a")
        raised.append(str(caught.value))

    async with trio.open_nursery() as readers:
        for _ in range(5):
            readers.start_soon(reader)
    assert len(raised) == 5
    assert signer.calls == ["a"]
    signer.error = None
    assert (await book.get("a")).url


async def test_a_failed_early_renewal_leaves_the_old_lease_and_is_not_hammered(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    signer = Signer(takes_s=0.1)
    book = leases(nursery, signer)
    first = await book.get("a")
    await trio.sleep(245)
    signer.error = Unavailable("down")
    for _ in range(20):
        assert (await book.get("a")).url == first.url
        await trio.sleep(0.2)
    assert signer.calls == ["a"] * 2
    book.discard("a", first)  # still the one in force, by its link
    signer.error = None
    assert (await book.get("a")).url != first.url


async def test_a_signer_that_never_answers_has_a_deadline(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    book = leases(nursery, Signer(takes_s=10_000))
    with pytest.raises(DeadlineExceeded, match="signing a link to a took longer"):
        await book.get("a")


async def test_a_link_dead_on_arrival_is_still_tried_once(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    signer = Signer(life_s=0)
    book = leases(nursery, signer)
    assert (await book.get("a")).url.endswith("secret1")
    assert (await book.get("a")).url.endswith("secret2")


@pytest.mark.claim("S80")
async def test_nothing_shows_a_link(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    lease = await leases(nursery, Signer()).get("a")
    assert "secret" in lease.url
    assert "secret" not in repr(lease)
    assert "http" not in str(lease)


async def test_leases_are_bounded_and_droppable(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    signer = Signer(takes_s=0, life_s=1e9)
    book = leases(nursery, signer)
    for number in range(MOST_LEASES + 1):
        await book.get(str(number))
    await book.get("1")
    assert len(signer.calls) == MOST_LEASES + 1
    await book.get("0")
    assert len(signer.calls) == MOST_LEASES + 2
    book.drop_all()
    await book.get("1")
    assert len(signer.calls) == MOST_LEASES + 3


async def test_a_link_given_away_works_for_a_while(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    signer = Signer()
    book = leases(nursery, signer)
    began_s = trio.current_time()
    first = await book.lasting("a", 15)
    while trio.current_time() < began_s + 3 * signer.life_s:
        lease = await book.lasting("a", 15)
        assert lease.expires_at_s - trio.current_time() >= 14
        await trio.sleep(0.5)
    # The same link until its renewal is due, however many ask.
    assert len(signer.calls) <= 5
    assert first.life_s == signer.life_s


async def test_a_short_link_is_given_away_in_its_first_two_thirds(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    signer = Signer(life_s=3.0, takes_s=0.01)
    book = leases(nursery, signer)
    for _ in range(200):
        lease = await book.lasting("a", 15)
        assert lease.expires_at_s - trio.current_time() >= 0.98
        await trio.sleep(0.05)
    assert len(signer.calls) <= 6  # 10 s


async def test_a_link_that_still_works_is_given_away_while_up42_is_down(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    signer = Signer()
    book = leases(nursery, signer)
    first = await book.lasting("a", 15)
    await trio.sleep(290)
    signer.error = Unavailable("UP42 is down")
    assert (await book.lasting("a", 15)).url == first.url
    await trio.sleep(20)
    with pytest.raises(Unavailable):
        await book.lasting("a", 15)


async def test_a_lease_is_at_hand_until_it_is_due_for_renewal(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    signer = Signer(life_s=300.0)
    leases = Leases(nursery, signer, Tallies(Metrics()), trio.current_time)
    assert not leases.holds("a")
    await leases.get("a")
    assert leases.holds("a")
    await trio.sleep(230)
    assert leases.holds("a")
    await trio.sleep(20)
    assert not leases.holds("a")
    assert signer.calls == ["a"], "asking signs nothing"

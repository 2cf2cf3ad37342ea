"""A slow failure is told again to whoever asks again at once, and to nobody else."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from store_script import Fault, bench

from up42fs.errors import DeadlineExceeded
from up42fs.store.handle import REPEATED_S, FailedReads
from up42fs.store.members.extent import StoredObject
from up42fs.types import ByteRange

ERROR = DeadlineExceeded("scene.tif: too slow")


def is_told(failures: FailedReads, wanted: ByteRange, now_s: float) -> bool:
    try:
        failures.check(wanted, now_s)
    except DeadlineExceeded as error:
        return error.args == ERROR.args
    return False


def test_the_page_of_a_failed_request_fails_at_once() -> None:
    failures = FailedReads()
    failures.note(ByteRange(0, 1 << 20), ERROR, began_at_s=0.0, now_s=30.0)
    failures.note(ByteRange(1 << 20, 2 << 20), ERROR, began_at_s=0.0, now_s=30.1)
    assert is_told(failures, ByteRange(4096, 8192), 30.2)
    assert is_told(failures, ByteRange(1 << 20, (1 << 20) + 4096), 30.2)
    assert not is_told(failures, ByteRange(3 << 20, 4 << 20), 30.2)


def test_what_failed_at_once_may_be_asked_again_at_once() -> None:
    failures = FailedReads()
    failures.note(ByteRange(0, 10), ERROR, began_at_s=5.0, now_s=5.5)
    assert not is_told(failures, ByteRange(0, 10), 5.5)


@given(
    noted=st.tuples(st.integers(0, 50), st.integers(1, 50)),
    asked=st.tuples(st.integers(0, 50), st.integers(1, 50)),
    later_s=st.floats(0, 3),
)
def test_only_the_same_bytes_and_only_for_a_moment(
    noted: tuple[int, int], asked: tuple[int, int], later_s: float
) -> None:
    failures = FailedReads()
    failures.note(ByteRange(noted[0], sum(noted)), ERROR, began_at_s=0.0, now_s=30.0)
    overlap = noted[0] < sum(asked) and asked[0] < sum(noted)
    told = is_told(failures, ByteRange(asked[0], sum(asked)), 30.0 + later_s)
    assert told == (overlap and 30.0 + later_s - 30.0 < REPEATED_S)


@pytest.mark.claim("S25")
async def test_a_read_does_not_wait_twice(
    nursery: trio.Nursery, autojump_clock: trio.abc.Clock
) -> None:
    """Through the store: the second asker of a page hears at once what the first waited for."""
    b = bench(nursery, {"a": bytes(1 << 20)}, lambda _: Fault(wait_s=1000))
    handle = b.files.open(StoredObject("a", 1 << 20, "scene.tif"))
    with pytest.raises(DeadlineExceeded):
        await handle.read(0, 131072)
    failed_at_s, requests = trio.current_time(), len(b.script.requests)
    with pytest.raises(DeadlineExceeded):
        await handle.read(0, 4096)
    assert trio.current_time() == failed_at_s
    assert len(b.script.requests) == requests

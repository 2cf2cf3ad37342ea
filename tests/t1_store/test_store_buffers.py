"""Memory that is lent, and comes back when nobody can see it any more."""

from __future__ import annotations

import gc

from hypothesis import given
from hypothesis import strategies as st

from up42fs.store.buffers import MAPPED_BYTES, SLACK_BYTES, STEP_BYTES, Buffers, capacity

MIB = 1 << 20


def test_memory_comes_back_when_the_last_view_of_it_goes() -> None:
    buffers = Buffers(8 * MIB)
    buffer = buffers.take(MIB)
    buffer[:3] = b"abc"
    reply = buffer[1:3].toreadonly()
    del buffer
    assert buffers.idle_bytes == 0, "a reply on its way to the kernel still shows it"
    assert bytes(reply) == b"bc"
    other = buffers.take(MIB)
    other[1:3] = b"xy"
    assert bytes(reply) == b"bc"
    del reply
    assert buffers.idle_bytes == MIB
    assert bytes(buffers.take(MIB)[1:3]) == b"bc", "the same memory, as it was left"
    assert bytes(other[1:3]) == b"xy"


def test_small_buffers_are_not_kept() -> None:
    buffers = Buffers(8 * MIB)
    assert len(buffers.take(MAPPED_BYTES - 1)) == MAPPED_BYTES - 1 + SLACK_BYTES
    assert buffers.idle_bytes == 0


@given(st.lists(st.tuples(st.integers(1, 6 * MIB), st.integers(0, 5)), min_size=1, max_size=40))
def test_idle_memory_is_bounded_and_never_lent_twice(steps: list[tuple[int, int]]) -> None:
    buffers = Buffers(8 * MIB)
    lent: list[memoryview] = []
    for number, (size, drop) in enumerate(steps):
        buffer = buffers.take(size)
        assert len(buffer) == size + SLACK_BYTES
        buffer[:8] = number.to_bytes(8, "little")[: len(buffer)]
        lent.append(buffer)
        del lent[: max(0, len(lent) - drop)]
        del buffer
        assert buffers.idle_bytes <= 8 * MIB
    marks = [int.from_bytes(buffer[:8], "little") for buffer in lent if len(buffer) >= 8]
    assert len(set(marks)) == len(marks)
    lent.clear()
    gc.collect()
    assert buffers.idle_bytes <= 8 * MIB


def test_sizes_that_went_out_of_use_make_room() -> None:
    buffers = Buffers(8 * MIB)
    held = [buffers.take(2 * MIB) for _ in range(4)]
    held.clear()
    assert buffers.idle_bytes == 8 * MIB
    held = [buffers.take(MIB)]
    held.clear()
    assert buffers.idle_bytes == MIB


def test_what_is_lent_counts_too() -> None:
    buffers = Buffers(8 * MIB)
    held = [buffers.take(2 * MIB) for _ in range(5)]
    del held[:2]
    assert (buffers.lent_bytes, buffers.idle_bytes) == (6 * MIB, 2 * MIB)
    held += [buffers.take(2 * MIB) for _ in range(2)]
    assert (buffers.lent_bytes, buffers.idle_bytes) == (10 * MIB, 0)
    del held[:1]
    assert (buffers.lent_bytes, buffers.idle_bytes) == (8 * MIB, 0), "no more than is allowed"
    held.clear()
    assert (buffers.lent_bytes, buffers.idle_bytes) == (0, 8 * MIB)


@given(st.integers(1, 64 * MIB))
def test_capacity_is_little_more_than_the_size(size: int) -> None:
    assert size <= capacity(size) < size + (STEP_BYTES if size > STEP_BYTES else MAPPED_BYTES)

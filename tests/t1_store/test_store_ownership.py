"""Whose memory it is: parts, late writers and answers on their way, in every order.

A model of what `transport` and `race` may do, with the real parts, buffers, deliveries and
attempts: requests begin, bytes are put in their place, requests are given up with or without proof
that their writer is gone, another answer's bytes are copied over, parts end, answers are handed
out. Writers that were given up go on writing rubbish for as long as they like, as C would: from
where they are on, and a zero behind it.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Callable
from dataclasses import dataclass

import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from up42fs.store.buffers import MAPPED_BYTES, Buffers
from up42fs.store.http.answer import Delivery, RangeRequest, VersionPin
from up42fs.store.http.driver import Attempt
from up42fs.store.part import Part
from up42fs.types import ByteRange

TRUTH = random.Random(5).randbytes(3 * MAPPED_BYTES)
ALL = ByteRange(0, len(TRUTH))
#: Mapped ones are used again, small ones are not.
SPANS = (ByteRange(0, MAPPED_BYTES), ByteRange(100, MAPPED_BYTES + 7), ByteRange(7, 90), ALL)


class Keeper:
    def let_go(self, part: Part) -> None: ...

    def may_go(self) -> None: ...


@dataclass(eq=False)
class Writer:
    """A request and where its thread is: `at` bytes of the body are written to `place`."""

    attempt: Attempt
    delivery: Delivery
    asked: ByteRange
    place: memoryview
    at: int = 0

    def write(self, count: int, *, rubbish: bool) -> None:
        """As `fwrite` does: bytes, and a zero behind them if there is room."""
        stop = min(self.at + count, len(self.place) - 1)
        start = self.asked.start
        data = TRUTH[start + self.at : start + stop]
        self.place[self.at : stop] = b"\xaa" * (stop - self.at) if rubbish else data
        self.at = stop
        self.place[stop] = 0


class Ownership(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.buffers = Buffers(6 * MAPPED_BYTES)
        self.part: Part | None = None
        self.writer: Writer | None = None
        self.late: list[Writer] = []
        self.replies: list[tuple[int, memoryview]] = []

    def _in_trio(self, make: Callable[[], Part]) -> Part:
        async def main() -> Part:
            return make()

        return trio.run(main)

    @precondition(lambda self: self.part is None)
    @rule(span=st.sampled_from(SPANS))
    def begin_part(self, span: ByteRange) -> None:
        self.part = self._in_trio(lambda: Part(span, Keeper(), wanted=True, deadline_s=0))
        self.part.begin(self.buffers)

    @precondition(lambda self: self.part and self.part.missing and not self.writer)
    @rule(share=st.floats(0.01, 1))
    def begin_request(self, share: float) -> None:
        """For what is missing, or, as `disk_first` does, for its beginning."""
        assert self.part is not None
        rest = self.part.missing
        assert rest is not None
        asked = ByteRange(rest.start, rest.start + max(1, int(len(rest) * share)))
        delivery = Delivery(asked, VersionPin(len(TRUTH)), self.part)
        attempt = Attempt(RangeRequest("x", asked, None, 9), delivery, 9, lambda: None)
        content_range = f"bytes {asked.start}-{asked.stop - 1}/{len(TRUTH)}"
        for line in (
            "HTTP/1.1 206 Partial Content",
            f"Content-Range: {content_range}",
            f"Content-Length: {len(asked)}",
            "",
        ):
            assert attempt.on_header(f"{line}\r\n".encode())
        assert isinstance(attempt.place, memoryview)
        self.writer = Writer(attempt, delivery, asked, attempt.place)
        self.writer.place[0] = 0  # as `fmemopen` does

    @precondition(lambda self: self.writer)
    @rule(count=st.integers(0, 2 * MAPPED_BYTES), is_told=st.booleans())
    def write(self, count: int, is_told: bool) -> None:
        assert self.writer is not None
        self.writer.write(count, rubbish=False)
        if is_told:
            self.writer.attempt.on_placed(self.writer.at)

    @precondition(lambda self: self.writer)
    @rule(is_gone=st.booleans())
    def give_up(self, is_gone: bool) -> None:
        """As `transport._end` does."""
        assert self.writer is not None
        writer, self.writer = self.writer, None
        writer.attempt.cut()
        if not is_gone:
            writer.delivery.abandon()
            self.late.append(writer)

    @precondition(lambda self: self.late)
    @rule(data=st.data(), count=st.integers(0, 2 * MAPPED_BYTES), ends=st.booleans())
    def write_late(self, data: st.DataObject, count: int, ends: bool) -> None:
        writer = data.draw(st.sampled_from(self.late))
        writer.write(count, rubbish=True)
        writer.attempt.on_placed(writer.at)
        if ends:
            self.late.remove(writer)

    @precondition(lambda self: self.part and self.part.missing and not self.writer)
    @rule(count=st.integers(1, MAPPED_BYTES))
    def copy_over(self, count: int) -> None:
        """Bytes of the other request of a race."""
        assert self.part is not None
        rest = self.part.missing
        assert rest is not None
        assert self.part.write(TRUTH[rest.start : min(rest.start + count, rest.stop)])

    @precondition(lambda self: self.part and self.part.filled)
    @rule(share=st.floats(0, 0.9))
    def hand_out(self, share: float) -> None:
        assert self.part is not None
        start = self.part.span.start + int(self.part.filled * share)
        view = self.part.view(ByteRange(start, self.part.span.start + self.part.filled))
        self.replies.append((start, view))

    @precondition(lambda self: self.replies)
    @rule()
    def answer(self) -> None:
        self.replies.pop(0)

    @precondition(lambda self: self.part and not self.writer)
    @rule()
    def end_part(self) -> None:
        assert self.part is not None
        self.part.finish(None)
        self.part = None
        gc.collect(0)

    @precondition(lambda self: self.part is None)
    @rule(size=st.sampled_from([len(span) for span in SPANS]))
    def lend_elsewhere(self, size: int) -> None:
        """Memory that is lent anew is nobody else's."""
        buffer = self.buffers.take(size)
        buffer[:size] = b"\x55" * size
        for writer in self.late:
            writer.write(1, rubbish=True)
        assert bytes(buffer[:size]) == b"\x55" * size
        self.check()

    @invariant()
    def check(self) -> None:
        if self.part is not None:
            start, filled = self.part.span.start, self.part.filled
            assert filled <= len(self.part.span)
            there = self.part.peek(ByteRange(start, start + filled)) if filled else b""
            assert bytes(there) == TRUTH[start : start + filled]
        for start, reply in self.replies:
            assert bytes(reply) == TRUTH[start : start + len(reply)]


Ownership.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
test_ownership = Ownership.TestCase

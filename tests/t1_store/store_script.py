"""A signer and an object store in memory, scripted request by request; time is trio's clock."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar, cast

import trio

from up42fs.deadlines import note
from up42fs.errors import Up42fsError
from up42fs.metrics import Metrics
from up42fs.net.retry import FailureKind
from up42fs.store.disk.cache import Runner, in_thread
from up42fs.store.http.answer import Delivery, Outcome, RangeRequest, ResponseHead
from up42fs.store.http.transport import CurlTransport
from up42fs.store.members.inflate.inflaters import to_its_end
from up42fs.store.settings import StoreSettings
from up42fs.store.store import FileStore
from up42fs.types import ByteRange, SignedUrl, Version

CHUNK = 16 << 10
T = TypeVar("T")


def pattern(size: int, seed: int = 1) -> bytes:
    """Bytes that differ at every offset that matters."""
    return random.Random(seed).randbytes(size)


@dataclass
class Line:
    """A line that all requests share, one chunk each in turn; `bytes_s` in all."""

    bytes_s: float
    sent_bytes: int = 0
    #: When it lay idle since its first byte, and for how long, seconds.
    gaps: list[tuple[float, float]] = field(default_factory=list)
    _free_at_s: float | None = None

    async def carry(self, count: int) -> None:
        """Return once so many bytes have come."""
        now_s = trio.current_time()
        free_at_s = now_s if self._free_at_s is None else self._free_at_s
        if now_s - free_at_s > 1e-6:
            self.gaps.append((free_at_s, now_s - free_at_s))
        self._free_at_s = max(now_s, free_at_s) + count / self.bytes_s
        self.sent_bytes += count
        await trio.sleep_until(self._free_at_s)

    @property
    def idle_s(self) -> float:
        """For how long it lay idle amid the bytes."""
        return sum(seconds for _, seconds in self.gaps)


@dataclass
class Fault:
    """What goes wrong with one request; the defaults are nothing."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    kind: FailureKind | None = None
    after_bytes: int | None = None  # then `kind`
    wait_s: float = 0.0
    hang_s: float = 0.0  # silence after `hang_at` bytes of the body
    hang_at: int = 0
    head: dict[str, str | None] = field(default_factory=dict)  # changed or removed headers


EXPIRED = Fault(status=400, body=b"<Error><Code>ExpiredToken</Code></Error>")


def chaos(seed: int, share: float) -> Callable[[int], Fault | None]:
    """A fault for every request by chance, so long as the reads can still succeed."""
    chance = random.Random(seed)

    def decide(_: int) -> Fault | None:
        if chance.random() >= share:
            return None
        cut = chance.randrange(1, 200_000)
        return chance.choice(
            [
                Fault(status=503),
                Fault(status=500, body=b"<html>oops"),
                Fault(status=429, headers={"retry-after": "1"}),
                EXPIRED,
                Fault(kind=FailureKind.BROKEN),
                Fault(kind=FailureKind.BROKEN, after_bytes=cut),
                Fault(kind=FailureKind.STALLED, after_bytes=cut, wait_s=2),
                Fault(kind=FailureKind.STALLED, wait_s=3),
                Fault(head={"content-range": "bytes 0-9/10000"}, wait_s=0.2),
                Fault(head={"content-length": "3"}),
                Fault(head={"content-length": None}, kind=FailureKind.BROKEN, after_bytes=cut),
                Fault(wait_s=1.0),
            ]
        )

    return decide


class ScriptedStore:
    """Both the signer and the transport. `faults(n)` decides about the n-th request, from 0."""

    def __init__(self, objects: dict[str, bytes], faults: Callable[[int], Fault | None]) -> None:
        self.objects = dict(objects)
        self.etags = {name: f'"{name}-1"' for name in objects}
        self.faults = faults
        self.requests: list[tuple[str, ByteRange, str | None]] = []
        self.signs: list[str] = []
        self.life_s = 300.0
        self.latency_s = 0.05
        self.chunk_s = 0.001
        self.line: Line | None = None  # with it `chunk_s` does not count
        self.is_line_shared = False  # by all requests under way; else each has a line of its own
        self.active = 0
        self.most_active = 0
        self.resets = 0
        self.sign_error: Exception | None = None
        #: After so many signings one fails, and goes on without an end.
        self.sign_trouble: tuple[int, Up42fsError] | None = None
        self.ignore_conditions = False

    async def sign(self, object_id: str) -> SignedUrl:
        self.signs.append(object_id)
        await trio.sleep(0.01)
        if self.sign_trouble is not None and len(self.signs) > self.sign_trouble[0]:
            note(self.sign_trouble[1])
            await trio.sleep_forever()
        if self.sign_error is not None:
            raise self.sign_error
        ends_s = trio.current_time() + self.life_s
        url = f"https://store/{object_id}?n={len(self.signs)}&ends={ends_s}"
        return SignedUrl(url, self.life_s)

    async def fetch(self, request: RangeRequest, sink: Delivery) -> Outcome:
        object_id = request.url.split("/")[3].split("?")[0]
        number = len(self.requests)
        self.requests.append((object_id, request.span, request.if_match))
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        try:
            with trio.move_on_after(request.timeout_s):
                return await self._answer(request, sink, object_id, self.faults(number) or Fault())
            return Outcome(None, FailureKind.STALLED)
        finally:
            self.active -= 1

    def reset(self) -> None:
        self.resets += 1

    def close(self) -> None:
        self.resets += 1

    async def _answer(
        self, request: RangeRequest, sink: Delivery, object_id: str, fault: Fault
    ) -> Outcome:
        await trio.sleep(self.latency_s + fault.wait_s)
        if fault.status is None and trio.current_time() >= float(request.url.split("ends=")[1]):
            fault = EXPIRED
        if fault.status is not None:
            return Outcome(ResponseHead(fault.status, fault.headers), None, error_body=fault.body)
        if fault.kind is not None and fault.after_bytes is None:
            return Outcome(None, fault.kind)
        data = self.objects.get(object_id)
        if data is None:
            return Outcome(ResponseHead(404, {}), None, error_body=b"<Code>NoSuchKey</Code>")
        etag = self.etags[object_id]
        if request.if_match not in (None, etag) and not self.ignore_conditions:
            return Outcome(ResponseHead(412, {}), None)
        span = request.span
        if span.start >= len(data):
            return Outcome(ResponseHead(416, {"content-range": f"bytes */{len(data)}"}), None)
        body = data[span.start : span.stop]
        headers: dict[str, str] = {
            "content-range": f"bytes {span.start}-{span.start + len(body) - 1}/{len(data)}",
            "content-length": str(len(body)),
            "etag": etag,
        }
        for name, value in fault.head.items():
            headers.pop(name, None)
            if value is not None:
                headers[name] = value
        head = ResponseHead(206, headers)
        return await self._send(head, body, sink, fault)

    async def _send(self, head: ResponseHead, body: bytes, sink: Delivery, fault: Fault) -> Outcome:
        if not sink.begin(head):
            return Outcome(head, None)
        sent = 0
        end = len(body) if fault.after_bytes is None else min(fault.after_bytes, len(body))
        while sent < end:
            if self.line is not None:
                await self.line.carry(min(CHUNK, end - sent))
            else:
                await trio.sleep(self.chunk_s * (self.active if self.is_line_shared else 1))
            if fault.hang_s and sent >= fault.hang_at:
                await trio.sleep(fault.hang_s)
                fault = replace(fault, hang_s=0.0)
            piece = body[sent : min(end, sent + CHUNK)]
            sent += len(piece)
            if not sink.write(piece):
                return Outcome(head, None, sent)
        short = sent < len(body)
        return Outcome(head, (fault.kind or FailureKind.BROKEN) if short else None, sent)

    def asked(self, object_id: str | None = None) -> int:
        return sum(len(s) for name, s, _ in self.requests if object_id in (None, name))


async def inline(job: Callable[[], T], limiter: trio.CapacityLimiter) -> T:
    """Worker threads would let the mock clock run away."""
    async with limiter:
        await trio.lowlevel.checkpoint()
        return job()


@dataclass
class Bench:
    """A file store over a scripted one."""

    script: ScriptedStore
    files: FileStore
    metrics: Metrics
    versions: list[tuple[str, Version | None]]

    def in_memory(self, object_id: str) -> int:
        """Bytes of an object in memory."""
        fetcher = self.files._objects._fetchers.get(object_id)
        return fetcher.cached_bytes if fetcher else 0


def bench(
    nursery: trio.Nursery,
    objects: dict[str, bytes],
    faults: Callable[[int], Fault | None] = lambda _: None,
    run_disk: Runner = in_thread,
    **settings: object,
) -> Bench:
    script = ScriptedStore(objects, faults)
    metrics = Metrics()
    versions: list[tuple[str, Version | None]] = []
    files = FileStore(
        nursery,
        script.sign,
        StoreSettings(**settings),  # type: ignore[arg-type]
        metrics,
        on_version=lambda object_id, version: versions.append((object_id, version)),
        transport=cast(CurlTransport, script),
        clock=trio.current_time,
        chance=random.Random(7),
        run_disk=run_disk,
        run_unpacking=inline if run_disk is inline else to_its_end,
    )
    return Bench(script, files, metrics, versions)

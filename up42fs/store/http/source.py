"""Fetches one part of one object to its end: link, attempts, waits, resumption, errors.

`answer.judge` validates answers, and `net.retry.decide` decides what follows a failure.

Theory. A part is filled from its front. An attempt requests the bytes still missing, so the bytes
of a broken answer are kept. An attempt that brought bytes resets the count of failures: a store
that keeps breaking off but keeps delivering is slow, not down. The deadline is the part's and may
move while the fetch runs (another reader joined), so it is read before every decision. A part that
no reader waits for is given up after two failures; a reader who needs it later fetches it itself. A
412 is not trusted: the same range is requested again without the condition, and that answer's head
shows whether the object changed, and to which version.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from up42fs.deadlines import Trouble, awaiting, note, watched
from up42fs.errors import (
    AccessDenied,
    DeadlineExceeded,
    InvalidAnswer,
    NotFound,
    Offline,
    QuotaExceeded,
    Up42fsError,
    VersionChanged,
)
from up42fs.net.expiry import server_time
from up42fs.net.pacing import retry_after_s
from up42fs.net.retry import TLS_CURE, Fail, Failure, FailureKind, Plane, Renew, blame, decide
from up42fs.store.egress.egress import Egress
from up42fs.store.http.answer import (
    PAGE,
    Delivery,
    Final,
    RangeRequest,
    VersionPin,
    total_of,
    version_of,
)
from up42fs.store.http.links import Lease, Leases
from up42fs.store.http.race import Paces, Race, lacking
from up42fs.store.http.tally import Tally
from up42fs.store.http.transport import CurlTransport
from up42fs.store.part import Part
from up42fs.types import ByteRange

#: Consecutive failures after which a part that no reader waits for is given up.
AHEAD_ATTEMPTS = 2

_CODE = re.compile(rb"<Code>\s*([A-Za-z0-9]{1,64})\s*</Code>")
_CURES: dict[type[Up42fsError], str] = {
    AccessDenied: "check that this account may download it",
    DeadlineExceeded: "try again, the line may be too slow or the store busy",
    InvalidAnswer: "download it from UP42 instead, and report this",
    NotFound: "it may have been deleted",
    Offline: "check the network connection and proxy settings",
    VersionChanged: "open it again to read the new one",
}


@dataclass(frozen=True, slots=True)
class Network:
    """All that the sources of one store share."""

    leases: Leases
    transport: CurlTransport
    egress: Egress | None
    chance: random.Random
    clock: Callable[[], float]
    on_nameless: Callable[[str], None]
    paces: Paces = field(default_factory=Paces)


class NetworkSource:
    """The network source of one object's bytes."""

    keeps = False

    def __init__(
        self, object_id: str, name: str, pin: VersionPin, tally: Tally, network: Network
    ) -> None:
        self.pin = pin
        self._object_id = object_id
        self._name = name
        self._tally = tally
        self._network = network
        self._leases = network.leases
        self._is_conditional = True

    async def fetch(self, part: Part, stop: int | None = None) -> None:
        """Fill `part`, up to offset `stop` if given, or up to the object's end if that comes first.

        Raises an `Up42fsError`, and returns early if the part was stopped.
        """
        attempt, renewed = 0, False
        while (asked := self._lacking(part, stop)) is not None and not part.stopped:
            lease, was_wanted = await self._lease(), part.wanted
            try:
                delivery, conditional = await self._attempt(lease, asked, part)
            except QuotaExceeded:
                if part.wanted and not was_wanted:
                    continue  # the budget refused a prefetch, but by now a reader waits for it
                raise
            rest = self._lacking(part, stop)
            if rest != asked:
                attempt, renewed = 0, False
            if rest is None or part.stopped:
                return
            failure = self._failure(delivery)
            if self.pin.size == 0:  # a 416 reported an empty object: nothing to fetch
                return
            if failure.status == 412:
                if conditional:
                    self._is_conditional = False
                    continue
                failure = Failure(Plane.STORE, FailureKind.GARBLED, code="412 without a condition")
            attempt += 1
            blamed = self.error(blame(failure), explain(failure), _cure(failure))
            if not part.wanted and attempt >= AHEAD_ATTEMPTS:
                raise blamed
            note(blamed)
            renewed = await self._next(failure, attempt, renewed, lease, part)

    def _lacking(self, part: Part, stop: int | None) -> ByteRange | None:
        ends = (one for one in (stop, self.pin.size) if one is not None)
        return lacking(part, min(ends, default=part.span.stop))

    def error(self, error: type[Up42fsError], what: str, cure: str | None = None) -> Up42fsError:
        """An error that names the object and the cure."""
        return error(f"{self._name}: {what}; {cure or _CURES.get(error, 'try again later')}")

    async def _lease(self) -> Lease:
        trouble = Trouble(self._unsigned)
        with awaiting(trouble), watched(trouble):
            try:
                return await self._leases.get(self._object_id)
            except Up42fsError as error:
                raise self._unsigned(error) from error

    def _unsigned(self, error: Up42fsError) -> Up42fsError:
        """The signer's error, with the object's name: the signer knows only its ID."""
        kind = type(error)
        if kind is NotFound and self.pin.version is not None:
            # It existed when it was opened: it vanished since, so the name was not wrong.
            kind = VersionChanged
        return kind(f"{self._name}: {error}")

    async def _attempt(self, lease: Lease, asked: ByteRange, part: Part) -> tuple[Delivery, bool]:
        if_match = self.pin.if_match if self._is_conditional else None
        timeout_s = max(0.1, part.deadline_s - trio.current_time())
        request = RangeRequest(
            lease.url, asked, if_match, timeout_s, part.wanted, to_file=part.is_in_file
        )
        network, pace = self._network, self._network.paces.of(lease.url)
        tally = part.tally or self._tally

        def count(name: str, amount: int) -> None:
            tally.count(f"store.{name}", amount)

        race = Race(network.transport, network.egress, pace, self.pin, count, network.clock)
        began_s = trio.current_time()
        try:
            delivery = await race.run(request, part)
        except InvalidAnswer:  # the link points to a forbidden URL
            self._leases.discard(self._object_id, lease)
            raise
        finally:
            rest = lacking(part, asked.stop)
            stop = asked.stop if rest is None else rest.start
            if stop > asked.start:
                came = ByteRange(asked.start, stop)
                self._tally.fetched.note(came, began_s, trio.current_time())
        if self.pin.version is not None and self.pin.version.is_nameless and self.pin.size:
            self._network.on_nameless(self._name)
        if isinstance(delivery.refused, Final):
            raise self.error(delivery.refused.error, delivery.refused.why)
        return delivery, if_match is not None

    def _failure(self, delivery: Delivery) -> Failure:
        if delivery.refused is not None:
            return Failure(Plane.STORE, FailureKind.GARBLED, code=delivery.refused.why)
        outcome, head = delivery.outcome, delivery.outcome.head
        if head is None or head.status in (200, 206):
            return Failure(Plane.STORE, outcome.kind or FailureKind.BROKEN, code=outcome.why)
        total = total_of(head) if head.status == 416 else None
        if head.status == 416 and self.pin.size is None:
            total = 0  # its first byte was requested, and there is none (contract §6)
        if total is not None and total != self.pin.size:
            self.pin.settle(version_of(total, head.headers))
        code = _CODE.search(outcome.error_body)
        return Failure(
            Plane.STORE,
            FailureKind.STATUS,
            status=head.status,
            code=code.group(1).decode() if code else None,
            retry_after_s=retry_after_s(
                head.headers.get("retry-after"), server_time(head.headers.get("date"))
            ),
        )

    async def _next(
        self, failure: Failure, attempt: int, renewed: bool, lease: Lease, part: Part
    ) -> bool:
        """Wait or renew the link; return whether a fresh link was tried. Raises final errors."""
        verdict = decide(
            failure,
            attempt=attempt,
            renewed=renewed,
            remaining_s=part.deadline_s - trio.current_time(),
            jitter=self._network.chance.random(),
        )
        if isinstance(verdict, Renew):
            self._leases.discard(self._object_id, lease)
            note(None)  # only the link had expired
            return True
        if isinstance(verdict, Fail):
            error = verdict.error
            if failure.kind in (
                FailureKind.UNREACHABLE,
                FailureKind.TLS,
            ):  # a new link may lead to another host
                self._leases.discard(self._object_id, lease)
            if error is NotFound and self.pin.version is not None:
                error = VersionChanged
            raise self.error(error, explain(failure), _cure(failure))
        (part.tally or self._tally).count("store.retries")
        await trio.sleep(verdict.after_s)
        return renewed


def _cure(failure: Failure) -> str | None:
    if failure.code == PAGE:
        return "a proxy or a sign-in page may answer in its place: check the network"
    return TLS_CURE if failure.kind is FailureKind.TLS else None


def explain(failure: Failure) -> str:
    """Describe a failure in words, without secrets."""
    if failure.kind is FailureKind.STATUS:
        code = f" {failure.code}" if failure.code else ""
        return f"{failure.plane.value} answered {failure.status}{code}"
    detail = f" ({failure.code})" if failure.code else ""
    return f"{failure.plane.value} {failure.kind.value}{detail}"

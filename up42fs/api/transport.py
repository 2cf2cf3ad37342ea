"""Sends requests to one host: rate, concurrency, deadline, retries, error bodies.

No other module sends API requests.

A call is a sequence of attempts within one ceiling (25 s) and the caller's own deadline. Each
attempt takes a token (if the call carries one), a slot (16 per host), and its turn in the host's
rate limit, in this order. `net.retry.decide` decides what follows a failure.
"""

from __future__ import annotations

import logging
import math
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from http import HTTPStatus
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import httpx
import trio

from up42fs import supervise
from up42fs.api.bounds import SMALL_BYTES, OutOfBoundsError, Unpacker, parse
from up42fs.api.explain import explain, inner_error, unwrap
from up42fs.api.network import SilentWay
from up42fs.api.shared_pace import PaceBook
from up42fs.deadlines import note, patient_s, within
from up42fs.errors import (
    AccessDenied,
    DeadlineExceeded,
    InvalidAnswer,
    InvalidArgument,
    NotFound,
    Offline,
    Unavailable,
    Up42fsError,
    VersionChanged,
)
from up42fs.metrics import Metrics
from up42fs.net import expiry, pacing, retry

#: The longest that one call may take, all attempts together, seconds: less than a program waits for
#: metadata (28 s), so that the program gets the cause of the failure and not only a timeout.
CEILING_S = patient_s(25.0)
#: For the same reason a token fetch must end this long before the call that waits for it, seconds.
TELLING_S = patient_s(0.5)
_OF_THE_BODY = frozenset({"content-encoding", "content-length", "transfer-encoding"})
CONCURRENCY = 16
REQUESTS_PER_S = 50.0
BURST = 32


#: The longest that the shared pace is waited for, seconds.
BOOK_TIMEOUT_S = 2.0

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """One request to make. `operation` is for messages: "listing assets".

    `refused_at_times`: the service is known to answer 401 to a valid token (§7.4). `once`: the
    request is not retried, since the caller must check first; transient failures raise Unavailable,
    and the request may or may not have been carried out.
    """

    operation: str
    method: str
    url: str
    params: Mapping[str, Any] | None = None
    json: Any = None
    form: Mapping[str, str] | None = None
    accept: str | None = None
    refused_at_times: bool = False
    once: bool = False

    def __repr__(self) -> str:
        # Not the fields: a form carries a password, parameters and bodies the user's search.
        return f"Call({self.method} for {self.operation})"


class Bearer(NamedTuple):
    """Where the token of each call comes from, and where one goes that was refused (401)."""

    #: Returns a token that is valid now, or raises by the given time.
    token: Callable[[float], Awaitable[str]]
    #: Returns whether that token was the current one, so that the next one is fetched from now on.
    discard: Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class JsonResponse:
    """The JSON object of a successful response; `server_now_s` is its `Date` in Unix seconds."""

    document: dict[str, Any]
    server_now_s: float | None


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one host. `ceiling_s` is in seconds."""

    ceiling_s: float = CEILING_S
    concurrency: int = CONCURRENCY
    rate: pacing.Rate = field(default_factory=lambda: pacing.Rate(REQUESTS_PER_S, BURST))
    #: Keeps the pace of all processes of the account; without one each has its own.
    book: PaceBook | None = None


class Refused(Exception):
    """The error response behind an exception: its `status`, error `code` and UP42's `words`."""

    def __init__(self, status: int, code: str | None, words: str) -> None:
        super().__init__(f"{status} {code or ''} {words}".strip())
        self.status, self.code, self.words = status, code, words


@dataclass(frozen=True, slots=True)
class _Failed:
    failure: retry.Failure
    words: str = ""


class ApiTransport:
    """Sends calls to one host on one plane."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        *,
        plane: retry.Plane,
        metrics: Metrics,
        bearer: Bearer | None = None,
        limits: Limits | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._http = http
        self._bearer = bearer
        self._plane = plane
        self._metrics = metrics
        self._prefix = "auth" if plane is retry.Plane.AUTH else "api"
        self._limits = limits or Limits()
        self._slots = trio.CapacityLimiter(self._limits.concurrency)
        self._pace = pacing.Pace()
        self._book = self._limits.book
        self._pause_s = 0.0  # to be told to the other processes
        self._jitter = jitter

    async def fetch(self, call: Call, *, ceiling_s: float | None = None) -> JsonResponse:
        """Make the call and return its JSON object without the legacy envelope.

        Raises NotFound, AccessDenied, InvalidArgument, VersionChanged, Offline, Unavailable,
        InvalidAnswer, DeadlineExceeded, and the bearer's errors. If UP42 responded, the error's
        cause is a `Refused`.
        """
        limit_s = self._limits.ceiling_s if ceiling_s is None else ceiling_s
        late = (
            f"{call.operation} took longer than {limit_s:g} s; the network or "
            f"{_speaker(self._plane, call)} is slow: try again"
        )
        with within(limit_s, late) as scope:
            return await self._attempts(call, scope.deadline - TELLING_S)

    async def _attempts(self, call: Call, until_s: float) -> JsonResponse:
        attempt, renewals, renewed = 1, 0, False
        while True:
            # Before the slot: a token is fetched through another transport and must not hold one.
            token = await self._bearer.token(until_s) if self._bearer is not None else None
            outcome = await self._attempt(call, token)
            if isinstance(outcome, JsonResponse):
                return outcome
            unsure = call.refused_at_times and outcome.failure.status == HTTPStatus.UNAUTHORIZED
            verdict = retry.decide(
                replace(outcome.failure, may_pass=unsure),
                attempt=attempt,
                renewed=renewed or token is None,
                remaining_s=_remaining_s(),
                jitter=self._jitter(),
            )
            if isinstance(verdict, retry.Fail):
                raise self._error(call, outcome, verdict.error)
            if isinstance(verdict, retry.Renew):
                renewals += 1
                # Another caller may have replaced the token before this refusal. Whatever ended
                # the one may have ended the other, so that one proves nothing yet.
                renewed = self._renew(token) or renewals > 1
                note(None)
                continue
            if call.once and not unsure:
                raise self._error(call, outcome, Unavailable)
            note(self._error(call, outcome, retry.blame(outcome.failure)))
            self._metrics.count(f"{self._prefix}.retries")
            await trio.sleep(verdict.after_s)
            attempt += 1

    def _renew(self, token: str | None) -> bool:
        """Drop `token`; return whether the next one is fetched from now on."""
        self._metrics.count(f"{self._prefix}.renewals")
        assert self._bearer is not None, "only calls that carry a token renew it"
        assert token is not None
        # Exactly the token that was refused: of fifty callers holding one stale token, only the
        # first causes a renewal.
        return self._bearer.discard(token)

    async def _attempt(self, call: Call, token: str | None) -> JsonResponse | _Failed:
        async with self._slots:
            await self._take_turn(call)
            self._metrics.count(f"{self._prefix}.requests")
            request = self._request(call, token)
            try:
                response = await self._receive(request)
                document = await _parsed(response)
            except (httpx.DecodingError, OutOfBoundsError) as error:
                log.debug("%s: the answer is out of bounds: %s", call.operation, error)
                return _Failed(retry.Failure(self._plane, retry.FailureKind.GARBLED))
            except httpx.TransportError as error:
                return _Failed(retry.Failure(self._plane, _kind(error), code=_fault(error)))
        judged = self._judge(response, document)
        pause_s, self._pause_s = self._pause_s, 0.0
        if pause_s:
            rate = self._limits.rate
            await self._booked(lambda book: book.pause(rate, pause_s))
        return judged

    async def _receive(self, request: httpx.Request) -> httpx.Response:
        """Read and unpack the whole response; raises OutOfBoundsError if it is too long."""
        response = await self._http.send(request, stream=True)
        body = bytearray()
        try:
            if response.is_stream_consumed:  # true for transports without a network (tests)
                body += response.content
            else:
                unpacker = Unpacker(response.headers.get("content-encoding", ""))
                async with _to_the_end(response.aiter_raw()) as pieces:
                    async for packed in pieces:
                        for piece in unpacker.feed(packed):
                            body += piece
                            await trio.lowlevel.checkpoint()
        finally:
            # A transport without a network reports no downloaded bytes.
            self._metrics.count(f"{self._prefix}.bytes", response.num_bytes_downloaded or len(body))
            with trio.CancelScope(shield=True), trio.move_on_after(1):
                await response.aclose()
        headers = [(k, v) for k, v in response.headers.multi_items() if k not in _OF_THE_BODY]
        return httpx.Response(response.status_code, headers=headers, content=bytes(body))

    async def _take_turn(self, call: Call) -> None:
        """Wait for a turn in the host's rate limit; raises Unavailable if that is too long."""
        while True:
            now_s = trio.current_time()
            pace, send_at_s = pacing.plan_admission(self._pace, self._limits.rate, now_s)
            if send_at_s - now_s < _remaining_s():
                # All processes of the account together: a reservation in a file that they share.
                admit = partial(PaceBook.admit, rate=self._limits.rate, longest_s=_remaining_s())
                wait_s = await self._booked(admit)
                now_s = trio.current_time()
                send_at_s = max(send_at_s, now_s + (wait_s or 0.0))
            if send_at_s - now_s >= _remaining_s():
                raise Unavailable(
                    f"{call.operation} failed: {_speaker(self._plane, call)} is asked too much and "
                    f"the next turn is in {math.ceil(send_at_s - now_s)} s; try again then"
                )
            self._pace = pace
            if send_at_s <= now_s:
                return
            await trio.sleep_until(send_at_s)
            # Another caller's response may have paused the host while this caller slept.
            is_paused = await self._booked(lambda book: book.is_paused(self._limits.rate))
            if self._pace.paused_until_s <= trio.current_time() and not is_paused:
                return

    async def _booked(self, ask: Callable[[PaceBook], T]) -> T | None:
        """Ask the book that all processes share; None without one, or if it fails."""
        book = self._book
        if book is None:
            return None
        why = f"no answer in {BOOK_TIMEOUT_S:.0f} s"
        with trio.move_on_after(BOOK_TIMEOUT_S):
            try:
                answer: T = await trio.to_thread.run_sync(ask, book, abandon_on_cancel=True)
                return answer
            except Exception as error:
                if supervise.is_short_of_anything(error):
                    return None
                if not isinstance(error, OSError):
                    raise
                why = str(error)
        self._book = None
        log.debug("requests are paced by this process alone: %s: %s", book.path, why)
        return None

    def _request(self, call: Call, token: str | None) -> httpx.Request:
        headers = {"Cache-Control": "no-cache"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        if call.form is None:
            headers["Content-Type"] = "application/json"
        if call.accept is not None:
            headers["Accept"] = call.accept
        try:
            return self._http.build_request(
                call.method,
                call.url,
                params=call.params,
                json=call.json,
                data=call.form,
                headers=headers,
            )
        except (httpx.InvalidURL, ValueError) as error:
            # IDs and links from responses become part of URLs and bodies, and may be unusable
            # there.
            raise InvalidAnswer(
                f"{call.operation} failed: UP42 gave an ID or a link that is no usable address "
                f"({type(error).__name__}); try again later"
            ) from None

    def _judge(self, response: httpx.Response, document: Any) -> JsonResponse | _Failed:
        server_now_s = expiry.server_time(response.headers.get("date"))
        status = response.status_code
        if 200 <= status < 300:
            if not isinstance(document, dict):
                return _Failed(retry.Failure(self._plane, retry.FailureKind.GARBLED, status))
            hidden = inner_error(document)
            if hidden is None:
                return JsonResponse(unwrap(document), server_now_s)
            # Of the identity server only the status itself may say that it refuses the password.
            status = hidden if self._plane is retry.Plane.API else status
        code, words = explain(response, document)
        wait_s = pacing.retry_after_s(response.headers.get("retry-after"), server_now_s)
        self._heed(status, wait_s)
        failure = retry.Failure(self._plane, retry.FailureKind.STATUS, status, code, wait_s)
        return _Failed(failure, words)

    def _heed(self, status: int, wait_s: float | None) -> None:
        """Pause all callers of this host after a 429, or a 503 with `Retry-After`."""
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            self._metrics.count(f"{self._prefix}.throttled")
            wait_s = retry.FIRST_WAIT_S if wait_s is None else wait_s
        elif status != HTTPStatus.SERVICE_UNAVAILABLE:
            return
        now_s = trio.current_time()
        self._pace = pacing.plan_pause(self._pace, self._limits.rate, now_s, wait_s or 0.0)
        self._pause_s = wait_s or 0.0

    def _error(self, call: Call, failed: _Failed, kind: type[Up42fsError]) -> Up42fsError:
        what = _what_happened(self._plane, call, failed)
        error = kind(f"{call.operation} failed: {what}; {_cure(kind, failed.failure)}")
        error.__cause__ = _cause(failed)
        return error


@asynccontextmanager
async def _to_the_end(pieces: AsyncIterator[bytes]) -> AsyncIterator[AsyncIterator[bytes]]:
    """End `pieces` also if the body of the `with` fails or is cancelled between two of them.

    httpx nests generators and closes only the outermost; the others would wait for the garbage
    collector. A cancellation that reaches the innermost one ends them all.
    """
    try:
        yield pieces
    finally:
        with trio.CancelScope(shield=True) as ending:
            ending.cancel()
            async for _ in pieces:
                pass


async def _parsed(response: httpx.Response) -> Any:
    """Parse the response's JSON; None if it has none. Large ones are parsed in a thread."""
    body = response.content
    if len(body) <= SMALL_BYTES:
        return parse(body)
    return await trio.to_thread.run_sync(parse, body, abandon_on_cancel=True)


def _remaining_s() -> float:
    return trio.current_effective_deadline() - trio.current_time()


def _cause(failed: _Failed) -> Refused | None:
    failure = failed.failure
    if failure.status is None or failure.kind is not retry.FailureKind.STATUS:
        return None
    return Refused(failure.status, failure.code, failed.words)


def _kind(error: httpx.TransportError) -> retry.FailureKind:
    if isinstance(error, httpx.ReadTimeout | httpx.WriteTimeout | httpx.PoolTimeout):
        return retry.FailureKind.STALLED
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError):
        return retry.FailureKind.TLS if _is_tls(error) else retry.FailureKind.UNREACHABLE
    return retry.FailureKind.BROKEN


def _is_tls(error: BaseException) -> bool:
    return _tls_error(error) is not None


def _tls_error(error: BaseException | None) -> ssl.SSLError | None:
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error


def _fault(error: BaseException) -> str | None:
    """Where a connection was silent, or what is wrong with a certificate, in OpenSSL's words."""
    if isinstance(error.__cause__, SilentWay):
        return str(error.__cause__)
    return getattr(_tls_error(error), "verify_message", None)


def _speaker(plane: retry.Plane, call: Call) -> str:
    return f"{plane.value} ({urlsplit(call.url).hostname})"


def _what_happened(plane: retry.Plane, call: Call, failed: _Failed) -> str:
    failure = failed.failure
    if failure.kind is not retry.FailureKind.STATUS or failure.status is None:
        detail = f" ({failure.code})" if failure.code else ""
        return f"{_speaker(plane, call)} {failure.kind.value}{detail}"
    try:
        phrase = f" {HTTPStatus(failure.status).phrase}"
    except ValueError:
        phrase = ""
    words = f": {failed.words}" if failed.words else ""
    return f"{_speaker(plane, call)} answered {failure.status}{phrase}{words}"


_CURES: dict[type[Up42fsError], str] = {
    AccessDenied: "check that this account and its workspace may do this",
    NotFound: "it may have been deleted, or the region (UP42_REGION) is not the right one",
    InvalidArgument: "UP42 does not accept the request: check the values given",
    VersionChanged: "it changed meanwhile: look at it afresh and try again",
    InvalidAnswer: "a proxy or a sign-in page may answer in its place: check the network",
    Offline: "check the network connection, HTTPS_PROXY and NO_PROXY",
    DeadlineExceeded: "the network is slow: try again",
    Unavailable: "this usually passes: try again in a minute",
}


def _cure(kind: type[Up42fsError], failure: retry.Failure) -> str:
    if failure.kind is retry.FailureKind.TLS:
        return retry.TLS_CURE
    return _CURES.get(kind, "try again later")

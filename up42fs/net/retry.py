"""Decides what follows a failed attempt: retry, renew the credential, or fail, with which error.

The caller describes the failure and the time left.

Theory. A failure is either *transient* (429, 5xx, a broken connection), *a stale credential* (401
on the API, 400/401/403 on a presigned link), or *final*. Each plane's genuine refusals are listed
in `_MEANT`; any other status (a redirect, 404 of the identity server, 412 where no condition was
sent) comes from something in between, and is retried like other responses that cannot be right.

Rejected: a retry budget per host (one mount is one user), and retrying 4xx (UP42 means them).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

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

#: First and longest wait between attempts, seconds, before jitter.
FIRST_WAIT_S = 0.25
LONGEST_WAIT_S = 4.0
#: Attempts to reach an unreachable host before failing: one retry, almost at once.
OFFLINE_ATTEMPTS = 2
OFFLINE_WAIT_S = 0.2


#: Attempts at failures that rarely pass by waiting: a certificate that is refused, a response that
#: makes no sense (a captive portal), a good token that STAC refuses (contract §7.4).
TLS_ATTEMPTS = 2
GARBLED_ATTEMPTS = 4
REFUSED_ATTEMPTS = 5


class Plane(Enum):
    """The server of a request."""

    API = "UP42"
    AUTH = "the UP42 identity server"
    STORE = "the object store"


class FailureKind(Enum):
    """How an attempt failed."""

    STATUS = "answered with an error status"
    #: Name not resolved, no route, connection refused, or nobody accepted it in time.
    UNREACHABLE = "could not be reached"
    TLS = "failed the TLS handshake"
    BROKEN = "broke the connection"  # reset, short body
    STALLED = "stopped sending"
    LOCAL = "was not asked, since something failed on this machine (the log says what)"
    GARBLED = "sent an answer that cannot be right"


#: On every plane, for people: what to do about a failed handshake.
TLS_CURE = "check this machine's clock, and SSL_CERT_FILE where a proxy inspects traffic"

#: Codes of a stall before the request could be sent, on a connection that was accepted.
TLS_STALLED = "in the TLS handshake"
PROXY_STALLED = "on the way through the proxy"


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed attempt. `code` is the error code in the body, or what is wrong with the answer or
    the certificate; waits are in seconds.

    `may_pass`: this refusal is known to pass although the credential is good.
    """

    plane: Plane
    kind: FailureKind
    status: int | None = None
    code: str | None = None
    retry_after_s: float | None = None
    may_pass: bool = False


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again after `after_s` seconds."""

    after_s: float


@dataclass(frozen=True, slots=True)
class Renew:
    """Fetch a new token or link and try again at once."""


@dataclass(frozen=True, slots=True)
class Fail:
    """Give up with this error."""

    error: type[Up42fsError]


Verdict = Retry | Renew | Fail

_FINAL: dict[int, type[Up42fsError]] = {
    400: InvalidArgument,
    401: AccessDenied,
    403: AccessDenied,
    404: NotFound,
    409: VersionChanged,
    410: NotFound,
    412: VersionChanged,
    416: VersionChanged,
    422: InvalidArgument,
    501: InvalidArgument,
}
#: Refusals that a plane is known to send on purpose (contract §1.2, §6, §7).
_MEANT: dict[Plane, frozenset[int]] = {
    Plane.API: frozenset({400, 401, 403, 404, 409, 410, 422, 501}),
    Plane.AUTH: frozenset({400, 401, 403}),
    Plane.STORE: frozenset({400, 401, 403, 404, 409, 410, 412, 416}),
}
_LASTING: dict[FailureKind, tuple[int, type[Up42fsError]]] = {
    FailureKind.UNREACHABLE: (OFFLINE_ATTEMPTS, Offline),
    FailureKind.TLS: (TLS_ATTEMPTS, Unavailable),
    FailureKind.GARBLED: (GARBLED_ATTEMPTS, InvalidAnswer),
}
_STALE_LINK = frozenset({400, 401, 403})


def decide(
    failure: Failure, *, attempt: int, renewed: bool, remaining_s: float, jitter: float
) -> Verdict:
    """Decide what follows `failure`.

    `attempt` counts from 1; `renewed`: a fresh credential was already tried; `remaining_s` is the
    time to the operation's deadline (may be infinite); `jitter` is in [0, 1).
    """
    lasting = _LASTING.get(FailureKind.GARBLED if _is_nonsense(failure) else failure.kind)
    if lasting is not None and attempt >= lasting[0]:
        return Fail(lasting[1])
    waits_out = failure.may_pass and renewed and attempt < REFUSED_ATTEMPTS
    if lasting is None and _is_refusal(failure) and not waits_out:
        return _refusal(failure, renewed=renewed)
    wait_s = _wait_s(failure, attempt, jitter)
    # A wait that would outlive the deadline is not begun: the reader gets the real error in time.
    if wait_s >= remaining_s:
        return Fail(_timed_out(failure))
    return Retry(wait_s)


def blame(failure: Failure) -> type[Up42fsError]:
    """The error of a caller that has no time left after `failure`."""
    verdict = decide(failure, attempt=99, renewed=True, remaining_s=0.0, jitter=0.0)
    assert isinstance(verdict, Fail), "nothing else is left without time"
    return verdict.error


def backoff_s(attempt: int, jitter: float) -> float:
    """Wait before attempt `attempt + 1`: full jitter over a doubling span, in seconds."""
    # Many readers of one mount fail at the same moment and must not return at the same moment.
    return min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(attempt - 1, 16)) * jitter


def _is_passing(failure: Failure) -> bool:
    status = failure.status or 0
    # A method that is not implemented (501) will not be by the next attempt.
    return status in (408, 425, 429) or (status >= 500 and status != 501)


def _is_refusal(failure: Failure) -> bool:
    return failure.kind is FailureKind.STATUS and not _is_passing(failure)


def _is_nonsense(failure: Failure) -> bool:
    """Whether this plane never sends this status on purpose."""
    return _is_refusal(failure) and failure.status not in _MEANT[failure.plane]


def _refusal(failure: Failure, *, renewed: bool) -> Verdict:
    status = failure.status or 0
    stale = _STALE_LINK if failure.plane is Plane.STORE else {401}
    # A credential is renewed once per request; if the fresh one is refused too, that is final.
    if failure.plane is not Plane.AUTH and status in stale and not renewed:
        return Renew()
    if failure.plane is Plane.STORE and status == 400:
        return Fail(AccessDenied)
    return Fail(_FINAL[status])


def _wait_s(failure: Failure, attempt: int, jitter: float) -> float:
    if failure.kind is FailureKind.UNREACHABLE:
        return OFFLINE_WAIT_S
    wait_s = backoff_s(attempt, jitter)
    return max(wait_s, failure.retry_after_s or 0.0)


def _timed_out(failure: Failure) -> type[Up42fsError]:
    if failure.kind is FailureKind.STALLED:
        return DeadlineExceeded
    nonsense = failure.kind is FailureKind.GARBLED or _is_nonsense(failure)
    return InvalidAnswer if nonsense else Unavailable

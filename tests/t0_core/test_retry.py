import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from up42fs.net.retry import (
    FIRST_WAIT_S,
    LONGEST_WAIT_S,
    Fail,
    Failure,
    FailureKind,
    Plane,
    Renew,
    Retry,
    Verdict,
    backoff_s,
    decide,
)

TRANSIENT = (408, 425, 429, 500, 502, 503, 504, 520, 599)
FINAL = {
    400: InvalidArgument,
    403: AccessDenied,
    404: NotFound,
    409: VersionChanged,
    410: NotFound,
    422: InvalidArgument,
}
#: What nobody means who was asked what we ask: a redirect, a sign-in page, a proxy's refusal.
NONSENSE = [
    *((plane, status) for plane in Plane for status in (301, 302, 304, 405, 451)),
    *((Plane.API, status) for status in (412, 416)),
    *((Plane.AUTH, status) for status in (404, 409, 410, 412, 416, 422)),
]


def verdict(
    status: int | None = None,
    *,
    plane: Plane = Plane.API,
    kind: FailureKind = FailureKind.STATUS,
    attempt: int = 1,
    renewed: bool = False,
    remaining_s: float = math.inf,
    jitter: float = 0.5,
    retry_after_s: float | None = None,
) -> Verdict:
    failure = Failure(plane, kind, status, retry_after_s=retry_after_s)
    return decide(failure, attempt=attempt, renewed=renewed, remaining_s=remaining_s, jitter=jitter)


@pytest.mark.parametrize("plane", list(Plane))
@pytest.mark.parametrize("status", TRANSIENT)
@pytest.mark.claim("S19")
def test_what_passes_is_waited_out_on_every_plane(plane: Plane, status: int) -> None:
    assert verdict(status, plane=plane) == Retry(FIRST_WAIT_S * 0.5)


@pytest.mark.parametrize(("status", "error"), FINAL.items())
@pytest.mark.claim("S22")
def test_what_the_api_means_is_final_at_the_first_attempt(
    status: int, error: type[Up42fsError]
) -> None:
    assert verdict(status) == Fail(error)


@pytest.mark.parametrize(("plane", "status"), NONSENSE)
@pytest.mark.claim("S23")
def test_what_a_plane_cannot_mean_is_tried_again_and_never_taken_for_a_missing_object(
    plane: Plane, status: int
) -> None:
    tries = [verdict(status, plane=plane, attempt=n, renewed=True) for n in (1, 2, 3, 4)]
    assert all(isinstance(tried, Retry) for tried in tries[:3])
    assert tries[3] == Fail(InvalidAnswer)
    assert verdict(status, plane=plane, remaining_s=0.0) == Fail(InvalidAnswer)


@pytest.mark.parametrize(
    ("plane", "status", "first", "second"),
    [
        (Plane.API, 401, Renew(), Fail(AccessDenied)),
        (Plane.API, 403, Fail(AccessDenied), Fail(AccessDenied)),
        (Plane.STORE, 400, Renew(), Fail(AccessDenied)),
        (Plane.STORE, 401, Renew(), Fail(AccessDenied)),
        (Plane.STORE, 403, Renew(), Fail(AccessDenied)),
        (Plane.STORE, 404, Fail(NotFound), Fail(NotFound)),
        (Plane.AUTH, 400, Fail(InvalidArgument), Fail(InvalidArgument)),
        (Plane.AUTH, 401, Fail(AccessDenied), Fail(AccessDenied)),
    ],
)
@pytest.mark.claim("S21")
def test_a_stale_credential_is_renewed_once(
    plane: Plane, status: int, first: Verdict, second: Verdict
) -> None:
    assert verdict(status, plane=plane) == first
    assert verdict(status, plane=plane, renewed=True) == second


@pytest.mark.claim("S20")
def test_a_host_out_of_reach_is_tried_twice() -> None:
    assert isinstance(verdict(kind=FailureKind.UNREACHABLE), Retry)
    assert verdict(kind=FailureKind.UNREACHABLE, attempt=2) == Fail(Offline)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (FailureKind.BROKEN, Unavailable),
        (FailureKind.TLS, Unavailable),
        (FailureKind.STALLED, DeadlineExceeded),
        (FailureKind.GARBLED, InvalidAnswer),
        (FailureKind.UNREACHABLE, Unavailable),
    ],
)
@pytest.mark.claim("S24")
def test_a_wait_beyond_the_deadline_is_not_begun(
    kind: FailureKind, error: type[Up42fsError]
) -> None:
    assert verdict(kind=kind, remaining_s=60.0) != Fail(error)
    assert verdict(kind=kind, remaining_s=0.01) == Fail(error)


def test_a_status_beyond_the_deadline_is_unavailable() -> None:
    assert verdict(503, remaining_s=0.0) == Fail(Unavailable)


@pytest.mark.claim("S19")
def test_retry_after_lengthens_the_wait_and_counts_against_the_deadline() -> None:
    assert verdict(429, retry_after_s=7.0) == Retry(7.0)
    assert verdict(429, retry_after_s=7.0, remaining_s=7.0) == Fail(Unavailable)
    assert verdict(429, retry_after_s=0.0) == Retry(FIRST_WAIT_S * 0.5)


@given(attempt=st.integers(1, 10_000), jitter=st.floats(0, 1, exclude_max=True))
def test_backoff_doubles_up_to_its_ceiling(attempt: int, jitter: float) -> None:
    wait_s = backoff_s(attempt, jitter)
    assert 0 <= wait_s <= min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(attempt - 1, 16))
    assert backoff_s(attempt + 1, jitter) >= wait_s


@given(
    plane=st.sampled_from(Plane),
    kind=st.sampled_from(FailureKind),
    status=st.none() | st.integers(100, 599),
    attempt=st.integers(1, 100),
    renewed=st.booleans(),
    remaining_s=st.floats(0, 1000) | st.just(math.inf),
    jitter=st.floats(0, 1, exclude_max=True),
    retry_after_s=st.none() | st.floats(0, 1e6),
)
def test_no_verdict_outlives_the_deadline_or_renews_twice(
    plane: Plane,
    kind: FailureKind,
    status: int | None,
    attempt: int,
    renewed: bool,
    remaining_s: float,
    jitter: float,
    retry_after_s: float | None,
) -> None:
    found = verdict(
        status,
        plane=plane,
        kind=kind,
        attempt=attempt,
        renewed=renewed,
        remaining_s=remaining_s,
        jitter=jitter,
        retry_after_s=retry_after_s,
    )
    if isinstance(found, Retry):
        assert found.after_s < remaining_s
    if isinstance(found, Renew):
        assert not renewed
        assert kind is FailureKind.STATUS
    if isinstance(found, Fail):
        assert issubclass(found.error, Up42fsError)


@pytest.mark.parametrize(
    ("kind", "attempts", "error"),
    [
        (FailureKind.TLS, 2, Unavailable),
        (FailureKind.GARBLED, 4, InvalidAnswer),
        (FailureKind.UNREACHABLE, 2, Offline),
    ],
)
def test_what_hardly_passes_is_not_tried_to_the_end(
    kind: FailureKind, attempts: int, error: type[Up42fsError]
) -> None:
    for attempt in range(1, attempts):
        assert isinstance(verdict(kind=kind, attempt=attempt), Retry)
    assert verdict(kind=kind, attempt=attempts) == Fail(error)


def test_a_good_token_refused_at_times_is_tried_again() -> None:
    failure = Failure(Plane.API, FailureKind.STATUS, 401, may_pass=True)

    def at(attempt: int, *, renewed: bool) -> Verdict:
        return decide(failure, attempt=attempt, renewed=renewed, remaining_s=99, jitter=0.5)

    assert at(1, renewed=False) == Renew()
    assert isinstance(at(1, renewed=True), Retry)
    assert isinstance(at(4, renewed=True), Retry)
    assert at(5, renewed=True) == Fail(AccessDenied)

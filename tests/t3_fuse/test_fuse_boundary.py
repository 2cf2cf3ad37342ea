"""What leaves a handler: FUSEError or cancellation, never anything else; and what is logged."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Generator, Iterator

import pyfuse3
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from up42fs import errors
from up42fs.errors import (
    AlreadyExists,
    CrowdRefused,
    NoAttribute,
    NotEmpty,
    NotFound,
    NotShared,
    OtherVersion,
    QuotaExceeded,
    ReadOnly,
    Unavailable,
    Unsupported,
    Up42fsError,
)
from up42fs.fuse.boundary import (
    LISTING_DEADLINE_S,
    METADATA_DEADLINE_S,
    READ_DEADLINE_S,
    boundary,
    limit_of_latest,
    to_errno,
    without_deadlines,
)
from up42fs.logs import RedactingFormatter
from up42fs.metrics import Metrics


def subclasses(base: type[Up42fsError]) -> Iterator[type[Up42fsError]]:
    yield base
    for child in base.__subclasses__():
        yield from subclasses(child)


OURS = sorted({c for c in subclasses(Up42fsError) if c.__module__ == errors.__name__}, key=str)


class Handlers:
    """A handler that does whatever it is told."""

    def __init__(self) -> None:
        self.metrics = Metrics()

    @boundary(5.0)
    async def lookup(self, act: Callable[[], object]) -> object:
        await trio.lowlevel.checkpoint()
        return act()

    @boundary(5.0)
    async def read(self, sleep_s: float) -> str:
        await trio.sleep(sleep_s)
        return "done"

    @boundary(5.0, unpacks=lambda _, sleep_s: sleep_s > 50)
    async def unpack(self, sleep_s: float) -> str:
        await trio.sleep(sleep_s)
        return "done"

    @boundary(5.0)
    async def nursery(self, *errors: BaseException) -> None:
        async with trio.open_nursery() as nursery:
            for error in errors:
                nursery.start_soon(raising, error)


async def raising(error: BaseException) -> None:
    raise error


def thrower(error: BaseException) -> Callable[[], object]:
    def throw() -> object:
        raise error

    return throw


async def errno_of(handlers: Handlers, error: BaseException) -> int:
    with pytest.raises(pyfuse3.FUSEError) as caught:
        await handlers.lookup(thrower(error))
    assert caught.value.__cause__ is None
    number: int = caught.value.errno
    return number


async def test_a_result_passes() -> None:
    handlers = Handlers()
    assert await handlers.lookup(lambda: "fine") == "fine"
    assert handlers.metrics.snapshot() == {}
    assert handlers.lookup.__name__ == "lookup"


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
@pytest.mark.claim("S17")
async def test_each_of_our_errors_is_its_errno(
    kind: type[Up42fsError], caplog: pytest.LogCaptureFixture
) -> None:
    handlers = Handlers()
    caplog.set_level(logging.DEBUG)
    assert await errno_of(handlers, kind("asset x cannot be read")) == kind.errno
    name = errno.errorcode[kind.errno]
    assert handlers.metrics.snapshot() == {f"fuse.errors_{name}": 1}
    if kind in (
        NoAttribute,
        ReadOnly,
        CrowdRefused,
        NotShared,
        QuotaExceeded,
        Unsupported,
        AlreadyExists,
        NotEmpty,
        NotShared,
        OtherVersion,
    ):
        assert caplog.records == []
    else:
        (record,) = caplog.records
        assert record.getMessage() == f"lookup: asset x cannot be read ({name})"
        assert record.levelno == logging.WARNING
        assert record.exc_info is None


def test_every_kind_of_ours_is_covered() -> None:
    assert len(OURS) >= 16


async def test_a_fuse_error_passes_as_it_is() -> None:
    error = pyfuse3.FUSEError(errno.ENOTTY)
    handlers = Handlers()
    with pytest.raises(pyfuse3.FUSEError) as caught:
        await handlers.lookup(thrower(error))
    assert caught.value is error


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize(
    ("error", "number"),
    [
        (pyfuse3.FUSEError(errno.ENOTTY), errno.ENOTTY),
        (NotFound("x"), errno.ENOENT),
        (trio.TooSlowError(), errno.ETIMEDOUT),
        (ValueError("x"), errno.EIO),
    ],
)
async def test_groups_are_opened(depth: int, error: BaseException, number: int) -> None:
    for level in range(depth):
        error = BaseExceptionGroup(f"level {level}", [error])
    assert await errno_of(Handlers(), error) == number


@pytest.mark.parametrize(
    ("error", "number"),
    [(pyfuse3.FUSEError(errno.EMLINK), errno.EMLINK), (Unavailable("x"), errno.EIO)],
)
async def test_an_error_inside_a_nursery_is_opened(error: Exception, number: int) -> None:
    with pytest.raises(pyfuse3.FUSEError) as caught:
        await Handlers().nursery(error)
    assert caught.value.errno == number


@pytest.mark.parametrize(
    "error",
    [
        *(RuntimeError("bug"), KeyError("bug"), OSError(errno.EPERM, "bug"), MemoryError("bug")),
        *(StopAsyncIteration("bug"), AssertionError("bug"), UnicodeError("bug")),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.claim("S18")
async def test_the_unexpected_is_eio_and_logged_with_its_traceback(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    handlers = Handlers()
    number = errno.ENOMEM if isinstance(error, MemoryError) else errno.EIO
    name = errno.errorcode[number]
    assert await errno_of(handlers, error) == number
    assert handlers.metrics[f"fuse.errors_{name}"] == 1
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    written = RedactingFormatter().format(record)
    assert written.startswith(f"lookup: unexpected error ({name})\n")
    assert "Traceback (most recent call last)" in written
    assert f"{type(error).__name__}: " in written
    assert "in throw" in written


@pytest.mark.claim("S16")
async def test_the_deadline_is_etimedout(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    handlers = Handlers()
    started_s = trio.current_time()
    with pytest.raises(pyfuse3.FUSEError) as caught:
        await handlers.read(5.5)
    assert caught.value.errno == errno.ETIMEDOUT
    assert trio.current_time() - started_s == pytest.approx(5.0)
    assert caplog.messages == ["read: no answer within its deadline (ETIMEDOUT)"]
    assert handlers.metrics.snapshot() == {"fuse.errors_ETIMEDOUT": 1}
    assert await handlers.read(4.5) == "done"


@pytest.mark.claim("S16", "S222")
async def test_a_read_of_a_packed_member_has_as_long_as_a_listing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    handlers = Handlers()
    assert await handlers.unpack(LISTING_DEADLINE_S - 1) == "done"
    for sleep_s in (LISTING_DEADLINE_S + 1, 6.0):
        with pytest.raises(pyfuse3.FUSEError) as caught:
            await handlers.unpack(sleep_s)
        assert caught.value.errno == errno.ETIMEDOUT
    # The server that has no scopes asks for the limit.
    bare = without_deadlines(handlers)
    for sleep_s, limit_s in ((60.0, LISTING_DEADLINE_S), (6.0, 5.0)):
        with trio.move_on_after(0):
            await bare.unpack(sleep_s)
        limit = limit_of_latest()
        assert limit is not None
        assert limit.seconds == limit_s


@pytest.mark.claim("S16")
def test_a_read_may_take_longer_than_the_store_tries_and_metadata_than_a_listing() -> None:
    from up42fs.fs.finding import BRANCH_TIMEOUT_S, LISTING_LIMIT_S
    from up42fs.store.settings import StoreSettings

    assert StoreSettings().read_deadline_s < READ_DEADLINE_S
    assert METADATA_DEADLINE_S > BRANCH_TIMEOUT_S
    assert LISTING_DEADLINE_S > LISTING_LIMIT_S


async def test_cancellation_passes(caplog: pytest.LogCaptureFixture) -> None:
    handlers = Handlers()
    with trio.CancelScope() as scope:
        scope.cancel()
        await handlers.read(1.0)
    assert scope.cancelled_caught
    async with trio.open_nursery() as nursery:
        nursery.start_soon(handlers.read, 1.0)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert caplog.messages == []
    assert handlers.metrics.snapshot() == {}


async def test_a_group_with_a_cancellation_passes_as_it_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as cancelled:
            group = BaseExceptionGroup("both", [NotFound("x"), cancelled])
            with pytest.raises(BaseExceptionGroup) as caught:
                to_errno("lookup", BaseExceptionGroup("outer", [group]))
            assert caught.value.exceptions == (group,)
            raise
    assert scope.cancelled_caught
    assert caplog.messages == []


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
async def test_the_end_of_the_process_passes(kind: type[BaseException]) -> None:
    with pytest.raises(kind):
        await Handlers().lookup(thrower(kind()))


async def test_a_handler_that_is_thrown_away_says_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As the interpreter does at its end with a coroutine that never finished."""

    class Waiting(Handlers):
        @boundary(5.0)
        async def open(self) -> None:
            await _Never()

    waiting = Waiting()
    coroutine = waiting.open()
    coroutine.send(None)
    coroutine.close()
    assert caplog.messages == []
    assert waiting.metrics.snapshot() == {}


class _Never:
    def __await__(self) -> Generator[None, None, None]:
        yield


leaves = st.sampled_from(
    [
        *(NotFound("x"), Unavailable("x"), RuntimeError("x"), trio.TooSlowError()),
        *(pyfuse3.FUSEError(errno.EBUSY), OSError("x"), ValueError("x")),
    ]
)
groups = st.recursive(
    leaves,
    lambda inner: st.lists(inner, min_size=1, max_size=3).map(lambda e: ExceptionGroup("g", e)),
)


@given(groups)
def test_every_group_has_an_errno(error: Exception) -> None:
    assert to_errno("read", error) in errno.errorcode


@pytest.mark.parametrize(
    "wrap", [Unavailable, RuntimeError, lambda text: ExceptionGroup(text, [ValueError(text)])]
)
async def test_no_secret_is_in_the_log(
    wrap: Callable[[str], Exception], caplog: pytest.LogCaptureFixture
) -> None:
    secret = "s3cr3t-s3cr3t"
    caplog.handler.setFormatter(RedactingFormatter())
    for text in (
        f"GET https://store.example/o?Expires=1&Signature={secret} failed",
        f"https://store.example/o?X-Goog-Signature={secret}&x=y",
        f"Authorization: Bearer {secret}",
        f'{{"access_token": "{secret}"}}',
        f'{{"password": "{secret}"}}',
    ):
        await errno_of(Handlers(), wrap(text))
    assert caplog.text.count("<redacted>") >= 5
    assert secret not in caplog.text

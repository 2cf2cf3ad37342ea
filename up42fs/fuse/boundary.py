"""Converts exceptions to errno: one decorator on every handler.

Any exception other than FUSEError that leaves a handler kills the whole mount, and so does a
FUSEError inside an ExceptionGroup (pyfuse3 3.5). Therefore: domain errors become their errno;
groups are opened; a deadline becomes ETIMEDOUT; cancellation passes; everything else is logged with
its traceback and becomes EIO, or ENOMEM if memory ran out.
"""

from __future__ import annotations

import errno
import functools
import logging
import math
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar, cast

import pyfuse3
import trio

from up42fs.deadlines import LISTING_S, LONGEST_S, METADATA_S, at_most_s, patient_s, request_s
from up42fs.errors import (
    AlreadyExists,
    CrowdRefused,
    NoAttribute,
    NotEmpty,
    NotShared,
    OtherVersion,
    QuotaExceeded,
    ReadOnly,
    Unsupported,
    Up42fsError,
)
from up42fs.supervise import is_short_of_memory, leaves

log = logging.getLogger(__name__)

#: Every handler answers within this many seconds, a read within its own, longer span: FUSE
#: clients in most calls cannot be interrupted, and a mount that waits blocks suspend and `df`.
METADATA_DEADLINE_S = request_s(METADATA_S)
#: But for those that may wait for the first listing of a large storage.
LISTING_DEADLINE_S = at_most_s(patient_s(LISTING_S))
READ_DEADLINE_S = request_s(LONGEST_S)
#: A read of a member that has to be inflated up to there: as long as a first listing may take.
UNPACKING_DEADLINE_S = LISTING_DEADLINE_S

#: Errors that are ordinary answers, or logged elsewhere: not logged each time.
_ORDINARY = (
    NoAttribute,
    ReadOnly,
    CrowdRefused,
    NotShared,
    QuotaExceeded,
    Unsupported,
    AlreadyExists,
    NotEmpty,
    OtherVersion,
)


class Limit(NamedTuple):
    """How long a handler may take, seconds, and what log lines call it."""

    seconds: float
    operation: str


class _Latest:
    """The limit of the handler that was called last: until it waits, or has ended, its own."""

    limit: Limit | None = None


def limit_of_latest() -> Limit | None:
    """The limit of the handler without a deadline that begins to wait just now, None for none."""
    return _Latest.limit


def forget_latest() -> None:
    """Reset the limit: the next call may be no handler."""
    _Latest.limit = None


S = TypeVar("S")
H = TypeVar("H")
P = ParamSpec("P")
R = TypeVar("R")
Handler = Callable[Concatenate[S, P], Coroutine[Any, Any, R]]


def boundary(
    deadline_s: float | None,
    name: str | None = None,
    *,
    unpacks: Callable[[Any, Any], bool] | None = None,
) -> Callable[[Handler[S, P, R]], Handler[S, P, R]]:
    """Let only FUSEError and cancellation out of a handler, and only within `deadline_s`.

    None for a handler that awaits nothing: it needs no deadline. `name` is FUSE's name of the call,
    for the log; None if the handler has that name. Its object counts the errors in its `metrics`.
    A call whose object and first argument `unpacks` says so of has `UNPACKING_DEADLINE_S` instead.
    """

    def decorate(handler: Handler[S, P, R]) -> Handler[S, P, R]:
        operation: str = getattr(handler, "__name__", "handler") if name is None else name
        limit = None if deadline_s is None else Limit(deadline_s, operation)

        longer = Limit(UNPACKING_DEADLINE_S, operation)

        @functools.wraps(handler)
        async def unlimited(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
            _Latest.limit = limit
            if unpacks is not None and unpacks(self, args[0]):
                _Latest.limit = longer
            try:
                return await handler(self, *args, **kwargs)
            except (pyfuse3.FUSEError, trio.Cancelled, GeneratorExit):
                raise
            except BaseException as error:
                raise pyfuse3.FUSEError(_counted(self, operation, error)) from None

        @functools.wraps(handler)
        async def limited(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
            until_s = math.inf if deadline_s is None else trio.current_time() + deadline_s
            if unpacks is not None and unpacks(self, args[0]):
                until_s = trio.current_time() + longer.seconds
            try:
                with trio.CancelScope(deadline=until_s):
                    return await handler(self, *args, **kwargs)
                raise trio.TooSlowError
            except (pyfuse3.FUSEError, trio.Cancelled, GeneratorExit):
                raise
            except BaseException as error:
                raise pyfuse3.FUSEError(_counted(self, operation, error)) from None

        limited.unlimited = unlimited  # type: ignore[attr-defined]
        return limited

    return decorate


def late(handlers: object, operation: str) -> int:
    """The errno for a handler whose time is up, counted and logged."""
    return _counted(handlers, operation, trio.TooSlowError())


def _counted(handlers: Any, operation: str, error: BaseException) -> int:
    number = to_errno(operation, error)
    handlers.metrics.count(f"fuse.errors_{errno.errorcode.get(number, number)}")
    return number


class _Unlimited:
    """The handlers of another object without their deadlines."""

    def __init__(self, handlers: object) -> None:
        for name in (name for name in dir(handlers) if not name.startswith("_")):
            value = getattr(handlers, name)
            unlimited = getattr(value, "unlimited", None)
            setattr(self, name, value if unlimited is None else unlimited.__get__(handlers))


def without_deadlines(handlers: H) -> H:
    """The same handlers for a caller who sees to it that none waits longer than its limit.

    A scope for each call takes a quarter of the time of a request that memory answers.
    """
    return cast(H, _Unlimited(handlers))


def to_errno(operation: str, error: BaseException) -> int:
    """Return the errno for an exception that left a handler; log it unless it is ordinary."""
    for leaf in leaves(error):
        if isinstance(leaf, trio.Cancelled | KeyboardInterrupt | SystemExit):
            raise error
    first = next(leaves(error))
    if isinstance(first, pyfuse3.FUSEError):
        return first.errno
    if isinstance(first, Up42fsError):
        if not isinstance(first, _ORDINARY):
            log.warning("%s: %s (%s)", operation, first, errno.errorcode[first.errno])
        return first.errno
    if isinstance(first, trio.TooSlowError):
        log.warning("%s: no answer within its deadline (ETIMEDOUT)", operation)
        return errno.ETIMEDOUT
    number = errno.ENOMEM if is_short_of_memory(first) else errno.EIO
    with suppress(Exception):  # the answer must go out, with or without a line in the log
        name = errno.errorcode[number]
        log.error("%s: unexpected error (%s)", operation, name, exc_info=error)
    return number

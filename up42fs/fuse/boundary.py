"""The border between exceptions and errno: one decorator on every handler.

Knows nothing of what a handler does. Any exception other than FUSEError that leaves a handler
kills the whole mount, and so does a FUSEError inside an ExceptionGroup (pyfuse3 3.5). Therefore:
domain errors become their errno; groups are opened; a deadline becomes ETIMEDOUT; cancellation
passes; everything else is logged with its traceback and becomes EIO, or ENOMEM where memory gave
out.
"""

from __future__ import annotations

import errno
import functools
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import pyfuse3
import trio

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
from up42fs.metrics import Metrics
from up42fs.patience import LISTING_S, LONGEST_S, at_most_s, patient_s, request_s
from up42fs.supervise import is_short_of_memory, leaves

log = logging.getLogger(__name__)

#: Every handler answers within this many seconds, a read within its own, longer span: FUSE
#: clients in most calls cannot be interrupted, and a mount that waits blocks suspend and `df`.
METADATA_DEADLINE_S = request_s(28.0)
#: But for those that may wait for the first listing of a large storage.
LISTING_DEADLINE_S = at_most_s(patient_s(LISTING_S))
READ_DEADLINE_S = request_s(LONGEST_S)

#: Errors that are answers, or told by others: not worth a line in the log each time.
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


class _Latest:
    """The scope of the handler that was called last: until it waits, or has ended, its own."""

    scope: trio.CancelScope | None = None


def scope_of_latest() -> trio.CancelScope | None:
    """What cancels the handler that begins to wait just now; it then answers EINTR."""
    return _Latest.scope


class HasMetrics(Protocol):
    """What the decorator needs of the object whose handlers it wraps."""

    metrics: Metrics


S = TypeVar("S", bound=HasMetrics)
P = ParamSpec("P")
R = TypeVar("R")
Handler = Callable[Concatenate[S, P], Coroutine[Any, Any, R]]


def boundary(deadline_s: float | None) -> Callable[[Handler[S, P, R]], Handler[S, P, R]]:
    """Let only FUSEError and cancellation out of a handler, and only within `deadline_s`.

    None for a handler that awaits nothing: it needs no deadline, which costs a fifth of a request.
    """

    def decorate(handler: Handler[S, P, R]) -> Handler[S, P, R]:
        operation = getattr(handler, "__name__", "handler")

        @functools.wraps(handler)
        async def guarded(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
            try:
                if deadline_s is None:
                    return await handler(self, *args, **kwargs)
                with trio.CancelScope(deadline=trio.current_time() + deadline_s) as scope:
                    _Latest.scope = scope
                    return await handler(self, *args, **kwargs)
                if trio.current_time() < scope.deadline:
                    raise pyfuse3.FUSEError(errno.EINTR)  # its reader is about to end
                raise trio.TooSlowError
            except (pyfuse3.FUSEError, trio.Cancelled, GeneratorExit):
                raise
            except BaseException as error:
                number = to_errno(operation, error)
                self.metrics.count(f"fuse.errors_{errno.errorcode.get(number, number)}")
                raise pyfuse3.FUSEError(number) from None

        return guarded

    return decorate


def to_errno(operation: str, error: BaseException) -> int:
    """The errno for what left a handler; logs it unless it is an ordinary answer."""
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

"""All errors that up42fs raises on purpose, by cause and by errno.

This is the one table from failures to errno values; `FUSEError` is made from it in `fuse.boundary`
and nowhere else. Each message says what happened, to which asset, and what to do.

    Up42fsError                     EIO
    ├── ConfigurationError          EINVAL       the user requested something impossible
    │   └── UsageError              EINVAL       an option that does not exist, or its value
    ├── SignInFailed                EACCES       UP42 refused the credentials
    ├── NotFound                    ENOENT       no such name, or UP42 no longer has it
    ├── NotADirectory               ENOTDIR
    ├── IsADirectory                EISDIR
    ├── NoAttribute                 ENODATA      no such extended attribute
    ├── ReadOnly                    EROFS        a write reached a read-only mount
    ├── InvalidArgument             EINVAL
    ├── CannotUnpack                EOPNOTSUPP   a member of an archive is packed in an unknown way
    ├── TooManyMembers              EFBIG        an archive has more members than up42fs reads
    ├── NotEditable                 EPERM        it can be read, not set
    ├── Unsupported                 ENOTSUP      an extended attribute that UP42 cannot store
    ├── AlreadyExists               EEXIST
    ├── NotEmpty                    ENOTEMPTY
    ├── Conflict                    EBUSY        another program changes it; the kernel does not
    │                                            retry, as it does after ESTALE
    ├── Overloaded                  EAGAIN       too many edits wait for UP42 already
    ├── BadHandle                   EBADF
    ├── AccessDenied                EACCES       UP42 refuses this account
    │   ├── CrowdRefused            EACCES       an indexer or thumbnailer reads more than a head
    │   ├── Encrypted               EACCES       a member of an archive has a password
    │   └── NotShared               EACCES       only the user who mounted and root may read it
    ├── QuotaExceeded               EDQUOT       the user's own budget is used up
    ├── NoSpace                     ENOSPC       no space for files kept on this machine
    ├── VersionChanged              ESTALE       the object is not the one that was opened
    ├── Offline                     ENETUNREACH  no route to UP42
    ├── DeadlineExceeded            ETIMEDOUT    it took longer than the operation may take
    ├── NoMemory                    ENOMEM       the machine has no memory left for it
    └── Unavailable                 EIO          UP42 kept failing
        ├── DamagedArchive          EIO          an archive contradicts itself
        └── InvalidAnswer           EIO          UP42 sent a response that cannot be right
"""

import errno
from typing import ClassVar, TypeVar

E = TypeVar("E", bound="Up42fsError")


class Up42fsError(Exception):
    """Base of every error up42fs raises on purpose; `errno` is returned by the system call."""

    errno: ClassVar[int] = errno.EIO


def copied(error: E) -> E:
    """The same error for another task: one exception raised in several would mix their tracebacks.

    Its cause is that of `error`; `raise copied(error) from error` keeps the first traceback too.
    """
    copy = type(error)(*error.args)
    copy.__cause__ = error.__cause__
    return copy


class ConfigurationError(Up42fsError):
    """The settings, the machine or the command line make the request impossible."""

    errno = errno.EINVAL


class UsageError(ConfigurationError):
    """A setting that does not exist, or a value that it cannot have."""


class SignInFailed(Up42fsError):
    """The identity server refused the credentials."""

    errno = errno.EACCES


class NotFound(Up42fsError):
    """No such name, or the storage no longer has it."""

    errno = errno.ENOENT


class NotADirectory(Up42fsError):
    """A directory operation on something else."""

    errno = errno.ENOTDIR


class IsADirectory(Up42fsError):
    """A file operation on a directory."""

    errno = errno.EISDIR


class NoAttribute(Up42fsError):
    """The file has no extended attribute of that name."""

    errno = errno.ENODATA


class ReadOnly(Up42fsError):
    """Delivered data cannot be written."""

    errno = errno.EROFS


class InvalidArgument(Up42fsError):
    """A value UP42 or the kernel would refuse."""

    errno = errno.EINVAL


class TooLarge(Up42fsError):
    """An attribute's value is larger than a system call can hand over."""

    errno = errno.E2BIG


class TooManyMembers(Up42fsError):
    """An archive has more members, or a larger directory, than up42fs reads."""

    errno = errno.EFBIG


class NotEditable(Up42fsError):
    """It can be read, not set."""

    errno = errno.EPERM


class Unsupported(Up42fsError):
    """An extended attribute that UP42 cannot store."""

    errno = errno.ENOTSUP


class CannotUnpack(Up42fsError):
    """The member of an archive is packed in a way that up42fs does not know."""

    errno = errno.EOPNOTSUPP


class AlreadyExists(Up42fsError):
    """The name is taken."""

    errno = errno.EEXIST


class NotEmpty(Up42fsError):
    """The directory still has members."""

    errno = errno.ENOTEMPTY


class Conflict(Up42fsError):
    """Another program changed it, or keeps changing it."""

    errno = errno.EBUSY


class Overloaded(Up42fsError):
    """Too much of its kind waits already; nothing was begun."""

    errno = errno.EAGAIN


class BadHandle(Up42fsError):
    """The handle is not open."""

    errno = errno.EBADF


class AccessDenied(Up42fsError):
    """UP42 refuses this account the operation."""

    errno = errno.EACCES


class CrowdRefused(AccessDenied):
    """A program that opens every file it finds may read heads only."""


class Encrypted(AccessDenied):
    """The member of an archive is encrypted, and nobody told the password."""


class NotShared(AccessDenied):
    """Another user of the machine requests data that only the user who mounted may read."""


class QuotaExceeded(Up42fsError):
    """The amount that the user allowed to be fetched is used up."""

    errno = errno.EDQUOT


class NoSpace(Up42fsError):
    """This machine has no space for files to be kept on it."""

    errno = errno.ENOSPC


class VersionChanged(Up42fsError):
    """The object changed or vanished beneath an open handle; its bytes must not be mixed."""

    errno = errno.ESTALE


class OtherVersion(VersionChanged):
    """The path now leads to another version; on this error the kernel looks it up again."""


class Offline(Up42fsError):
    """UP42 cannot be reached from here at all."""

    errno = errno.ENETUNREACH


class DeadlineExceeded(Up42fsError):
    """The operation's deadline passed."""

    errno = errno.ETIMEDOUT


class NoMemory(Up42fsError):
    """The machine has no memory left for it."""

    errno = errno.ENOMEM


class Unavailable(Up42fsError):
    """UP42 kept failing until the retries were used up."""

    errno = errno.EIO


class InvalidAnswer(Unavailable):
    """An answer that cannot be right; trusting it could return wrong bytes."""


class StillReading(DeadlineExceeded):
    """The table of an archive takes longer than a call may wait, and its bytes arrive."""


class DamagedArchive(Unavailable):
    """An archive contradicts itself: bytes of it would be guesses."""

"""What an error says about the snapshot's file."""

from __future__ import annotations

import sqlite3
from enum import Enum

from up42fs.supervise import is_short_of_anything


class Ailment(Enum):
    """The meaning of an error for the file."""

    BUSY = "another mount writes to it: later"
    SHORT = "no room, no descriptor, no memory just now: later"
    DAMAGED = "it cannot be read: build it anew"
    REFUSED = "it may not be written here: do without"
    OURS = "nothing; what was to be written is wrong"


_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_SHORT = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_PROTOCOL,
)
_REFUSED = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH)
#: Values that no column accepts: a number beyond 64 bits, text that is no Unicode.
_VALUES = (sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_RANGE)


def ailment(error: Exception, *, reading: bool) -> Ailment:
    """Classify `error`, raised while the file was read (`reading`) or written."""
    if isinstance(error, sqlite3.Error):
        return _of_sqlite(error, reading=reading)
    if is_short_of_anything(error):
        return Ailment.SHORT
    if isinstance(error, OSError):
        return Ailment.REFUSED
    return Ailment.DAMAGED if reading else Ailment.OURS


def _of_sqlite(error: sqlite3.Error, *, reading: bool) -> Ailment:
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        # Raised by Python's module itself, because of its arguments or the file's contents.
        return Ailment.DAMAGED if reading else Ailment.OURS
    kinds = {Ailment.BUSY: _BUSY, Ailment.SHORT: _SHORT, Ailment.REFUSED: _REFUSED}
    for kind, codes in (kinds | {Ailment.OURS: _VALUES}).items():
        if code & 0xFF in codes:
            return kind
    return Ailment.DAMAGED

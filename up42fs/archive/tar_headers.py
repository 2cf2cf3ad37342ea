"""The blocks of a tar: headers, their numbers, and the records of pax headers.

Knows one block at a time and nothing of where it lies. A header is read as GNU tar reads it; where
archives of other programs differ, the comment beside the line says so.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Everything in a tar is padded to blocks.
BLOCK = 512
#: Larger numbers are no offsets or sizes.
_MOST = (1 << 63) - 1
_USTAR = b"ustar\0"
#: The records of pax headers that say something about a member here. All others are dropped.
_KEYS = frozenset(
    {
        *("path", "linkpath", "size", "mtime"),
        *("GNU.sparse.major", "GNU.sparse.minor", "GNU.sparse.name", "GNU.sparse.realsize"),
        *("GNU.sparse.size", "GNU.sparse.map", "GNU.sparse.numblocks"),
    }
)
#: In version 0.0 of sparse files one of these two stands for each segment, in turn.
_PAIRS = ("GNU.sparse.offset", "GNU.sparse.numbytes")
#: Where the pairs of version 0.0 are collected.
PAIRS_KEY = ".pairs"


class BadHeaderError(ValueError):
    """The block is no header."""


@dataclass(frozen=True, slots=True)
class Header:
    """A header block. Names are bytes as they stand, `kind` is the type flag."""

    name: bytes
    kind: bytes
    size: int
    mode: int | None
    mtime: int
    link: bytes


def is_zero(block: bytes) -> bool:
    """Whether the block is the mark of the archive's end."""
    return not any(block)


def parse_header(block: bytes) -> Header:
    """The header in a block; raises BadHeaderError if its checksum or its size is wrong."""
    _check_sum(block)
    size = parse_number(block[124:136])
    if size is None:
        raise BadHeaderError
    name = _text(block[:100])
    # Only ustar has a prefix. GNU tar keeps times there, older archives anything.
    if block[257:263] == _USTAR and (prefix := _text(block[345:500])):
        if block[508:512] == b"tar\0":
            prefix = _text(block[345:476])  # star's times follow its shorter prefix
        name = prefix + b"/" + name
    mode = parse_number(block[100:108])
    mtime = parse_number(block[136:148], is_signed=True) or 0
    mode = None if mode is None else mode & 0o777
    return Header(name, block[156:157], size, mode, mtime, _text(block[157:257]))


def parse_number(field: bytes, *, is_signed: bool = False) -> int | None:
    """A number of a header: octal, or base 256 if its first bit is set; None if it is none."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big", signed=True)
        if field[0] != 0xFF:  # the mark 0x80 is not part of the number
            value = int.from_bytes(bytes((field[0] & 0x7F,)) + field[1:], "big")
    else:
        digits = field.partition(b"\0")[0].strip()
        if not digits:
            return 0
        try:
            # Only octal digits: `int` takes signs, underlines and prefixes as well.
            value = int(digits, 8) if digits.isdigit() else -1
        except ValueError:
            return None
        if value < 0:
            return None
    return value if -_MOST <= value <= _MOST and (is_signed or value >= 0) else None


def parse_records(body: bytes, known: dict[str, bytes] | None = None) -> dict[str, bytes]:
    """The records of a pax header over those `known` before; raises BadHeaderError if malformed.

    An empty value takes a known one back. Only records that say something here are kept.
    """
    found = dict(known or {})
    pairs: list[bytes] = []
    at = 0
    while at < len(body) and body[at]:
        space = body.find(b" ", at, at + 20)
        digits = body[at : max(space, at)]
        if not digits.isdigit() or not space - at + 1 < int(digits) <= len(body) - at:
            raise BadHeaderError
        stop = at + int(digits)
        raw_key, equals, value = body[space + 1 : stop - 1].partition(b"=")
        if not equals or body[stop - 1 : stop] != b"\n":
            raise BadHeaderError
        key = raw_key.decode("ascii", "replace")
        if key in _PAIRS:
            pairs.append(value)
        elif key in _KEYS:
            found[key] = value
        at = stop
    if pairs:
        found[PAIRS_KEY] = b",".join(pairs)
    return {key: value for key, value in found.items() if value}


def parse_decimal(value: bytes | None) -> int | None:
    """A whole number of a pax record that is no less than 0."""
    if value is None or not value.isdigit() or len(value) > 19:
        return None
    number = int(value)
    return number if number <= _MOST else None


def parse_time_ns(value: bytes) -> int | None:
    """A time of a pax record, `1700000000.123456789`, in nanoseconds."""
    text = value.decode("ascii", "replace").strip()
    sign, text = (-1, text[1:]) if text.startswith("-") else (1, text)
    seconds, _, fraction = text.partition(".")
    if not (seconds + fraction).isdecimal() or not text.isascii() or len(seconds) > 15:
        return None
    return sign * (int(seconds or "0") * 10**9 + int(fraction[:9].ljust(9, "0")))


def _check_sum(block: bytes) -> None:
    told = parse_number(block[148:156])
    plain = sum(block) - sum(block[148:156]) + 8 * 0x20
    if told == plain:
        return
    # Some old writers summed signed bytes.
    signed = plain - 256 * sum(byte >= 0x80 for byte in block[:148] + block[156:])
    if told is None or told != signed:
        raise BadHeaderError


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]

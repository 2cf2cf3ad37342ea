"""Bounds on API responses: how much is received, unpacked and parsed, without blocking the loop.

A server, or a proxy in its place, may send anything: five kilobytes that unpack to gigabytes, or a
page of empty lists, each of which takes 25 times as much memory as its text. So lengths are counted
before and after unpacking, memory is estimated before parsing, and a response that exceeds a bound
is rejected.

Large responses are parsed in a thread. The C parser holds the interpreter's lock until it has
parsed its whole input, so it gets the document in pieces: a value longer than `PIECE_CHARACTERS` is
split here into its members. The loop can run between two pieces.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

#: Largest response, on the wire and unpacked: a page of 100 STAC items has about 5 MB.
LARGEST_ANSWER_BYTES = 32 << 20
#: Memory that the values of one response may take, by estimate.
MOST_PARSED_BYTES = 160 << 20
#: Rows of one page: 100 are requested, and a server without paging sends all rows at once.
MOST_ROWS = 20_000
MOST_DEPTH = 500
#: Accepted compressions, with zlib's `wbits`; more than one layer is rejected.
_ENCODINGS = {"gzip": 47, "x-gzip": 47, "deflate": 47}
#: Bytes unpacked at a time, before other tasks may run.
_UNPACKED_AT_ONCE = 1 << 20
#: Responses up to this length are parsed in the loop itself, in at most 5 ms.
SMALL_BYTES = 256 << 10
PIECE_CHARACTERS = 128 << 10
_LOOK_CHARACTERS = 4 << 10
#: Estimated memory of values beside their text: an object, a list, a member of either.
_OBJECT_BYTES, _LIST_BYTES, _MEMBER_BYTES = 160, 64, 64

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_SPACE = re.compile(r"[ \t\n\r]*")
_ALL_BUT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


class OutOfBoundsError(Exception):
    """A response that is too large, too deeply nested, or compressed in an unsupported way."""


class Unpacker:
    """Unpacks the body of a response as it arrives, a piece at a time."""

    def __init__(self, encoding: str) -> None:
        layers = [name for name in re.split(r"[,\s]+", encoding.lower()) if name]
        layers = [name for name in layers if name != "identity"]
        if len(layers) > 1 or any(name not in _ENCODINGS for name in layers):
            raise OutOfBoundsError(f"content encoding {encoding[:60]!r}")
        self._unzip = zlib.decompressobj(_ENCODINGS[layers[0]]) if layers else None
        self._is_raw_tried = False
        self.wire_bytes = self.bytes = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the unpacked bytes of `data`; raises OutOfBoundsError, also for malformed data."""
        self.wire_bytes += len(data)
        if self.wire_bytes > LARGEST_ANSWER_BYTES:
            raise OutOfBoundsError(f"more than {LARGEST_ANSWER_BYTES} bytes")
        if self._unzip is None:
            yield self._counted(data)
            return
        while data and not self._unzip.eof:
            yield self._counted(self._unpacked(data))
            data = self._unzip.unconsumed_tail

    def _unpacked(self, data: bytes) -> bytes:
        assert self._unzip is not None, "the body is packed"
        try:
            return self._unzip.decompress(data, _UNPACKED_AT_ONCE)
        except zlib.error as error:
            if self.bytes or self._is_raw_tried:
                raise OutOfBoundsError("not packed as it says") from error
        # Some servers send a bare deflate stream under the name "deflate".
        self._is_raw_tried = True
        self._unzip = zlib.decompressobj(-zlib.MAX_WBITS)
        return self._unpacked(data)

    def _counted(self, data: bytes) -> bytes:
        self.bytes += len(data)
        if self.bytes > LARGEST_ANSWER_BYTES:
            raise OutOfBoundsError(f"more than {LARGEST_ANSWER_BYTES} bytes unpacked")
        return data


def parse(body: bytes) -> Any:
    """Return the JSON value of `body`, or None if it is no JSON. Raises OutOfBoundsError."""
    check_shape(body)
    try:
        text = body.decode(json.detect_encoding(body), "surrogatepass")
        if len(body) <= SMALL_BYTES:
            return _within_rows(json.loads(text))
        return _Pieces(text).document()
    except (ValueError, RecursionError):
        return None


def check_shape(body: bytes) -> None:
    """Raise OutOfBoundsError if the values would take too much memory or nest too deeply."""
    taken = _OBJECT_BYTES * body.count(b"{") + _LIST_BYTES * body.count(b"[")
    if len(body) + taken + _MEMBER_BYTES * body.count(b",") > MOST_PARSED_BYTES:
        raise OutOfBoundsError("values without end")
    # The quick count includes brackets within strings, so a high count is checked without strings.
    if _depth(body) > MOST_DEPTH and _depth(_STRING.sub(b"", body)) > MOST_DEPTH:
        raise OutOfBoundsError(f"nested deeper than {MOST_DEPTH}")


def _depth(body: bytes) -> int:
    brackets = body.translate(None, _ALL_BUT_BRACKETS)
    return max(accumulate(map(_STEPS.__getitem__, brackets)), default=0)


def _within_rows(document: Any) -> Any:
    if isinstance(document, dict):
        for value in document.values():
            if isinstance(value, list) and len(value) > MOST_ROWS:
                raise OutOfBoundsError(f"more than {MOST_ROWS} rows")
    return document


class _Pieces:
    """A JSON text that is parsed value by value."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._decode = json.JSONDecoder().raw_decode

    def document(self) -> Any:
        value, at = self._value(self._skip(0), 0)
        if self._skip(at) != len(self._text):
            raise ValueError("there is more after the value")
        return value

    def _value(self, at: int, depth: int) -> tuple[Any, int]:
        opening = self._text[at : at + 1]
        if opening not in ("{", "["):
            return self._decode(self._text, at)
        # A short value is found in the first, short slice, so many short values cost no long
        # copies.
        for length in (_LOOK_CHARACTERS, PIECE_CHARACTERS):
            try:
                value, used = self._decode(self._text[at : at + length])
            except ValueError:
                continue
            return value, at + used
        return self._object(at, depth) if opening == "{" else self._list(at, depth)

    def _object(self, at: int, depth: int) -> tuple[dict[str, Any], int]:
        found: dict[str, Any] = {}
        at = self._skip(at + 1)
        while not self._is(at, "}"):
            key, at = self._decode(self._text, at)
            if not isinstance(key, str) or not self._is(at := self._skip(at), ":"):
                raise ValueError("no member of an object")
            found[key], at = self._value(self._skip(at + 1), depth + 1)
            at = self._onward(at, "}")
        return found, at + 1

    def _list(self, at: int, depth: int) -> tuple[list[Any], int]:
        found: list[Any] = []
        at = self._skip(at + 1)
        while not self._is(at, "]"):
            value, at = self._value(at, depth + 1)
            found.append(value)
            if depth == 1 and len(found) > MOST_ROWS:
                raise OutOfBoundsError(f"more than {MOST_ROWS} rows")
            at = self._onward(at, "]")
        return found, at + 1

    def _onward(self, at: int, closing: str) -> int:
        """Return the position of the next member, or of `closing`."""
        at = self._skip(at)
        if self._is(at, ","):
            after = self._skip(at + 1)
            if not self._is(after, closing):
                return after
        elif self._is(at, closing):
            return at
        raise ValueError("neither a comma nor an end")

    def _is(self, at: int, char: str) -> bool:
        return self._text.startswith(char, at)

    def _skip(self, at: int) -> int:
        space = _SPACE.match(self._text, at)
        assert space is not None, "it matches anything"
        return space.end()

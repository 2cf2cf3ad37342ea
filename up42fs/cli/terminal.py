"""What commands print, on terminals of any encoding.

Knows streams; nothing of what is printed. Names from UP42 and paths of this machine may hold
characters that the terminal's encoding lacks, and bytes that are no characters at all. A command
that ended in UnicodeEncodeError over one of them would hide what it had to say.
"""

from __future__ import annotations

import codecs
import io
import sys
import unicodedata

#: Of the codec errors: bytes as they came, characters by their like, else a question mark.
ERRORS = "up42fs"
_LIKE = {"…": "...", "·": "*", "→": "->", "\u2013": "-", "\u2014": "-", "\u2019": "'"}


def speak_any_encoding() -> None:
    """Let standard output and error take any text."""
    codecs.register_error(ERRORS, _replaced)
    for stream in (sys.stdout, sys.stderr):
        # Tests and programs that import us may have put something else there.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ERRORS)


def _replaced(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    stop = error.start + 1
    return _like(error.object[error.start], error.encoding), stop


def _like(char: str, encoding: str) -> str | bytes:
    if "\udc80" <= char <= "\udcff":
        return bytes([ord(char) - 0xDC00])  # a byte of a path that is not UTF-8
    bare = "".join(c for c in unicodedata.normalize("NFKD", char) if not unicodedata.combining(c))
    for like in (_LIKE.get(char, ""), bare):
        try:
            like.encode(encoding)
        except UnicodeEncodeError:
            continue
        if like:
            return like
    return "?"

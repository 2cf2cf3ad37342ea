"""Standard input, output and error, in whatever state they are, and of any encoding.

Daemons and some service managers start programs with descriptors 0 to 2 closed: the next opened
file then gets such a number, and printed text goes into it. A reader of the output may exit (`|
head`), and a disk may be full (`> file`). Names from UP42 and local paths may hold characters that
the terminal's encoding lacks, and bytes that are not text at all. A command that ended in
UnicodeEncodeError over one of them would lose its actual message.
"""

from __future__ import annotations

import codecs
import io
import json
import os
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from up42fs.visible import visible

if TYPE_CHECKING:
    from rich.console import Console

#: The exit status that a shell reports for a program that SIGPIPE ended.
PIPE_STATUS = 141
#: Name of the codec error handler: keeps bytes, replaces characters by similar ones, else by "?".
ERRORS = "up42fs"
#: Columns of a table that can be read; rich prints nothing at all where COLUMNS is 0.
_NARROWEST = 40
_LIKE = {
    **dict(zip("░▒▓█", ".:*#", strict=True)),
    **{"…": "...", "·": "*", "→": "->", "\u2013": "-", "\u2014": "-", "\u2019": "'"},
}


def ensure_open() -> None:
    """Open /dev/null in place of closed standard descriptors."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def speak_any_encoding() -> None:
    """Make standard output and error accept any text."""
    codecs.register_error(ERRORS, _replaced)
    for stream in (sys.stdout, sys.stderr):
        # Tests, and programs that import this package, may have replaced the stream.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ERRORS)


def say(*lines: str, to_error: bool = False, flush: bool = False, end: str = "\n") -> None:
    """Print lines with control characters escaped: no name steers the terminal or adds a line.

    Commands print only through this function; `make_console` is for rich's output.
    """
    stream = sys.stderr if to_error else sys.stdout
    print(*map(visible, lines), sep="\n", end=end, file=stream, flush=flush)


def say_json(document: object, indent: int | None = 2) -> None:
    say(*json.dumps(document, indent=indent).split("\n"))


def make_console(**options: Any) -> Console:
    """Make a rich console that shows escapes in place of unprintable characters."""
    from rich.console import Console
    from rich.segment import Segment

    class Visible(Console):
        def render(self, *arguments: Any, **words: Any) -> Iterator[Segment]:
            for segment in super().render(*arguments, **words):
                text, style, control = segment
                yield segment if control else Segment(visible(text, keep="\n"), style, control)

    console = Visible(**options)
    console.width = max(console.width, _NARROWEST)
    return console


def guarded(work: Callable[[], int]) -> int:
    """Run `work`, flush its output, and return its status.

    If the output's reader is gone, the command ends silently, as SIGPIPE ends other programs.
    """
    status = 0
    try:
        try:
            status = work()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _silence()
        return PIPE_STATUS
    except OSError as error:
        _silence()
        if status == 0:
            with suppress(OSError):
                say(f"up42fs: standard output: {error.strerror}", to_error=True)
        return status or 1
    return status


def _silence() -> None:
    """Discard all further output, about which the interpreter would complain at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                os.dup2(null, stream.fileno())
    os.close(null)


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

"""Every pattern and parser that takes foreign text takes time in proportion to its length.

A pattern is attacked by strings made of its own letters: pieces of it repeated, after one another,
with an end that fails. What takes quadratic time takes sixteen times as long for four times the
text, and seconds long before the longest; what is linear takes milliseconds.
"""

from __future__ import annotations

import importlib
import itertools
import pkgutil
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

import httpx
import pytest

import up42fs
from up42fs import logs
from up42fs.api import bounds, explain, links, schema
from up42fs.doctor.scrub import Scrubber
from up42fs.fs.sidecars import names as sidecars
from up42fs.model import names, query
from up42fs.net import expiry, pacing
from up42fs.store.http.answer import ResponseHead, VersionPin, judge, total_of
from up42fs.types import ByteRange

LENGTHS = (1 << 10, 1 << 12, 1 << 14, 1 << 16)
#: What is linear takes 1 to 20 ms for the longest; what is quadratic a minute and more.
MOST_S = 1.5
#: No verdict by the ratio below: it is noise.
SURE_S = 0.1


def patterns() -> dict[str, tuple[re.Pattern[Any], set[str]]]:
    """All patterns that any module of ours has compiled, and the methods that it calls of them."""
    found: dict[str, tuple[re.Pattern[Any], set[str]]] = {}
    for module in pkgutil.walk_packages(up42fs.__path__, "up42fs."):
        if module.name.endswith("__main__"):
            continue
        loaded = importlib.import_module(module.name)
        for name, value in vars(loaded).items():
            pattern = getattr(value, "__self__", value)  # `_X.fullmatch` kept as a function
            if isinstance(pattern, re.Pattern):
                source = Path(str(loaded.__file__)).read_text()
                used = set(re.findall(rf"\b{name}\.(match|fullmatch|search|\w+)\b", source))
                if pattern is not value:
                    used = {value.__name__}
                found.setdefault(f"{module.name}.{name}", (pattern, used & _METHODS or _METHODS))
    return found


_METHODS = {"match", "fullmatch", "search", "finditer", "findall", "sub", "split"}


PATTERNS = patterns()


def letters(pattern: re.Pattern[Any]) -> list[str]:
    """Pieces that the pattern is made of: literals in a row, and a letter of each class."""
    source = pattern.pattern
    text = source.decode("latin-1") if isinstance(source, bytes) else source
    pieces: list[str] = []

    def walk(tree: Any) -> None:
        run = ""
        for code, value in tree:
            if code is codes.LITERAL:
                run += chr(value)
                continue
            if run:
                pieces.append(run)
                run = ""
            if code is codes.IN:
                pieces.extend(_of_class(value))
            elif code is codes.NOT_LITERAL or code is codes.ANY:
                pieces.append("a")
            for part in _parts(value):
                walk(part)
        if run:
            pieces.append(run)

    walk(parser.parse(text, pattern.flags & ~re.UNICODE))
    return list(dict.fromkeys([*pieces, "a", "0", " ", "\\", '"', "@", ":", "/"]))


def _parts(value: Any) -> Iterator[Any]:
    if isinstance(value, parser.SubPattern):
        yield value
    elif isinstance(value, tuple | list):
        for one in value:
            yield from _parts(one)


def _of_class(members: Any) -> Iterator[str]:
    for code, value in members:
        if code is codes.LITERAL:
            yield chr(value)
        elif code is codes.RANGE:
            yield chr(value[0])
        elif code is codes.CATEGORY:
            yield {"DIGIT": "0", "SPACE": " "}.get(str(value).rpartition("_")[2], "a")


def attacks(pieces: list[str]) -> Iterator[tuple[str, str]]:
    """(Beginning, what is repeated) of strings that end with something which fits nowhere."""
    for piece in pieces:
        yield "", piece
    for one, other in itertools.permutations(pieces[:8], 2):
        yield "", one + other
        yield one, other
    for three in itertools.permutations(pieces[:4], 3):
        yield "", "".join(three)
    whole = "".join(pieces[:8])
    for piece in pieces:
        yield whole, piece
        yield "", whole + piece


def is_linear(work: Callable[[str], object], beginning: str, repeated: str) -> bool:
    before_s = 0.0
    for length in LENGTHS:
        text = beginning + repeated * (length // len(repeated)) + "\0"
        took_s = min(_took_s(work, text) for _ in range(2 if before_s > SURE_S / 8 else 1))
        is_slow = took_s > MOST_S or (took_s > SURE_S and before_s and took_s > 9 * before_s)
        # A machine under load may have stopped us: once more.
        if is_slow and _took_s(work, text) > took_s / 2:
            return False
        if took_s < 0.002 and length >= LENGTHS[2]:
            return True  # it gave up early
        before_s = took_s
    return True


def _took_s(work: Callable[[str], object], text: str) -> float:
    began_s = time.thread_time()
    work(text)
    return time.thread_time() - began_s


def test_the_attack_finds_what_is_quadratic() -> None:
    for bad in (r"(://[^/\s:@]*:)[^\s@]+(?=@)", r"(https?://[^\s?#]*)[?#]\S*", r"\s+$"):
        pattern = re.compile(bad)
        assert not all(
            is_linear(pattern.search, beginning, repeated)
            for beginning, repeated in attacks(letters(pattern))
        ), bad


@pytest.mark.claim("S143")
@pytest.mark.parametrize("name", PATTERNS)
def test_every_pattern_is_linear(name: str) -> None:
    pattern, methods = PATTERNS[name]
    is_bytes = isinstance(pattern.pattern, bytes)

    def work(text: str) -> None:
        subject = text.encode("latin-1", "replace") if is_bytes else text
        for method in methods:
            if method == "sub":
                pattern.sub(subject[:0], subject)
            elif method == "finditer":
                list(pattern.finditer(subject))
            else:
                getattr(pattern, method)(subject)

    for beginning, repeated in attacks(letters(pattern)):
        assert is_linear(work, beginning, repeated), (beginning, repeated)


def _head(text: str) -> object:
    plain = text.replace("\0", "x")
    fields = ("content-range", "content-length", "etag", "last-modified", "content-encoding")
    head = ResponseHead(206, dict.fromkeys(fields, plain))
    return total_of(head), judge(head, ByteRange(0, 10), VersionPin(100))


def _error(text: str) -> object:
    document = {"title": text, "detail": text, "error": {"message": text, "code": text}}
    bodies = (document, {"error": text}, {"title": text}, None)
    return [explain.explain(httpx.Response(500, text=text), body) for body in bodies]


PARSERS: dict[str, Callable[[str], object]] = {
    "logs.redact": logs.redact,
    "explain.redact": explain.redact,
    "scrub": Scrubber({}).log,
    "error bodies": _error,
    "heads of the store": _head,
    "bounds.parse": lambda text: [
        bounds.parse(form.format(text).encode("utf-8", "replace"))
        for form in ("{}", '{{"a":[{}', '["{}"]', "[{}]")
    ],
    "schema.parse_time": schema.parse_time,
    "schema.parse_asset": lambda text: schema.parse_asset(
        {"id": "i", "name": text, "title": text, "tags": [text], "createdAt": text, "size": text}
    ),
    "names.safe_name": names.safe_name,
    "names.asset_name": lambda text: names.asset_name(None, text, text, text),
    "query.parse_query": query.parse_query,
    "links.asset_id_of_href": lambda text: links.asset_id_of_href(text, "https://api.up42.com"),
    "links.is_safe_link": lambda text: links.is_safe_link(text, "https://api.up42.com"),
    "expiry.server_time": expiry.server_time,
    "expiry.lifetime_s": lambda text: expiry.lifetime_s("https://h/?" + text, 0.0),
    "pacing.retry_after_s": lambda text: pacing.retry_after_s(text, 0.0),
    "sidecars": lambda text: [*sidecars.readings(text), sidecars.parse_kept_name(text)],
}
#: What has bitten parsers of text before.
PIECES = [
    *("://u:", "password=", "password='", '"\\', "bearer ", "Signature=", "access_token='"),
    *("https://", "?", "#", "%", "&a=", ";", "eyJabcdefgh.", "@", "a", "0", " ", "\t", ",", "("),
    *("a\u0300\u0327", "\u0300\u0327", "<Code>", "cloud<", "=", ":", "/", ".", "-", "Mon, "),
]


@pytest.mark.claim("S143")
@pytest.mark.parametrize("name", PARSERS)
def test_every_parser_is_linear(name: str) -> None:
    for beginning, repeated in itertools.chain(
        (("", piece) for piece in PIECES), itertools.product(PIECES, PIECES)
    ):
        assert is_linear(PARSERS[name], beginning, repeated), (beginning, repeated)


@pytest.mark.claim("S143")
def test_a_line_of_the_log_is_bounded() -> None:
    """An asset named with 80 KB took 12.9 s to be told of; df waited for it."""
    named = "://a:" * (1 << 20)
    began_s = time.thread_time()
    written = logs.redact(named)
    assert time.thread_time() - began_s < 1
    assert len(written) < logs.MOST_CHARACTERS + 64
    assert written.endswith("more characters)")


@pytest.mark.claim("S143")
def test_a_secret_that_is_cut_is_no_less_a_secret() -> None:
    for form in ("password={}", "Signature={}", "Bearer {}", "https://u:{}@h"):
        for room in range(40):
            text = "x" * (logs.MOST_CHARACTERS - room - 1) + " " + form.format("hunter2" * 30_000)
            assert "hun" not in logs.redact(text)

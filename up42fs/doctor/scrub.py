"""Removes names from a text that leaves the machine: of assets, orders and tags, and of users.

Pure. A known name is found as a whole, in any case and also percent-encoded. In log lines, names
are also found by their position, before `(asset ID)` or between quotes, since a log may contain
names that are no longer known.

Names are looked up by their first word, so that a hundred thousand of them cost as much as one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

NAME = "<name>"
#: Shorter names identify no one, and replacing them would damage every text.
LEAST_CHARACTERS = 3
_WORD = re.compile(r"\w+")
_USERINFO = re.compile(r"(?<=://)[^/\s\"'<>]*@")
_ID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_LABELLED = re.compile(rf" \((?:asset|file|item|order) {_ID}")
#: Calls that a line of the log may begin with. Any other word may be the start of a name.
_CALLS = (
    "access|create|flush|fsync|getattr|getxattr|link|listxattr|lookup|mkdir|mknod|open|opendir|read"
    "|readdir|readlink|release|removexattr|rename|rmdir|setattr|setxattr|statfs|symlink|unlink|write"
)
#: The start of a line of up42fs's log: time, level, logger, and which call it was.
_HEAD = re.compile(
    r"\A(?:(?:<\d>|[\d :,-]+ (?:DEBUG|INFO|WARNING|ERROR|CRITICAL) )[\w.]+: "
    rf"(?:(?:{_CALLS}): )?|[\w.]+Error: )"
)
#: Quoted text, also if the closing quote is missing: a pattern that required it would be retried
#: from every quote.
_QUOTED = re.compile(r"'(?:[^'\\\n]|\\.)*('?)|\"(?:[^\"\\\n]|\\.)*(\"?)")
_DOUBLE_QUOTED = re.compile(r"()\"(?:[^\"\\\n]|\\.)*(\"?)")
_PLAIN = re.compile(rf"(?:{_ID}|[\d.,-]*)\Z")
_FRAME = re.compile(r'\s*File "[^"\n]*", line \d+')


class Scrubber:
    """Replaces known names; `words` maps each name to its replacement."""

    def __init__(self, words: Mapping[str, str]) -> None:
        self._by_first: dict[str, list[tuple[str, int, str]]] = {}
        for word, instead in words.items():
            for form in {word, quote(word), quote(word, safe="")}:
                first = _WORD.search(form)
                if first is not None and len(form) >= LEAST_CHARACTERS:
                    entry = (form, first.start(), instead)
                    self._by_first.setdefault(first[0].lower(), []).append(entry)
        for entries in self._by_first.values():
            entries.sort(key=lambda entry: len(entry[0]), reverse=True)

    def text(self, text: str) -> str:
        """Return `text` without known names and without the users of URLs."""
        text = _USERINFO.sub("<redacted>@", text)
        made: list[str] = []
        done = 0
        for first in _WORD.finditer(text):
            if first.start() < done:
                continue
            for word, before, instead in self._by_first.get(first[0].lower(), ()):
                start = first.start() - before
                stop = start + len(word)
                if start < done or text[start:stop].lower() != word.lower():
                    continue
                made += (text[done:start], instead)
                done = stop
                break
        made.append(text[done:])
        return "".join(made)

    def message(self, text: str) -> str:
        """Return `text` without known names and without text before an ID or between quotes."""
        return self.text("".join(map(_without_labels, text.splitlines(keepends=True))))

    def value(self, value: Any) -> Any:
        """Apply `message` to every string of a JSON value, and `text` to its member names."""
        match value:
            case str():
                return self.message(value)
            case dict():
                return {self.text(str(name)): self.value(inner) for name, inner in value.items()}
            case list() | tuple():
                return [self.value(inner) for inner in value]
            case _:
                return value

    def log(self, text: str) -> str:
        """Return a log, text or JSON lines, without known or unknown names."""
        return "".join(self._line(line) for line in text.splitlines(keepends=True))

    def _line(self, line: str) -> str:
        if line.startswith("{"):
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                entry = None
            if isinstance(entry, dict):
                return json.dumps(self.value(entry), ensure_ascii=False) + "\n"
        return self.text(_without_labels(line))


def known(names: Iterable[str | None]) -> dict[str, str]:
    """Map names, and the stems of file names, to their replacement, for a Scrubber."""
    words: dict[str, str] = {}
    for name in names:
        if name and len(name) >= LEAST_CHARACTERS:
            words[name] = NAME
            stem = name.rpartition(".")[0]
            if len(stem) >= LEAST_CHARACTERS:
                words[stem] = NAME
    return words


def _without_labels(line: str) -> str:
    if _FRAME.match(line):
        return line
    head = _HEAD.match(line)
    start = head.end() if head else 0
    return line[:start] + _QUOTED.sub(_unquoted, _without_label(line[start:]))


def _without_label(text: str) -> str:
    """Replace each text before an `(asset ID)`."""
    begins_at = len(text) - len(text.lstrip())
    ends = [found.start() for found in _LABELLED.finditer(text) if found.start() > begins_at]
    if not ends:
        return text
    return text[:begins_at] + " ".join([NAME] * len(ends)) + text[ends[-1] :]


def _unquoted(found: re.Match[str]) -> str:
    if not (found[1] or found[2]):
        # A single apostrophe: names between double quotes may follow it.
        is_single = found[0].startswith("'")
        return _DOUBLE_QUOTED.sub(_unquoted, found[0]) if is_single else found[0]
    return found[0] if _PLAIN.match(found[0][1:-1]) else f"'{NAME}'"

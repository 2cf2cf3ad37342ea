"""Edits of an asset's title and tags as intentions, and their effect on the newest state.

Theory. UP42 accepts whole values only: a new title, a new list of tags (contract §3.2). A program
that writes back a list it read a while ago removes the tags that others added meanwhile. So an edit
is kept as an *intention*, these tags added, those removed, this title, and is applied to a fresh
state; if the write fails it is applied anew to a fresher one. An edit that changes nothing any more
has been carried out, by us or by others. The opposite of an edit is an intention too: it undoes the
edit, not the later changes of others.

Values are checked before they are sent: tags hold letters, digits, blanks and `. - _ / :`; a comma
separates them in attributes. UP42 does not document maximum lengths; the limits are ours: a tag is
the name of a directory, a title fits wherever it is shown. Tags that an asset already has are not
checked: they may be older than the rules.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from up42fs.errors import InvalidArgument
from up42fs.model.names import MAX_NAME_BYTES

#: Longest tag and title, bytes of UTF-8; most tags of one asset.
MAX_TAG_BYTES = MAX_NAME_BYTES
MAX_TITLE_BYTES = 1000
MAX_TAGS = 200

_TAG_CHARACTERS = frozenset(" .-_/:")
_NOT_IN_TITLES = frozenset({"Cc", "Cs", "Zl", "Zp"})


class Keep(Enum):
    """Leaves a title as it is, whereas None clears it."""

    KEEP = "keep"


class Metadata(NamedTuple):
    """The editable data of an asset."""

    title: str | None
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Edit:
    """An intention. `only_over` is the title that `title` may replace; another one stays."""

    add: tuple[str, ...] = ()
    remove: frozenset[str] = field(default_factory=frozenset)
    title: str | Keep | None = Keep.KEEP
    only_over: str | Keep | None = Keep.KEEP

    def applied(self, state: Metadata) -> Metadata:
        """The state after this edit; equal to `state` if there is nothing left to do."""
        tags = tuple(tag for tag in state.tags if tag not in self.remove)
        tags += tuple(tag for tag in dict.fromkeys(self.add) if tag not in tags)
        if isinstance(self.title, Keep) or not self._may_replace(state.title):
            return Metadata(state.title, tags)
        return Metadata(self.title, tags)

    def is_refused_by(self, state: Metadata) -> bool:
        """Whether the title of `state` is neither the one to replace nor the one wanted."""
        if isinstance(self.title, Keep) or state.title == self.title:
            return False
        return not self._may_replace(state.title)

    def _may_replace(self, title: str | None) -> bool:
        return isinstance(self.only_over, Keep) or title == self.only_over


def retag(shown: Iterable[str], wanted: Sequence[str]) -> Edit:
    """The edit that replaces the tags `shown` to the user by `wanted`."""
    seen = tuple(shown)
    added = tuple(tag for tag in wanted if tag not in seen)
    return Edit(add=added, remove=frozenset(seen) - frozenset(wanted))


def undo(before: Metadata, after: Metadata) -> Edit:
    """The edit that undoes the change from `before` to `after`; a title changed since stays."""
    back = retag(after.tags, before.tags)
    if before.title == after.title:
        return back
    return Edit(back.add, back.remove, before.title, only_over=after.title)


def parse_title(text: str) -> str | None:
    """A title as given, None for an empty one; raises InvalidArgument."""
    if not text:
        return None
    if not text.strip():
        raise InvalidArgument("a title of blanks alone shows nothing: give it a letter")
    if any(unicodedata.category(character) in _NOT_IN_TITLES for character in text):
        raise InvalidArgument("a title is one line without control characters")
    if len(text.encode()) > MAX_TITLE_BYTES:
        raise InvalidArgument(f"a title has at most {MAX_TITLE_BYTES} bytes of UTF-8")
    return text


def parse_tags(text: str, known: Iterable[str] = ()) -> tuple[str, ...]:
    """Parse tags separated by commas; `known` ones may hold anything. Raises InvalidArgument."""
    known = frozenset(known)
    found: dict[str, None] = {}
    for part in _split(text, sorted((tag for tag in known if "," in tag), key=len, reverse=True)):
        tag = part if part in known else unicodedata.normalize("NFC", part.strip())
        if tag:
            found.setdefault(tag if tag in known else check_tag(tag))
    if len(found) > max(MAX_TAGS, len(known)):
        raise InvalidArgument(f"an asset has at most {MAX_TAGS} tags")
    return tuple(found)


def check_tag(tag: str) -> str:
    """The tag, if UP42 accepts it; raises InvalidArgument."""
    wrong = [c for c in tag if not (c.isalnum() or c in _TAG_CHARACTERS)]
    if wrong:
        raise InvalidArgument(
            f"tag {tag!r} holds {wrong[0]!r}: letters, digits, blanks and . - _ / : are allowed"
        )
    if not tag or tag != tag.strip():
        raise InvalidArgument(f"tag {tag!r} is empty, or begins or ends with a blank")
    if len(tag.encode()) > MAX_TAG_BYTES:
        raise InvalidArgument(f"a tag has at most {MAX_TAG_BYTES} bytes of UTF-8")
    return tag


def _split(text: str, with_commas: Sequence[str]) -> list[str]:
    """Split at commas; a known tag that contains commas is one part."""
    parts = []
    while text:
        part = next((tag for tag in with_commas if f"{text},".startswith(f"{tag},")), None)
        if part is None:
            part = text.partition(",")[0]
        parts.append(part)
        text = text[len(part) + 1 :]
    return parts

"""File names from UP42's names: safe, unique within a directory, and stable.

Theory. Names in UP42 collide and contain slashes (contract, fact 8). Rules:
1. A safe name is the user's text, minus the characters a path cannot hold; equal input gives equal
   output.
2. In one directory the oldest entry of a name keeps it plain; every other one gets
   ` [<first digits of its ID>]` before its extension. An entry's name therefore depends only on
   entries older than itself: newer arrivals never rename anything.
3. An ID prefix grows from 8 digits until the name is free. A name that a user wrote to look like a
   suffixed one is just another older entry, or loses to one.

Rejected: numbering ` (2)` by listing order (renames on every change), hashing every name (unkind).
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Container, Iterable, Iterator, MutableSet
from dataclasses import dataclass

#: Longest name in bytes of UTF-8. Linux allows 255; the rest is room for tools that append
#: (`.aux.xml`, `.part`, rsync's temporary names).
MAX_NAME_BYTES = 200
#: Longest extension, in bytes; a longer "extension" is part of a sentence.
MAX_EXTENSION_BYTES = 16
#: Characters used of a longer raw name, its last ones included; 200 bytes of them are shown.
MAX_RAW_CHARACTERS = 1024
#: Suffix of an asset's directory of files, if its plain name is taken.
FILES_SUFFIX = " (files)"
#: A shorter part of a name says too little to search for it.
LEAST_PART = 3
#: ID digits in the first suffix tried.
SUFFIX_DIGITS = 8

#: Most names: safe unchanged.
_PLAIN = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.+ -]{0,98}[A-Za-z0-9_.+-])?")
#: Whether a name is known to be safe unchanged; others may be safe, too.
is_plain = _PLAIN.fullmatch
_DOUBLE_EXTENSIONS = (".tar.gz", ".tar.bz2", ".tar.xz", ".aux.xml")
#: Control characters, surrogates and line separators: unprintable, or not UTF-8 at all.
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
#: Overrides and isolates of writing direction: they make a name look like another one.
_DIRECTION = frozenset(
    map(chr, (0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)))
)
#: Characters without any width, apart from the joiners that Persian, Indic scripts and emoji need:
#: names that differ in them alone look the same. Tags (U+E0000) can also hide whole texts.
_INVISIBLE = frozenset(
    map(chr, (0xAD, 0x180E, 0x200B, *range(0x2060, 0x2066), 0xFEFF, *range(0xE0000, 0xE0080)))
)
_EXTENSIONS = {
    "application/zip": ".zip",
    "application/x-zip-compressed": ".zip",
    "application/gzip": ".tgz",
    "application/x-gzip": ".tgz",
    "application/x-tar": ".tar",
    "application/json": ".json",
    "application/geo+json": ".geojson",
    "application/xml": ".xml",
    "application/pdf": ".pdf",
    "text/xml": ".xml",
    "text/plain": ".txt",
    "text/csv": ".csv",
    "image/tiff": ".tif",
    "geotiff": ".tif",
    "image/jp2": ".jp2",
    "image/png": ".png",
    "image/jpeg": ".jpg",
}
_MIME_TYPES = {extension: mime for mime, extension in reversed(_EXTENSIONS.items()) if "/" in mime}
_MIME_TYPES |= {".tiff": "image/tiff", ".jpeg": "image/jpeg", ".gz": "application/gzip"}
_MIME_TYPES |= {".zip": "application/zip", ".tgz": "application/gzip", ".xml": "application/xml"}


#: What assets may be named by.
FILE, TITLE, ID = STYLES = ("file", "title", "id")


@dataclass(frozen=True, slots=True)
class NameWish:
    """An entry that needs a name: its ID, a sort key (older is smaller), its wished-for name."""

    id: str
    age: tuple[float, str]
    wish: str


def safe_name(raw: str | None) -> str | None:
    """`raw` as one path component of at most 200 bytes, or None if nothing usable is left."""
    if not raw:
        return None
    if len(raw) > MAX_RAW_CHARACTERS:
        # Composing takes quadratic time if many characters combine.
        raw = raw[: MAX_RAW_CHARACTERS - MAX_EXTENSION_BYTES] + raw[-MAX_EXTENSION_BYTES:]
    if is_plain(raw):
        return raw  # the same object: names of large directories then cost no memory of their own
    if not (raw.isascii() and raw.isprintable() and "/" not in raw):
        raw = "".join(map(safe_character, unicodedata.normalize("NFC", raw)))
    text = raw.strip()
    stem, extension = split_extension(text)
    name = _fit(stem, extension)
    return None if name in ("", ".", "..") else name


def safe_character(character: str) -> str:
    """The character, or `_` if it separates, hides, or is not printable."""
    if character == "/" or character in _DIRECTION or character in _INVISIBLE:
        return "_"
    if unicodedata.category(character) in _UNSAFE_CATEGORIES:
        return "_"
    return character


def split_extension(name: str) -> tuple[str, str]:
    """Split into stem and extension (with its dot); a leading dot starts no extension."""
    if name.lower().endswith(_DOUBLE_EXTENSIONS):
        double = name.lower().rfind(".", 0, name.rfind("."))
        if double > 0:
            return name[:double], name[double:]
    dot = name.rfind(".")
    extension = name[dot:]
    if dot <= 0 or len(extension) < 2 or not extension[1:].isalnum():
        return name, ""
    if len(extension.encode()) > MAX_EXTENSION_BYTES:
        return name, ""
    return name[:dot], extension


def extension_for(content_type: str | None) -> str:
    """The extension (with its dot) that files of a content type usually have, or ""."""
    return _EXTENSIONS.get(_essence(content_type), "")


def mime_type(name: str, content_type: str | None) -> str | None:
    """A MIME type for desktops: by the name's extension if known; UP42's types can be wrong."""
    by_name = _MIME_TYPES.get(split_extension(name)[1].lower())
    return by_name or (_essence(content_type) or None)


def asset_name(
    name: str | None,
    title: str | None,
    content_type: str | None,
    id_: str,
    learned: str | None = None,
    style: str = FILE,
) -> str:
    """Name of an asset before clashes, in one of the styles `STYLES`.

    FILE: its delivered name, else its title plus extension, else its ID. TITLE: the title comes
    first. ID: its ID plus extension. The extension is the delivered name's, else the one `learned`
    from the file, else that of the content type.
    """
    delivered = safe_name(name)
    if delivered is not None and style == FILE:
        return delivered
    titled = safe_name(title)
    if delivered is not None:
        extension = split_extension(delivered)[1]
    else:
        extension = extension_for(content_type) if learned is None else learned
    if style == ID:
        return _fit(safe_name(id_) or "_", extension)
    if titled is None:
        return delivered or _fit(safe_name(id_) or "_", learned or "")
    if titled.lower().endswith(extension.lower()):
        return titled
    return _fit(titled, extension)


def with_suffix(name: str, suffix: str) -> str:
    """`name` with `suffix` before its extension, cut to the maximum length."""
    stem, extension = split_extension(name)
    return _fit(stem, suffix + extension)


def certain_part(name: str) -> str | None:
    """The longest part that every UP42 name must contain from which `name` was made; else None.

    Some characters became "_", and the extension may be added; the rest is UP42's own text.
    """
    parts = re.split("[^ -^`-~]+", split_extension(name)[0])
    longest = max((part.strip() for part in parts), key=len)
    return longest if len(longest) >= LEAST_PART else None


def is_name_of(name: str, wish: str, id_: str) -> bool:
    """Whether `name` is one that an entry with this wish and ID may have in some directory."""
    label = (safe_name(id_) or "_")[:64]
    lengths = (*range(SUFFIX_DIGITS, len(label), 4), len(label))
    suffixed = (with_suffix(wish, f" [{label[:digits]}]") for digits in lengths)
    return name == wish or name.lower() == id_ or name in suffixed


def assign(entries: Iterable[NameWish], taken: Iterable[str] = ()) -> dict[str, str]:
    """Unique names by ID for the entries of a directory, oldest first; others are `taken`."""
    names: dict[str, str] = {}
    used = set(taken)
    for entry in sorted(entries, key=lambda entry: entry.age):
        name = names[entry.id] = free_name(entry.wish, entry.id, used)
        used.add(name)
    return names


def files_name(stem: str) -> str:
    """The name of an asset's directory of files if its plain name, `stem`, is taken."""
    return _fit(stem, FILES_SUFFIX)


def free_name(
    wish: str, id_: str, used: Container[str], refused: MutableSet[str] | None = None
) -> str:
    """`wish`, or the first name of it and the ID not in `used`; those tried go to `refused`."""
    for name in _names_wanted(wish, id_):
        if name not in used:
            return name
        if refused is not None:
            refused.add(name)
    raise AssertionError("names without end")


def _names_wanted(wish: str, id_: str) -> Iterator[str]:
    yield wish
    label = (safe_name(id_) or "_")[:64]
    for digits in (*range(SUFFIX_DIGITS, len(label), 4), len(label)):
        yield with_suffix(wish, f" [{label[:digits]}]")
    for attempt in itertools.count(2):
        yield with_suffix(wish, f" [{label} {attempt}]")


def _fit(stem: str, tail: str) -> str:
    if len(stem) + len(tail) <= MAX_NAME_BYTES // 4:  # a character is at most four bytes
        return stem + tail
    room = MAX_NAME_BYTES - len(tail.encode())
    raw = stem.encode()
    if len(raw) > room:
        stem = raw[: max(room, 0)].decode(errors="ignore").rstrip()
    return stem + tail


def _essence(content_type: str | None) -> str:
    return (content_type or "").partition(";")[0].strip().lower()

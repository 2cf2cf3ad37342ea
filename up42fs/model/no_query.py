"""Says why a name in `search/` is no query. Pure."""

from __future__ import annotations

import difflib

from up42fs.model.query import FIELDS, MAX_NAME_BYTES, TERM, ValueKind, parse_query
from up42fs.visible import visible

_FIELDS = {field.name: field for field in FIELDS}
_WANTED = {
    ValueKind.TEXT: "it is a text",
    ValueKind.EXACT_TEXT: "it is a text",
    ValueKind.STATUS: "it is a state of UP42's transformation",
    ValueKind.NUMBER: "it is a decimal number",
    ValueKind.SPAN: "it is a date, a time or a range of them",
    ValueKind.BOX: "it is west, south, east and north in degrees",
}


def why_no_query(name: str) -> str:
    """What is wrong with the first term that is wrong, and what would be right."""
    pieces = name.split(",")
    while pieces:
        piece = pieces.pop(0)
        found = TERM.fullmatch(piece)
        if found is None:
            return (
                f"{_shown(piece)} is no term such as cloud<10; the fields are {', '.join(_FIELDS)}"
            )
        field = _FIELDS.get(found[1].lower())
        if field is None:
            return f"there is no field {_shown(found[1])}{_hint(found[1])}"
        if found[2] not in field.operators:
            return f"{field.name} takes {' '.join(field.operators)}, as {field.example}"
        if field.kind is ValueKind.BOX:
            piece, pieces[:3] = ",".join([piece, *pieces[:3]]), []
        if len(piece) <= MAX_NAME_BYTES and parse_query(piece) is None:
            value = piece.partition(found[2])[2].strip()
            wanted = _WANTED[field.kind]
            return f"{_shown(value)} is no value of {field.name}: {wanted}, as {field.example}"
    if len(name) > MAX_NAME_BYTES:
        return f"it is longer than {MAX_NAME_BYTES} bytes"
    return "its terms exclude each other, or it is too long"


def _hint(word: str) -> str:
    close = difflib.get_close_matches(word.lower(), _FIELDS, 1, 0.75)
    fields = f"the fields are {', '.join(_FIELDS)}"
    return f"; did you mean {close[0]}? {fields}" if close else f"; {fields}"


def _shown(text: str) -> str:
    short = text if len(text) <= 40 else text[:40] + "…"
    return f"'{visible(short)}'"

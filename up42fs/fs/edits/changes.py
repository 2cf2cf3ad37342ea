"""The journal of edits: its lines, and which operations can still be undone.

A line is one changed asset as a JSON object. Operations are numbered in order; all changes of one
command (a tag renamed on many assets) are one operation. An undo is an operation too and names the
one that it `undoes`; it cannot itself be undone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from up42fs.model.intentions import Metadata
from up42fs.visible import visible_json


@dataclass(frozen=True, slots=True)
class ChangedAsset:
    """One changed asset: `when` in RFC 3339, `what` in words, `name` the asset's.

    Not `certain`: UP42 gave no answer, so it may or may not have been changed.
    """

    operation: int
    when: str
    what: str
    asset: str
    name: str
    before: Metadata
    after: Metadata
    undoes: int | None = None
    certain: bool = True


def to_line(change: ChangedAsset) -> bytes:
    """One line of JSON, newline included."""
    document: dict[str, Any] = {
        "operation": change.operation,
        "when": change.when,
        "what": change.what,
        "asset": change.asset,
        "name": change.name,
        "before": _document(change.before),
        "after": _document(change.after),
    }
    if change.undoes is not None:
        document["undoes"] = change.undoes
    if not change.certain:
        document["uncertain"] = True
    text = visible_json(json.dumps(document, ensure_ascii=False))
    return text.encode(errors="replace") + b"\n"


def parse_lines(data: bytes) -> list[ChangedAsset]:
    """Parse a journal; damaged lines (a crash, a full disk) are skipped."""
    found = []
    for line in data.splitlines():
        try:
            found.append(_change(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return found


def still_done(changes: Iterable[ChangedAsset]) -> list[list[ChangedAsset]]:
    """The changes that can still be undone, by operation, latest first."""
    changes = list(changes)
    undone = {(change.undoes, change.asset) for change in changes if change.undoes is not None}
    operations: dict[int, list[ChangedAsset]] = {}
    for change in changes:
        if change.undoes is None and (change.operation, change.asset) not in undone:
            operations.setdefault(change.operation, []).append(change)
    return [operations[number] for number in sorted(operations, reverse=True)]


def _document(state: Metadata) -> dict[str, Any]:
    return {"title": state.title, "tags": list(state.tags)}


def _change(row: Mapping[str, Any]) -> ChangedAsset:
    undoes = row.get("undoes")
    return ChangedAsset(
        operation=int(row["operation"]),
        when=str(row["when"]),
        what=str(row["what"]),
        asset=str(row["asset"]),
        name=str(row["name"]),
        before=_metadata(row["before"]),
        after=_metadata(row["after"]),
        undoes=None if undoes is None else int(undoes),
        certain=not row.get("uncertain", False),
    )


def _metadata(row: Mapping[str, Any]) -> Metadata:
    title = row["title"]
    return Metadata(None if title is None else str(title), tuple(map(str, row["tags"])))

"""Symlinks in archives: targets are members' bytes, so that they are known later than the table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from up42fs.archive.names import decoded, safe_target
from up42fs.archive.table import Member, MemberKind, Table


def unresolved(table: Table) -> list[Member]:
    """The symlinks whose target is not known, in the order of the archive's bytes."""
    found = [one for one in table.members if one.kind is MemberKind.SYMLINK and one.target is None]
    return sorted(found, key=lambda one: one.header_at)


def resolved(table: Table, texts: Mapping[int, bytes]) -> Table:
    """The table with the targets in `texts`, by a member's number.

    Without a text, or if the target is absolute or leads out of the archive, the symlink becomes a
    file that holds the target's text.
    """
    links = unresolved(table)
    return table.replacing(_resolved(table, link, texts.get(link.number)) for link in links)


def _resolved(table: Table, link: Member, text: bytes | None) -> Member:
    def is_directory(path: str) -> bool:
        found = table.find(path)
        return not path or (found is not None and found.kind is MemberKind.DIRECTORY)

    target = None if text is None else safe_target(link.path, decoded(text), is_directory)
    if target is None:
        return replace(link, kind=MemberKind.FILE)
    return replace(link, target=target)

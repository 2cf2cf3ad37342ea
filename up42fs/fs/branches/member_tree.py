"""One archive's members as nodes of the tree.

Knows a table and which node stands for which member; pure. Hard links of a tar are one node.
Members that claim one header without being one file are different nodes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from up42fs.archive.kinds import archive_names, kind_of
from up42fs.archive.table import Member, MemberKind, Method, Table
from up42fs.fs.tree import member_ids
from up42fs.fs.tree.nodes import Kind, Node
from up42fs.model.names import FILES_SUFFIX
from up42fs.store.members.extent import Extent, StoredObject

#: Archives in archives are shown to this depth, and up to this size if they are packed, bytes.
MOST_DEPTH = 2
MOST_PACKED_BYTES = 64 << 20


class MemberTree:
    """The members of one archive.

    `archive_id` names it in nodes. Offsets of `table` count in `origin`: the archive itself, or the
    unpacked stream of a compressed tar.
    """

    def __init__(self, archive_id: str, origin: StoredObject, table: Table) -> None:
        self.archive_id = archive_id
        self.origin = origin
        self.table = table
        self._headers_at = table.headers_at()
        self._first: dict[int, int] = {}
        self._links: Counter[str] = Counter()
        # Members as objects would take seconds for 100 000, on the loop.
        numbers = table.numbers_of(MemberKind.FILE) + table.numbers_of(MemberKind.SYMLINK)
        for number in sorted(numbers):
            if self._first.setdefault(self._headers_at[number], number) != number:
                self._links[self._key(number)] += 1

    @property
    def stamp(self) -> str | None:
        """The catalogue's mark of the bytes that the table was read from."""
        return self.origin.stamp

    def children(self, directory: Node) -> dict[str, Node]:
        """The entries of a directory."""
        numbers = self.table.children(member_ids.path_of(directory))
        return {name: self._node(directory, number) for name, number in numbers.items()}

    def subdirectories(self, directory: Node) -> int:
        """How many directories stand in a directory."""
        numbers = self.table.children(member_ids.path_of(directory)).values()
        return sum(self.table.kind_of(number) is MemberKind.DIRECTORY for number in numbers)

    def nested(self, directory: Node, name: str) -> Node | None:
        """The archive in a directory whose own members `name` shows, if any.

        `name` is its stem, or that and ` (files)` if a member has the stem itself.
        """
        numbers = self.table.children(member_ids.path_of(directory))
        for stem in (name, name.removesuffix(FILES_SUFFIX)):
            for file_name in archive_names(stem):
                number = numbers.get(file_name)
                node = None if number is None else self._node(directory, number)
                if node is not None and self.is_archive(node):
                    return node
        return None

    def is_archive(self, node: Node) -> bool:
        """Whether a member's own members are shown, judged by its name, size and depth."""
        member = self.member(node) if node.kind is Kind.MEMBER else None
        if member is None or member.refusal is not None or kind_of(member.name) is None:
            return False
        if member.method is not Method.STORED and member.size > MOST_PACKED_BYTES:
            return False
        return member_ids.depth_of(node.id) <= MOST_DEPTH

    def member(self, node: Node) -> Member | None:
        """The member that a file's or a link's node stands for."""
        at, _, twin = member_ids.key_of(node).partition(".")
        try:
            number = int(twin) if twin else self._first[int(at)]
            found = self.table.members[number]
        except (ValueError, LookupError):
            return None
        return found if str(found.header_at) == at else None

    def directory(self, node: Node) -> Member | None:
        """The member that a directory is; None for the top, and if there is none."""
        return self.table.find(member_ids.path_of(node))

    def holds(self, node: Node) -> bool:
        """Whether a node stands for a member of this archive, or is its top."""
        if node.kind is not Kind.MEMBERS:
            return self.member(node) is not None
        found = self.directory(node)
        is_top = not member_ids.path_of(node)
        return is_top or (found is not None and found.kind is MemberKind.DIRECTORY)

    def links(self, node: Node) -> int:
        """How many names a file has in the archive."""
        return 1 + self._links[member_ids.key_of(node)]

    def extent(self, member: Member) -> Extent:
        """The source of a member's bytes."""
        return Extent(
            self.origin,
            member.header_at,
            member.data_at,
            member.packed_size,
            member.method,
            member.crc32,
            member.segments,
            self.table.room_of(member),
        )

    def files(self) -> Iterator[Node]:
        """The nodes of all files, in the archive's order; hard links once."""
        for number in self._first.values():
            if self.table.kind_of(number) is MemberKind.FILE:
                yield self._node(member_ids.top_of(self.archive_id, ""), number)

    def _node(self, directory: Node, number: int) -> Node:
        if self.table.kind_of(number) is MemberKind.DIRECTORY:
            path = self.table.path_of(number)
            return member_ids.directory_in(directory, self.archive_id, path)
        kind = Kind.MEMBER_LINK if self.table.has_target(number) else Kind.MEMBER
        return Node(kind, f"{self.archive_id}!{self._key(number)}")

    def _key(self, number: int) -> str:
        header_at = self._headers_at[number]
        first = self._first[header_at]
        members = self.table.members
        if first == number or _is_same_file(members[first], members[number]):
            return str(header_at)
        return f"{header_at}.{number}"


def _is_same_file(one: Member, other: Member) -> bool:
    return (one.kind, one.data_at, one.packed_size, one.size, one.method, one.refusal) == (
        *(other.kind, other.data_at, other.packed_size, other.size, other.method, other.refusal),
    )

"""The IDs of archives, of the directories in them and of their members, and what they contain.

Pure text. An archive is an asset's file, `<asset>`, or a member of another archive. A member is
`<archive>!<offset of its header>`, which is also its object's ID in the store, so a member of a
nested archive is `<asset>!12!3400`. A directory is `<archive>/<path in it>`; the top one is
`<archive>` alone.
"""

from __future__ import annotations

from up42fs.fs.tree.nodes import Kind, Node


def top_of(archive_id: str, place: str) -> Node:
    """The directory that shows an archive in `place`."""
    return Node(Kind.MEMBERS, archive_id, place)


def directory_in(parent: Node, archive_id: str, path: str) -> Node:
    """The directory at `path` of an archive, below `parent`."""
    return Node(Kind.MEMBERS, f"{archive_id}/{path}", parent.place)


def member_id(archive_id: str, header_at: int, twin: int = 0) -> str:
    """The ID of a member. `twin` tells apart members that claim one header."""
    return f"{archive_id}!{header_at}.{twin}" if twin else f"{archive_id}!{header_at}"


def archive_of(node: Node) -> str:
    """The ID of the archive that a node is part of, or shows."""
    if node.kind is Kind.MEMBERS:
        return node.id.partition("/")[0]
    return node.id.rpartition("!")[0]


def path_of(directory: Node) -> str:
    """The path of a directory in its archive; empty for the top."""
    return directory.id.partition("/")[2]


def key_of(node: Node) -> str:
    """The part of a member's ID that is its own."""
    return node.id.rpartition("!")[2]


def member_node(member_id_: str) -> Node:
    """The node of a file in an archive by its ID."""
    return Node(Kind.MEMBER, member_id_)


def depth_of(archive_id: str) -> int:
    """How many archives an archive lies in."""
    return archive_id.count("!")


def asset_id_of(id_: str) -> str:
    """The asset that an archive, a member or a directory of members belongs to."""
    return id_.partition("/")[0].partition("!")[0]


def is_member_id(object_id: str) -> bool:
    """Whether the store's object is part of another one."""
    return "!" in object_id

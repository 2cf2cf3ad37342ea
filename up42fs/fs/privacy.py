"""Restricts private data of a shared mount to the mounting user and root.

With `allow_other` everybody on the machine may read the files: that is its purpose. But a presigned
link works on every other machine too, and the account's IDs, the edits and the record of who read
which file are private. Without `allow_other` the kernel lets no other user in, and none of this
applies.

Pure: knows user IDs as the kernel gives them with each request. The kernel translates them into the
user namespace of the mount, so that user 0 is the root of that namespace alone: root of a container
or of `unshare -r` arrives as the user who made that namespace.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from up42fs.errors import NotShared
from up42fs.fs import xattrs

_ROOT = 0
#: Attributes that fail with EACCES for others. The API's object always contains the account's IDs.
PRIVATE = frozenset({xattrs.JSON, xattrs.DOWNLOAD_URL, xattrs.EXPLAIN, xattrs.HISTORY})
#: Listed attributes that are hidden from others, so that a copy with attributes does not fail.
ACCOUNT = frozenset({xattrs.PREFIX + "account_id", xattrs.PREFIX + "workspace_id"})
#: Members of STAC documents that identify the owner (`uup42-system` is UP42's own typing error).
_ACCOUNT_MEMBER = re.compile(r"\w*up42-[\w-]+:(?:account|workspace|user)_id")
#: Members of `status.json` that others may read. Everything else is private.
_OPEN = (
    *("version", "pid", "mountpoint", "api", "mounted_seconds", "assets", "orders", "bytes"),
    *("listed_by", "kernel", "tasks", "store", "open", "counters"),
)
_OPEN_OF_LISTING = ("complete", "rows_so_far", "seconds_since_refresh")
_OPEN_OF_CACHE = ("used_bytes", "limit_bytes")
_HIDDEN = "only the user who mounted may read why"


@dataclass(frozen=True, slots=True)
class Privacy:
    """The trusted users: `owner`, root, and with `shares_links` everybody."""

    owner: int
    shares_links: bool = False

    def trusts(self, uid: int) -> bool:
        """Whether user `uid` may read private data."""
        return self.shares_links or uid in (self.owner, _ROOT)


def require_shared(name: str) -> None:
    """Raise NotShared where others may not read the attribute `name`."""
    # Every listed attribute has a second name, under which its value is uncut.
    listed = name.replace(xattrs.WHOLE, xattrs.PREFIX, 1)
    if name in PRIVATE or listed in ACCOUNT:
        raise refusal(name)


def refusal(name: str) -> NotShared:
    """The error for other users who read `name`."""
    return NotShared(f"{name} is for the user who mounted and root; see the option share_links")


def document_for_others(document: bytes) -> bytes:
    """Remove the account's IDs from a JSON document; keep its length.

    `stat` shows one size to everybody, and `tar` and `rsync` complain about files that are shorter.
    """
    if b"up42-" not in document:
        return document  # footprints of a large storage: nothing to remove, and slow to parse
    try:
        value = json.loads(document)
    except ValueError:
        return document
    made = json.dumps(_without_account(value), indent=2, ensure_ascii=False).encode(
        errors="replace"
    )
    if len(made) > len(document):  # the document was written without spaces
        made = json.dumps(
            _without_account(value), ensure_ascii=False, separators=(",", ":")
        ).encode(errors="replace")
    return made + b" " * (len(document) - len(made))


def _without_account(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: _without_account(inner)
            for name, inner in value.items()
            if not _ACCOUNT_MEMBER.fullmatch(name)
        }
    if isinstance(value, list):
        return [_without_account(inner) for inner in value]
    return value


def status_for_others(status: Mapping[str, Any]) -> dict[str, Any]:
    """The status document without account, paths, errors and files."""
    shown = {name: status[name] for name in _OPEN if name in status}
    shown["for_others"] = True
    shown["catalogue"] = {
        part: {name: state.get(name) for name in _OPEN_OF_LISTING}
        | {"error": _HIDDEN if state.get("error") else None}
        for part, state in (status.get("catalogue") or {}).items()
    }
    disk = status.get("disk_cache")
    if disk:
        shown["disk_cache"] = {name: disk.get(name) for name in _OPEN_OF_CACHE}
        shown["disk_cache"]["off_because"] = _HIDDEN if disk.get("off_because") else None
    return shown

"""Formats the numbers of a mount's status document as Prometheus text (0.0.4).

Pure: takes a document and returns text. Knows the document's shape, which `Engine.status` defines.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from up42fs.visible import visible

_ERRORS = "fuse.errors_"


class _Family(NamedTuple):
    """One metric: its name without prefix, type, help, and samples as (labels, value)."""

    name: str
    type: str
    help: str
    samples: Sequence[tuple[Mapping[str, str], float]]


def render(status: Mapping[str, Any]) -> str:
    """Format the numbers as text that Prometheus and node_exporter's textfile collector parse."""
    families = [*_gauges(status), *_counters(status.get("counters", {}))]
    return "".join(line + "\n" for family in families if family.samples for line in _lines(family))


def _gauges(status: Mapping[str, Any]) -> Iterator[_Family]:
    about = {name: str(status.get(name) or "") for name in ("version", "api", "mountpoint")}
    yield _Family("info", "gauge", "What is mounted, in labels.", [(about, 1)])
    for name, path, words in _GAUGES:
        value = _at(status, path)
        yield _Family(name, "gauge", words, [] if value is None else [({}, value)])
    ages = [
        ({"listing": part}, state["seconds_since_refresh"])
        for part, state in status.get("catalogue", {}).items()
        if state.get("seconds_since_refresh") is not None
    ]
    yield _Family("refreshed_seconds", "gauge", "Seconds since a listing was refreshed.", ages)
    complete = [
        ({"listing": part}, float(state["complete"]))
        for part, state in status.get("catalogue", {}).items()
    ]
    yield _Family("listing_complete", "gauge", "Whether a listing is complete.", complete)


_GAUGES = (
    ("mounted_seconds", "mounted_seconds", "Seconds since the mount was made."),
    ("assets", "assets", "Assets in the storage."),
    ("orders", "orders", "Orders in the storage."),
    ("storage_bytes", "bytes", "Sum of the sizes of all assets."),
    ("files", "sizes.files", "Transformed files whose items are known."),
    ("unknown_sizes", "sizes.unknown", "Files whose size is unknown."),
    ("open_files", "open.open_files", "Open file handles."),
    ("open_directories", "open.open_directories", "Open directory handles."),
    ("inodes", "open.inodes", "Inodes the kernel remembers."),
    ("tasks", "tasks", "Tasks of the event loop."),
    ("leases", "store.leases", "Presigned links held that have not ended."),
    ("memory_bytes", "store.memory_bytes", "Bytes of files held in memory."),
    ("egress_left_bytes", "egress.left_bytes", "Bytes that the budget still allows to fetch."),
    ("disk_cache_bytes", "disk_cache.used_bytes", "Bytes of the disk cache in use."),
    ("disk_cache_limit_bytes", "disk_cache.limit_bytes", "Bytes the disk cache may use."),
)


def _counters(counters: Mapping[str, int]) -> Iterator[_Family]:
    errors = [
        ({"errno": name.removeprefix(_ERRORS)}, float(value))
        for name, value in counters.items()
        if name.startswith(_ERRORS)
    ]
    yield _Family("errors_total", "counter", "System calls answered with an error.", errors)
    for name, value in counters.items():
        if not name.startswith(_ERRORS):
            yield _Family(name.replace(".", "_") + "_total", "counter", "", [({}, float(value))])


def _lines(family: _Family) -> Iterable[str]:
    name = "up42fs_" + family.name
    if family.help:
        yield f"# HELP {name} {family.help}"
    yield f"# TYPE {name} {family.type}"
    for labels, value in family.samples:
        shown = ",".join(f'{label}="{_escape(text)}"' for label, text in labels.items())
        number = str(int(value)) if float(value).is_integer() else repr(float(value))
        yield f"{name}{{{shown}}} {number}" if shown else f"{name} {number}"


def _escape(text: str) -> str:
    text = visible(text, keep="\n")
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _at(document: Mapping[str, Any], path: str) -> float | None:
    value: Any = document
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return None if value is None else float(value)

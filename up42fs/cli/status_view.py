"""Formats a mount's status document as a table for people. Does not know its source."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich import markup
from rich.filesize import decimal
from rich.table import Table

from up42fs.config.quantities import show_count
from up42fs.visible import visible

Document = Mapping[str, Any]
_ERRORS = "fuse.errors_"
_Rows = tuple[tuple[str, str, Callable[[Document], str]], ...]


def escape(text: str) -> str:
    """`text` from another system, as markup that displays it literally."""
    return markup.escape(visible(text))


def picture(status: Document) -> Table:
    """The document as a table of two columns."""
    title = f"[bold]{escape(str(status.get('mountpoint')))}[/]"
    table = Table(title=title, title_justify="left", show_header=False, box=None)
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows(status):
        table.add_row(name, text)
    return table


def rows(status: Document) -> Iterator[tuple[str, str]]:
    """Yield the name and text of each line, in `rich` markup."""
    counters = status.get("counters", {})
    yield "account", _account(status)
    since = duration(status.get("mounted_seconds") or 0)
    yield "mounted", f"for {since}, by process {status.get('pid')}"
    for note in status.get("notes") or []:
        yield "note", f"[yellow]{escape(note)}[/]"
    yield "storage", _storage(status)
    freshness = _freshness(status.get("catalogue", {}))
    yield "freshness", freshness + _refreshed_by(status.get("refreshed_by") or {})
    if (items := _items(status.get("items") or {})) is not None:
        yield "files", items
    if (sizes := status.get("sizes") or {}).get("unknown"):
        yield "sizes", _sizes(sizes)
    yield "open now", _open(status)
    yield "requests", _requests(counters)
    yield "bytes", _traffic(counters)
    yield "reads", _reads(counters)
    yield "memory", _memory(status.get("store") or {})
    yield "disk cache", _disk(status.get("disk_cache"), counters)
    yield from _present(status, _LIMITS)
    yield "links", _links(counters, status.get("store") or {})
    yield "errors", _errors(counters)
    yield from _present(status, _STORES)
    if counters.get("fs.crowd_opens"):
        yield "crowds", _crowds(counters)
    for title, name, most, shown in _LISTS:
        for number, entry in enumerate((status.get(name) or [])[:most]):
            yield "" if number else title, shown(entry)
    for number, entry in enumerate((status.get("recent_errors") or [])[-3:]):
        yield "" if number else "log", f"[dim]{escape(entry['time'])}[/] {escape(entry['message'])}"


def _present(status: Document, rows: _Rows) -> Iterator[tuple[str, str]]:
    for title, name, shown in rows:
        if status.get(name) is not None:
            yield title, shown(status[name])


def _account(status: Document) -> str:
    if status.get("for_others"):
        return escape(f"known to the user who mounted only; at {status.get('api')}")
    where = f" (workspace {status['workspace']})" if status.get("workspace") else ""
    name = f"{status['account_name']}: " if status.get("account_name") else ""
    return escape(f"{name}{status.get('account')} at {status.get('api')}{where}")


def _storage(status: Document) -> str:
    counts = ", ".join(show_count(status.get(f"{noun}s", 0), noun) for noun in ("asset", "order"))
    return f"{counts}, {_bytes(status.get('bytes'))}"


def _freshness(catalogue: Document) -> str:
    said = []
    for part, state in catalogue.items():
        age_s = state.get("seconds_since_refresh")
        text = f"{part} {duration(age_s)} ago" if age_s is not None else f"{part} never refreshed"
        if not state.get("complete"):
            text = f"[yellow]{part} incomplete, {state.get('rows_so_far') or 0} so far[/]"
        if state.get("error"):
            text += f" [red]({escape(state['error'])})[/]"
        said.append(text)
    return "; ".join(said)


def _refreshed_by(who: Document) -> str:
    """Which process asks UP42, if it is another one of this account."""
    if who.get("is_this") or not who.get("pid"):
        return ""
    return f"; refreshed by process {who['pid']}, for all of this account here"


def _items(items: Document) -> str | None:
    """Describe how many files of transformed assets are listed; None if all are."""
    missing, refused = items.get("missing"), items.get("refused")
    if not (missing or refused or items.get("error")):
        return None
    how = "" if items.get("together", True) else ", asked for one by one"
    text = f"{missing or 0} of {items.get('transformed', 0)} transformed assets to come{how}"
    if refused:
        text += f", [yellow]{refused} refused by UP42[/]"
    return text + (f" [red]({escape(str(items['error']))})[/]" if items.get("error") else "")


def _sizes(sizes: Document) -> str:
    """Describe how many sizes are unknown, and how to learn them."""
    return (
        f"{sizes['unknown']:,} of {sizes.get('files', 0):,} files have an unknown size; "
        "to learn them ahead: up42fs warm --sizes MOUNTPOINT"
    )


def _edits(edits: Document) -> str:
    failed = len(edits.get("failed") or {})
    text = f"{edits.get('made', 0)} in the journal"
    return text + (
        f", [yellow]the last one failed on {show_count(failed, 'asset')}[/]" if failed else ""
    )


def _sidecars(sidecars: Document) -> str:
    of = f"{_bytes(sidecars.get('bytes'))} of {_bytes(sidecars.get('limit_bytes'))}"
    return escape(f"{sidecars.get('files')} in {sidecars.get('directory')}, {of}")


def _open(status: Document) -> str:
    gauges = status.get("open", {})
    running = (status.get("store") or {}).get("requests_running", 0)
    return (
        f"{show_count(gauges.get('open_files', 0), 'file')}, "
        f"{gauges.get('open_directories', 0)} directories; "
        f"{show_count(running, 'request')} running"
    )


def _requests(counters: Document) -> str:
    retries = counters.get("store.retries", 0)
    text = (
        f"{counters.get('store.requests', 0)} to the store, "
        f"{counters.get('api.requests', 0)} to the API, "
        f"{counters.get('auth.requests', 0)} to sign in"
    )
    return text + (f", [yellow]{retries} retries[/]" if retries else "")


def _traffic(counters: Document) -> str:
    fetched = counters.get("store.bytes_fetched", 0)
    text = f"{_bytes(counters.get('store.bytes_delivered', 0))} read, {_bytes(fetched)} fetched"
    wasted = counters.get("store.wasted_bytes", 0)
    if fetched and wasted:
        text += f", {wasted / fetched:.0%} of them for nothing"
    return text


def _reads(counters: Document) -> str:
    reads = counters.get("store.reads", 0)
    if not reads:
        return "none yet"
    return f"{reads}, {counters.get('store.hits', 0) / reads:.0%} answered without waiting"


def _memory(store: Document) -> str:
    return f"{_bytes(store.get('memory_bytes'))} of {_bytes(store.get('memory_limit_bytes'))}"


def _disk(disk: Document | None, counters: Document) -> str:
    if disk is None:
        return "none"
    if disk.get("off_because"):
        return f"[red]off: {escape(str(disk['off_because']))}[/]"
    text = f"{_bytes(disk.get('used_bytes'))} of {_bytes(disk.get('limit_bytes'))}"
    saved = counters.get("store.disk_hits_bytes", 0)
    asked = saved + counters.get("store.bytes_fetched", 0)
    return text + (f", {saved / asked:.0%} of what was needed came from it" if asked else "")


def _budget(egress: Document) -> str:
    left = _bytes(egress["left_bytes"])
    text = f"{left} of {_bytes(egress['limit_bytes'])} left in {duration(egress['period_seconds'])}"
    if egress.get("free_again_at"):
        return f"[red]used up until {escape(egress['free_again_at'])}[/]"
    return text


def _fetched_lately(traffic: Document) -> str:
    reader = f", mostly read by {traffic['mostly_by']}" if traffic.get("mostly_by") else ""
    span = duration(traffic["period_seconds"])
    text = escape(f"{_bytes(traffic['bytes'])} fetched in {span} by all mounts{reader}")
    if traffic["bytes"] < traffic["warn_bytes"]:
        return text
    return f"[yellow]{text}, more than {_bytes(traffic['warn_bytes'])} (warn_egress)[/]"


def _links(counters: Document, store: Document) -> str:
    return (
        f"{store.get('leases', 0)} held, {counters.get('store.signs', 0)} signed, "
        f"{counters.get('store.renewals', 0)} renewed"
    )


def _errors(counters: Document) -> str:
    found = {k.removeprefix(_ERRORS): n for k, n in counters.items() if k.startswith(_ERRORS)}
    if not found:
        return "none"
    return "[red]" + ", ".join(f"{name} {count}" for name, count in found.items()) + "[/]"


def _archive(progress: Document) -> str:
    done = _bytes(progress.get("done_bytes"))
    name = str(progress.get("name")).partition(" (asset ")[0]
    return escape(f"reading the members of {name}: {done} of {_bytes(progress.get('bytes'))}")


def _crowds(counters: Document) -> str:
    return (
        f"{counters['fs.crowd_opens']} opens by indexers, backup programs and the like, "
        f"{counters.get('fs.crowd_refused', 0)} reads refused"
    )


def _file(file: Document) -> str:
    programs = ", ".join(list(file["programs"])[:3])
    return escape(
        f"{_bytes(file['bytes_read'])} in {file['reads']} reads, {file['waited_seconds']:.1f} s "
        f"waited: {file['name'].partition(' (asset ')[0]}, by {programs}"
    )


def _fetched(file: Document) -> str:
    wasted = file.get("wasted_bytes", 0)
    text = (
        f"{_bytes(file.get('bytes_fetched'))} in {show_count(file.get('requests', 0), 'request')}"
    )
    for_nothing = f", {_bytes(wasted)} for nothing" if wasted else ""
    name = str(file.get("name") or file.get("id"))
    return escape(f"{text}{for_nothing}: {name.partition(' (asset ')[0]}")


#: Rows of what a mount may lack: title, member of the status, and how.
_LIMITS: _Rows = (
    ("budget", "egress", _budget),
    ("traffic", "traffic", _fetched_lately),
)
_STORES: _Rows = (
    ("edits", "edits", _edits),
    ("sidecars", "sidecars", _sidecars),
)
#: Rows of several lines: title, member of the status, the most entries shown, and how.
_LISTS: tuple[tuple[str, str, int, Callable[[Document], str]], ...] = (
    ("archives", "archives", 5, _archive),
    ("most read", "top_files", 5, _file),
    ("most fetched", "fetched_files", 3, _fetched),
)


def duration(seconds: float) -> str:
    """Seconds in the largest units that matter: `5 s`, `3 min`, `2 h 10 min`, `3 d 4 h`."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def _bytes(count: int | None) -> str:
    return decimal(count or 0)

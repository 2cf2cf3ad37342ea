"""The fault matrix as a table: what fails, where, during what, and what must come of it.

`cells()` is the product of planes, faults, operations and of how long the fault goes on: it passes
after a request or two, or it lasts. Knows nothing of how a cell is run; `fault_run.py` does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MIB = 1 << 20
OK = "ok"
PLANES = {"store": "the object store", "api": "the API", "auth": "the identity server"}
#: What a program does meanwhile. `member`: it reads a stored and a deflated member of an archive.
#: `refresh`: an asset that came during the fault shows after it.
OPERATIONS = ("first", "sequential", "random", "member", "stat", "ls", "xattr", "refresh")
READS = ("first", "sequential", "random", "member")
#: Answered from what the mount knows: no fault of that plane may be noticed.
FROM_MEMORY = {"store": ("ls", "xattr")}
LARGE, SMALL = 16 * MIB, 6 * MIB

#: One outcome for every operation, or by operation with `*` for the others: `ok` or an errno.
Outcomes = str | Mapping[str, str]


@dataclass(frozen=True)
class Planned:
    """The effect of a fault on one plane, while it passes and where it lasts; None: no such cell.

    `strikes` is how many requests the passing fault hits.
    """

    lasting: Outcomes | None
    passing: Outcomes | None = OK
    strikes: int = 2


@dataclass(frozen=True, eq=False)
class Fault:
    """One row. `switches` are the emulator's; `@store` and `@auth` in them are its addresses.

    `at` says what is struck: requests of the plane, the links it signs (`links`), everything from
    now on (`nature`), or the address the mount was given (`host`).
    """

    name: str
    switches: Mapping[str, Any]
    on: Mapping[str, Planned]
    at: str = "requests"
    size: int = LARGE


@dataclass(frozen=True)
class Cell:
    """One combination and its expected outcome."""

    plane: str
    fault: Fault = field(repr=False)
    operation: str
    lasts: bool
    expected: str

    @property
    def name(self) -> str:
        """For humans and `--only`."""
        how = "lasting" if self.lasts else "passing"
        return f"{self.plane} · {self.fault.name} · {how} · {self.operation}"

    @property
    def is_noticed(self) -> bool:
        """Whether the fault must hit a request of this cell."""
        return self.fault.at in ("requests", "links") and self.operation not in FROM_MEMORY.get(
            self.plane, ()
        )


def _once(outcomes: Outcomes) -> Outcomes:
    """A single error that is final may hit what was read ahead, or what the kernel asks twice.

    It does so for a page that did not come, and for a path that was ESTALE.
    """
    if isinstance(outcomes, str):
        twice = OPERATIONS if outcomes == "ESTALE" else READS
        return dict.fromkeys(twice, f"{outcomes} or ok") | {"*": outcomes}
    # `member` follows one of the others, see `expect`.
    reads = [op for op in READS if op != "member" or op in outcomes]
    told = {operation: outcomes.get(operation, outcomes["*"]) for operation in reads}
    return {**outcomes} | {op: OK if it == OK else f"{it} or ok" for op, it in told.items()}


_GONE = {"*": "ENOENT", "first": "ENOENT", "sequential": "ESTALE", "random": "ESTALE"}


def _all(lasting: Outcomes, passing: Outcomes = OK, strikes: int = 2) -> dict[str, Planned]:
    return {plane: Planned(lasting, passing, strikes) for plane in PLANES}


def _store(lasting: Outcomes | None, passing: Outcomes | None = OK, strikes: int = 2) -> Any:
    return {"store": Planned(lasting, passing, strikes)}


def _denied() -> dict[str, Planned]:
    return _all("EACCES", _once("EACCES"), 1)


_SIGN_IN_PAGE = {"fail_status": 200, "fail_body": "html"}
_NEVER = 3600.0
_ONE_VERSION = {"*": "ESTALE", "stat": OK, "first": OK}

FAULTS: tuple[Fault, ...] = (
    Fault("401", {"fail_status": 401}, _denied() | {
        "store": Planned("EACCES", OK, 1), "api": Planned("EACCES", OK, 1)}),
    Fault("403", {"fail_status": 403}, _denied() | {"store": Planned("EACCES", OK, 1)}),
    Fault("404", {"fail_status": 404}, {
        "store": Planned(_GONE, _once(_GONE), 1), "api": Planned(_GONE, _once(_GONE), 1),
        "auth": Planned("EIO")}),
    Fault("409", {"fail_status": 409}, _all("ESTALE", _once("ESTALE"), 1) | {
        "auth": Planned("EIO")}),
    Fault("410", {"fail_status": 410}, {
        "store": Planned(_GONE, _once(_GONE), 1), "api": Planned(_GONE, _once(_GONE), 1),
        "auth": Planned("EIO")}),
    Fault("412", {"fail_status": 412}, _all("EIO")),
    Fault("416", {"fail_status": 416}, {
        "store": Planned("ESTALE", _once("ESTALE"), 1), "api": Planned("EIO"),
        "auth": Planned("EIO")}),
    Fault("429", {"fail_status": 429}, _all("EIO")),
    Fault("429, Retry-After 1 s", {"fail_status": 429, "retry_after": "1"}, _all("EIO")),
    Fault("429, Retry-After too long", {"fail_status": 429, "retry_after": "9"},
          _all("EIO", _once("EIO"), 1)),
    Fault("500", {"fail_status": 500}, _all("EIO")),
    Fault("502, not JSON", {"fail_status": 502}, _all("EIO")),
    Fault("503", {"fail_status": 503}, _all("EIO")),
    Fault("503, Retry-After 1 s", {"fail_status": 503, "retry_after": "1"}, _all("EIO")),
    Fault("200 with a sign-in page", _SIGN_IN_PAGE, _all("EIO")),
    Fault("reset before the head", {"reset_before_headers": True}, _all("EIO")),
    Fault("reset in the body", {"cut_body_at": 200_000}, _store(OK)),
    Fault("reset early in the body", {"cut_body_at": 20}, {
        "api": Planned("EIO"), "auth": Planned("EIO")}),
    Fault("body too short", {"short_body": 1000}, _store(
        {"*": OK, "sequential": "EIO", "random": "EIO or ok", "stat": "EIO"}) | {
            "api": Planned("EIO"), "auth": Planned("EIO")}),
    Fault("no body", {"short_body": 1 << 40}, _all("EIO")),
    Fault("body too long", {"too_long_body": 100}, _all(OK) | _store(
        {"*": OK, "sequential": "EIO or ok", "random": "EIO or ok"})),
    Fault("wrong Content-Range", {"wrong_content_range": True}, _store("EIO")),
    Fault("wrong total", {"wrong_total": True}, _store("ESTALE", _once("ESTALE"), 1)),
    Fault("200 for a range", {"ignore_range": True}, _store(OK), size=SMALL),
    Fault("200 for a range, large", {"ignore_range": True}, _store(
        # The archive is small whatever the asset is: its whole body may stand for a range.
        {"*": OK, "sequential": "EIO", "random": "EIO", "member": OK}, None)),
    Fault("stored compressed", {"gzip_objects": True}, _store({"*": OK, "stat": "EIO"}, None),
          at="nature", size=SMALL),
    Fault("stored compressed, large", {"gzip_objects": True}, _store(
        {"*": "EIO", "member": OK}, None), at="nature"),
    Fault("labelled gzip, is not", {"body_encoding": "label"}, _all("EIO")),
    Fault("body gzipped", {"body_encoding": "gzip"}, {
        "api": Planned(OK, OK, 1), "auth": Planned(OK, OK, 1)}),
    Fault("other ETag", {"other_etag": True}, _store(_ONE_VERSION, _once(_ONE_VERSION), 1)),
    Fault("silence before the head", {"stall_before_headers_s": _NEVER},
          _all("ETIMEDOUT", OK, 1)),
    # A size may be asked for alone: its byte is there before the silence, and drips at once.
    Fault("silence in the body", {"stall_body_at": 10, "stall_s": _NEVER},
          _all("ETIMEDOUT", OK, 1) | _store({"*": "ETIMEDOUT", "stat": "ETIMEDOUT or ok"}, OK, 1)),
    Fault("slow drip", {"drip_bytes_s": 20.0}, _store(
        {"*": "ETIMEDOUT", "stat": "ETIMEDOUT or ok"}, OK, 1) | {
        "api": Planned("ETIMEDOUT", None), "auth": Planned("ETIMEDOUT", None)}),
    Fault("302 to another host", {"redirect_to": "@auth"}, _all("EIO")),
    Fault("links expired", {"expired_link": True}, _store("EACCES", OK, 1), at="links"),
    Fault("links altered", {"altered_link": True}, _store("EACCES", OK, 1), at="links"),
    Fault("links not https", {"link_origin": "http://storage.invalid"},
          _store("EIO", _once("EIO"), 1), at="links"),
    Fault("name not resolved", {"link_origin": "https://storage.invalid"},
          _store("ENETUNREACH", _once("ENETUNREACH"), 1), at="links"),
    Fault("connection refused", {"link_origin": "http://127.0.0.1:1"},
          _store("ENETUNREACH", _once("ENETUNREACH"), 1), at="links"),
    Fault("TLS fails", {"link_origin": "@store_tls"}, _store("EIO", _once("EIO"), 1), at="links"),
    Fault("name not resolved", {"host": "https://up42.invalid"}, {
        "api": Planned("ENETUNREACH", None), "auth": Planned("ENETUNREACH", None)}, at="host"),
    Fault("connection refused", {"host": "http://127.0.0.1:1"}, {
        "api": Planned("ENETUNREACH", None), "auth": Planned("ENETUNREACH", None)}, at="host"),
    Fault("TLS fails", {"host": "@store_tls"}, {
        "api": Planned("EIO", None), "auth": Planned("EIO", None)}, at="host"),
    Fault("clock 10 min ahead", {"date_skew_s": 600.0}, {
        plane: Planned(OK, None) for plane in PLANES}, at="nature"),
    Fault("clock 10 min behind", {"date_skew_s": -600.0}, {
        plane: Planned(OK, None) for plane in PLANES}, at="nature"),
)  # fmt: skip

#: Combinations that say nothing, with the reason.
LEFT_OUT = {
    ("store", "refresh"): "no refresh asks the object store",
    ("wrong total", "stat"): "the total is all there is to tell the size",
    ("416", "stat"): "416 to the first byte is how an empty object answers",
}


def cells() -> tuple[Cell, ...]:
    """Every cell, by plane, fault, duration and operation."""
    return tuple(_cells())


def _cells() -> Iterator[Cell]:
    for plane in PLANES:
        for fault in FAULTS:
            planned = fault.on.get(plane)
            if planned is None:
                continue
            for lasts, outcomes in ((False, planned.passing), (True, planned.lasting)):
                for operation in OPERATIONS if outcomes is not None else ():
                    if not {(plane, operation), (fault.name, operation)} & LEFT_OUT.keys():
                        assert outcomes is not None
                        expected = expect(plane, operation, outcomes)
                        yield Cell(plane, fault, operation, lasts, expected)


def expect(plane: str, operation: str, outcomes: Outcomes) -> str:
    """The outcome of one operation."""
    if operation in FROM_MEMORY.get(plane, ()) or operation == "refresh":
        return OK
    if isinstance(outcomes, str):
        return outcomes
    if operation == "member" and operation not in outcomes:
        # The archive's directory is known, so its object is one that was opened before; only
        # without a link yet it is like a file that nobody has read.
        operation = "sequential" if plane == "store" else "first"
    return outcomes.get(operation, outcomes["*"])


def short_form(every: Sequence[Cell]) -> tuple[Cell, ...]:
    """The cells that the test suite runs: all pairs of what a cell is made of, except one kind.

    The cells hold every fault on each of its planes, every fault in each of its durations, and on
    every plane each operation in each duration. Only pairs of a fault and an operation are left to
    the whole matrix, where they are most of the cells. A fault of several planes passes on one and
    lasts on the next, and begins with another plane than the fault before it. Of the operations of
    a plane and duration, the one that came least so far is taken, the first of the table among
    equals: the same cells each time, without chance.
    """
    groups: dict[tuple[str, Fault, bool], list[Cell]] = {}
    for cell in every:
        if cell.operation not in FROM_MEMORY.get(cell.plane, ()):  # there it goes unnoticed
            groups.setdefault((cell.plane, cell.fault, cell.lasts), []).append(cell)
    uses: Counter[tuple[str, bool, str]] = Counter()
    short = []
    for chosen in _durations(groups):
        group = groups[chosen]
        cell = min(group, key=lambda c: uses[c.plane, c.lasts, c.operation])
        uses[cell.plane, cell.lasts, cell.operation] += 1
        short.append(cell)
    return tuple(short)


def _durations(groups: Iterable[tuple[str, Fault, bool]]) -> Iterator[tuple[str, Fault, bool]]:
    """Some of `groups`: of each plane and fault one duration, of each fault both if it has them."""
    possible: dict[Fault, dict[str, list[bool]]] = {}
    for plane, fault, lasts in groups:
        possible.setdefault(fault, {}).setdefault(plane, []).append(lasts)
    for number, (fault, planes) in enumerate(possible.items()):
        both = {lasts for each in planes.values() for lasts in each}
        had = set()
        for turn, (plane, durations) in enumerate(planes.items(), number):
            lasts = durations[turn % len(durations)]
            had.add(lasts)
            yield plane, fault, lasts
        for lasts in both - had:
            plane = next(name for name, durations in planes.items() if lasts in durations)
            yield plane, fault, lasts


def markdown() -> str:
    """The matrix for the documentation: one table a plane, `passing / lasting` in each cell."""
    by_place = {(c.plane, c.fault, c.operation, c.lasts): c.expected for c in cells()}
    lines: list[str] = []
    for plane, words in PLANES.items():
        shown = [op for op in OPERATIONS if (plane, op) not in LEFT_OUT]
        lines += [f"### Faults of {words}", "", f"| Fault | {' | '.join(shown)} |"]
        lines += [f"| --- |{' --- |' * len(shown)}"]
        for fault in FAULTS:
            if plane in fault.on:
                row = [
                    _shown([by_place.get((plane, fault, op, lasts)) for lasts in (False, True)])
                    for op in shown
                ]
                lines.append(f"| {fault.name} | {' | '.join(row)} |")
        lines.append("")
    return "\n".join(lines)


def _shown(outcomes: Sequence[str | None]) -> str:
    passing, lasting = outcomes
    if passing == lasting:
        return passing or ""
    return f"{passing or 'n/a'} / {lasting or 'n/a'}"

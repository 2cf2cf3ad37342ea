"""The names of `search/<query>/`: their meaning, and the source that answers each term.

Knows nothing of directories, requests or the catalogue's indexes: parses text into a `Query`, which
matches assets and makes the body of a STAC search (contract §2, §5.6).

Theory. A query is terms joined by commas, all of which must hold: `collection=phr,cloud<10`. A name
that is not a query must cost nothing, so parsing alone decides and never raises.
1. Commas join terms and also the four numbers of `bbox`. Only `bbox` takes more than one piece, and
   always four; in any other value a comma is `%2C`. So no name has two meanings, and a mistyped
   field makes the name no query instead of joining the value before it.
2. Values are percent-decoded: a name cannot hold `/`, but a tag can (`tag=a%2Fb`). A `%` that
   begins no code is itself: `text=100%`. Numbers, moments and operators are plain.
3. Several times are intersected: `datetime>=2024-05,datetime<2024-07`. An empty intersection, or
   two boxes, is no query.
4. `canonical()` is one spelling for all names of the same query: fixed order, no doubles, values
   encoded only if necessary. A query whose canonical name is too long for a file name is none.
5. Terms on fields of assets are answered from memory. Terms on fields that only items have (place,
   time, cloud) are sent to STAC, and with them the memory terms that STAC can check exactly, to
   make its response smaller. Memory still checks those: STAC's filter helps, but does not decide.
   STAC compares case, memory does not, so only values that UP42 spells in one way are sent:
   collections in lower case, order IDs.

6. The satellite and the modality are fields of items that STAC cannot be asked for (contract §5.6):
   all items that fit the rest of the query are read, and judged here.

Rejected: `or` and parentheses (the shell's), quotes (idem), and guessing at misspelt fields.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from operator import eq, ge, gt, le, lt
from typing import Any, TypeAlias
from urllib.parse import quote, unquote_to_bytes

from up42fs.model import geojson
from up42fs.model.stac import StacItem
from up42fs.model.timespan import TimeSpan, parse_literal, parse_span
from up42fs.types import CNAM_STATES, Asset, Order

#: Longest name the kernel looks up, bytes of UTF-8.
MAX_NAME_BYTES = 255

Box: TypeAlias = tuple[float, float, float, float]
Value: TypeAlias = str | float | Box | TimeSpan


class ValueKind(Enum):
    """The format of a field's value."""

    TEXT = "text, any case"
    STATUS = "SUCCESSFUL, IN_PROGRESS, NOT_PROCESSED or FAILED, any case"
    EXACT_TEXT = "text, as UP42 spells it"
    NUMBER = "a number"
    BOX = "west,south,east,north in degrees; west > east crosses the antimeridian"
    SPAN = (
        "a year, month, day or moment (UTC), all of it; after = also two around .., both included"
    )


class TermSource(Enum):
    """The source that answers a term."""

    MEMORY = "the mount's memory"
    SEARCH = "a STAC search"


@dataclass(frozen=True, slots=True)
class Field:
    """One row of the grammar; `queryable` is the field's name in STAC filters, if it has one."""

    name: str
    operators: tuple[str, ...]
    kind: ValueKind
    source: TermSource
    meaning: str
    example: str
    queryable: str | None = None


_EQUALS = ("=",)
_COMPARISONS = ("=", "<", "<=", ">", ">=")

#: The grammar, in canonical order. Documentation is generated from it.
FIELDS = (
    Field("text", _EQUALS, ValueKind.TEXT, TermSource.MEMORY,
          "part of the name, title, a tag, or the order's name or ID", "text=berlin"),
    Field("collection", _EQUALS, ValueKind.TEXT, TermSource.MEMORY,
          "the product collection", "collection=phr", "collection_name"),
    Field("producer", _EQUALS, ValueKind.TEXT, TermSource.MEMORY,
          "the producer", "producer=airbus"),
    Field("source", _EQUALS, ValueKind.TEXT, TermSource.MEMORY,
          "how it was obtained: ARCHIVE, TASKING, …", "source=tasking"),
    Field("status", _EQUALS, ValueKind.STATUS, TermSource.MEMORY,
          "the state of UP42's transformation", "status=successful"),
    Field("tag", _EQUALS, ValueKind.TEXT, TermSource.MEMORY,
          "one of the asset's tags, whole", "tag=harvest 2024"),
    Field("order", _EQUALS, ValueKind.TEXT, TermSource.MEMORY,
          "the name or ID of its order, whole", "order=Berlin May", "order_id"),
    Field("title", _EQUALS, ValueKind.TEXT, TermSource.MEMORY,
          "part of the title", "title=harbour"),
    Field("workspace", _EQUALS, ValueKind.TEXT, TermSource.MEMORY,
          "the ID of its workspace", "workspace=34bb49ce-8535-5297-afb8-32b4973227b4"),
    Field("updated", _COMPARISONS, ValueKind.SPAN, TermSource.MEMORY,
          "when UP42 changed it last", "updated>=2024-05"),
    Field("order_status", _EQUALS, ValueKind.TEXT, TermSource.MEMORY,
          "the state of its order: PLACED, BEING_FULFILLED, FULFILLED, …",
          "order_status=being_fulfilled"),
    Field("constellation", _EQUALS, ValueKind.EXACT_TEXT, TermSource.SEARCH,
          "the satellites", "constellation=PHR", "constellation"),
    Field("platform", _EQUALS, ValueKind.TEXT, TermSource.SEARCH,
          "the satellite", "platform=pneo-3"),
    Field("modality", _EQUALS, ValueKind.TEXT, TermSource.SEARCH,
          "how it was taken: multispectral, panchromatic, SAR, …", "modality=multispectral"),
    Field("job", _EQUALS, ValueKind.EXACT_TEXT, TermSource.SEARCH,
          "the ID of the processing job whose result it is",
          "job=e2a1f9c4-2b6f-4d0a-9a57-6d3f3f1f2c11", "job_id"),
    Field("cloud", _COMPARISONS, ValueKind.NUMBER, TermSource.SEARCH,
          "cloud cover in percent", "cloud<10", "eo:cloud_cover"),
    Field("gsd", _COMPARISONS, ValueKind.NUMBER, TermSource.SEARCH,
          "ground sampling distance in metres", "gsd<=0.5", "gsd"),
    Field("datetime", _COMPARISONS, ValueKind.SPAN, TermSource.SEARCH,
          "when it was acquired", "datetime=2024-05-01..2024-06-01"),
    Field("bbox", _EQUALS, ValueKind.BOX, TermSource.SEARCH,
          "the outline meets this box", "bbox=13.1,52.3,13.7,52.7"),
)  # fmt: skip
_BY_NAME = {field.name: field for field in FIELDS}
_RANKS = {field.name: rank for rank, field in enumerate(FIELDS)}

TERM = re.compile(r"\s*([A-Za-z_]+)\s*(<=|>=|=|<|>)(.*)", re.ASCII | re.DOTALL)
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Term:
    """One condition. Times have the operator `=`: comparisons are spans with an open end."""

    field: str
    operator: str
    value: Value

    def __str__(self) -> str:
        return f"{self.field}{self.operator}{_spelling(self.value)}"


@dataclass(frozen=True, slots=True)
class Query:
    """Conditions that must all hold, in canonical order, without doubles. See `parse_query`."""

    terms: tuple[Term, ...]

    def canonical(self) -> str:
        """The one name of this query: a path component; `parse_query` of it returns this query."""
        return ",".join(map(str, self.terms))

    @property
    def needs_search(self) -> bool:
        """Whether some term needs a STAC search."""
        return any(_BY_NAME[term.field].source is TermSource.SEARCH for term in self.terms)

    def matches(self, asset: Asset, order: Order | None) -> bool:
        """Whether the terms answered from memory hold; `order` is the asset's, if known.

        Terms that need a search are skipped: intersect with the result of `stac_body`.
        """
        return all(
            _holds(term, asset, order)
            for term in self.terms
            if _BY_NAME[term.field].source is TermSource.MEMORY
        )

    def holds_of(self, item: StacItem) -> bool:
        """Whether the terms that need a search hold of what is known of an item.

        A value that the item does not say matches nothing, as in UP42's search.
        """
        return all(
            _is_so(term, item)
            for term in self.terms
            if _BY_NAME[term.field].source is TermSource.SEARCH
        )

    def holds_beyond_search(self, item: StacItem) -> bool:
        """Whether those terms hold of a found item that UP42's search cannot be asked for."""
        return all(_is_so(term, item) for term in self.terms if _is_left_to_us(term))

    def stac_body(self, limit: int, *, narrow: bool = True) -> dict[str, Any] | None:
        """The body of `POST …/stac/search` (contract §5.6), `limit` items a page.

        None if memory alone answers. The assets of the found items still have to match. `narrow`
        adds those of memory's terms that STAC knows, so that the response has fewer items.
        """
        if not self.needs_search:
            return None
        body: dict[str, Any] = {"limit": limit}
        conditions = []
        for term in self.terms:
            is_asked = _BY_NAME[term.field].source is TermSource.SEARCH
            if isinstance(term.value, TimeSpan):
                if not is_asked:
                    continue
                body["datetime"] = term.value.stac()
            elif isinstance(term.value, tuple):
                body["bbox"] = list(term.value)
            elif (condition := _condition(term)) is not None:
                if is_asked:
                    conditions.append(condition)
                elif narrow:
                    conditions.append(_or_unsaid(condition))
        if conditions:
            one = len(conditions) == 1
            body["filter"] = conditions[0] if one else {"op": "and", "args": conditions}
            body["filter-lang"] = "cql2-json"
        return body


def parse_query(name: str) -> Query | None:
    """Parse a name in `search/`; None if it is no query. Never raises."""
    if len(name) > MAX_NAME_BYTES:
        return None  # the kernel cannot look it up either
    terms: dict[Term, None] = {}
    pieces = name.split(",")
    while pieces:
        term = _take_term(pieces)
        if term is None:
            return None
        terms[term] = None
    once = _once_each(terms)
    if once is None:
        return None
    query = Query(tuple(sorted(once, key=lambda term: (_RANKS[term.field], str(term)))))
    return query if len(query.canonical().encode()) <= MAX_NAME_BYTES else None


# -- parsing


def _take_term(pieces: list[str]) -> Term | None:
    found = TERM.fullmatch(pieces.pop(0))
    if found is None:
        return None
    name, operator, raw = found[1].lower(), found[2], found[3].strip()
    field = _BY_NAME.get(name)
    if field is None or operator not in field.operators:
        return None
    if field.kind is ValueKind.SPAN:
        span = _span(operator, raw)
        return None if span is None else Term(name, "=", span)
    if field.kind is ValueKind.BOX:
        corners, pieces[:3] = [raw, *pieces[:3]], []
        value: Value | None = _box(corners)
    else:
        value = _PARSERS[field.kind](raw)
    return None if value is None else Term(name, operator, value)


def _once_each(terms: Iterable[Term]) -> list[Term] | None:
    """`terms` with one span for each field and one box, since a STAC search takes one of each."""
    kept, boxes = [], 0
    spans: dict[str, TimeSpan] = {}
    for term in terms:
        if isinstance(term.value, TimeSpan):
            known = spans.get(term.field)
            span = term.value if known is None else known.meet(term.value)
            if span is None:
                return None
            spans[term.field] = span
            continue
        boxes += isinstance(term.value, tuple)
        kept.append(term)
    if boxes > 1:
        return None
    return kept + [Term(name, "=", span) for name, span in spans.items()]


def _number(raw: str) -> float | None:
    text = raw.strip()
    # Adding zero turns -0.0 into 0.0, so that equal queries have one spelling.
    number = float(text) + 0.0 if _NUMBER.fullmatch(text) else math.nan
    return number if math.isfinite(number) else None


def _box(corners: Iterable[str]) -> Box | None:
    numbers = [number for number in map(_number, corners) if number is not None]
    if len(numbers) != 4:
        return None
    west, south, east, north = numbers
    on_earth = max(abs(west), abs(east)) <= 180 and -90 <= south <= north <= 90
    return (west, south, east, north) if on_earth else None


def _span(operator: str, raw: str) -> TimeSpan | None:
    if operator == "=":
        return parse_span(raw)
    literal = parse_literal(raw)
    if literal is None:
        return None
    edge = literal.start if operator in ("<", ">=") else literal.stop
    try:
        return TimeSpan(None, edge) if operator in ("<", "<=") else TimeSpan(edge, None)
    except ValueError:
        return None


def _text(raw: str) -> str | None:
    try:
        return unicodedata.normalize("NFC", unquote_to_bytes(raw).decode()) or None
    except UnicodeError:
        return None


def _status(raw: str) -> str | None:
    status = raw.upper()
    return status if status in CNAM_STATES else None


_PARSERS: Mapping[ValueKind, Callable[[str], Value | None]] = {
    ValueKind.TEXT: _text,
    ValueKind.EXACT_TEXT: _text,
    ValueKind.STATUS: _status,
    ValueKind.NUMBER: _number,
}


# -- spelling


def _spelling(value: Value) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_spelling, value))
    if isinstance(value, float):
        return str(_plain_number(value))
    if isinstance(value, TimeSpan):
        return str(value)
    edges = (0, len(value) - 1)
    return "".join(
        quote(char, safe="") if _needs_code(char) or (index in edges and char.isspace()) else char
        for index, char in enumerate(value)
    )


def _needs_code(character: str) -> bool:
    return character in "%,/" or not character.isprintable()


def _plain_number(number: float) -> int | float:
    return int(number) if number.is_integer() and abs(number) < 1e15 else number


# -- meaning


def _holds(term: Term, asset: Asset, order: Order | None) -> bool:
    if isinstance(term.value, TimeSpan):
        return term.value.contains(asset.updated_at)
    wanted = _folded(str(term.value))
    said = [_folded(text) for text in _said(term.field, asset, order) if text]
    if term.field in ("text", "title"):
        return any(wanted in text for text in said)
    return wanted in said


def _is_left_to_us(term: Term) -> bool:
    field = _BY_NAME[term.field]
    is_text = field.kind is ValueKind.TEXT
    return field.source is TermSource.SEARCH and is_text and field.queryable is None


_SAID_BY_ITEMS: Mapping[str, Callable[[StacItem], str | float | None]] = {
    "constellation": lambda item: item.constellation,
    "platform": lambda item: item.platform,
    "modality": lambda item: item.modality,
    "job": lambda item: item.job_id,
    "cloud": lambda item: item.cloud_cover,
    "gsd": lambda item: item.gsd,
}
_COMPARE = {"=": eq, "<": lt, "<=": le, ">": gt, ">=": ge}


def _is_so(term: Term, item: StacItem) -> bool:
    wanted = term.value
    if isinstance(wanted, TimeSpan):
        return item.datetime is not None and wanted.contains(item.datetime)
    if isinstance(wanted, tuple):
        return item.bbox is not None and geojson.meet(wanted, item.bbox)
    told_by = _SAID_BY_ITEMS.get(term.field)
    said = None if told_by is None else told_by(item)
    if isinstance(said, str) and _BY_NAME[term.field].kind is ValueKind.TEXT:
        return _folded(said) == _folded(str(wanted))
    return said is not None and _COMPARE[term.operator](said, wanted)


_SAID: Mapping[str, Callable[[Asset], tuple[str | None, ...]]] = {
    "text": lambda asset: (asset.name, asset.title, *asset.tags),
    "title": lambda asset: (asset.title,),
    "tag": lambda asset: asset.tags,
    "status": lambda asset: (asset.cnam_status,),
    "collection": lambda asset: (asset.collection,),
    "producer": lambda asset: (asset.producer,),
    "source": lambda asset: (asset.source,),
    "workspace": lambda asset: (asset.workspace_id,),
}


def _said(field: str, asset: Asset, order: Order | None) -> tuple[str | None, ...]:
    order_names = (asset.order_id, order.display_name if order is not None else None)
    match field:
        case "text":
            return _SAID[field](asset) + order_names
        case "order":
            return order_names
        case "order_status":
            return (order.status if order is not None else None,)
    return _SAID[field](asset)


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def _or_unsaid(condition: dict[str, Any]) -> dict[str, Any]:
    """`condition` or `isNull`: memory may know of the asset a value that the item leaves out."""
    subject = condition["args"][0]
    return {"op": "or", "args": [condition, {"op": "isNull", "args": [subject]}]}


def _condition(term: Term) -> dict[str, Any] | None:
    """One CQL2-JSON comparison, or None if STAC cannot check the term exactly."""
    field, value = _BY_NAME[term.field], term.value
    if field.queryable is None:
        return None
    if isinstance(value, float):
        value = _plain_number(value)
    elif field.name == "collection" and value != str(value).lower():
        return None
    elif field.name == "order":
        value = str(value).lower()
        if not _UUID.fullmatch(value):
            return None
    return {"op": term.operator, "args": [{"property": field.queryable}, value]}

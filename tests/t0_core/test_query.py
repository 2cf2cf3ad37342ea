"""Names in `search/`: one meaning each, never an exception (issue 3, item 6)."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from strategies import make_asset, make_order

from up42fs.model.no_query import why_no_query
from up42fs.model.query import FIELDS, MAX_NAME_BYTES, Query, TermSource, ValueKind, parse_query
from up42fs.model.timespan import TimeSpan, parse_literal, parse_span
from up42fs.types import CnamStatus


def parsed(name: str) -> Query:
    query = parse_query(name)
    assert query is not None, name
    return query


def canonical(name: str) -> str:
    return parsed(name).canonical()


# -- grammar

numbers = st.floats(-1e6, 1e6).map(repr) | st.integers(-(10**20), 10**20).map(str)
latitudes = st.floats(-90, 90)
boxes = st.tuples(st.floats(-180, 180), latitudes, st.floats(-180, 180), latitudes).map(
    lambda box: ",".join(map(repr, (box[0], min(box[1], box[3]), box[2], max(box[1], box[3]))))
)
literals = st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)).flatmap(
    lambda moment: st.sampled_from(
        [
            moment.isoformat() + "+02:00",
            moment.isoformat("T", "seconds") + "Z",
            moment.isoformat("T", "minutes"),
            moment.date().isoformat(),
            f"{moment:%Y-%m}",
            f"{moment:%Y}",
        ]
    )
)
spans = st.one_of(
    literals,
    literals.map("..".__add__),
    literals.map(lambda text: f"{text}.."),
    st.tuples(literals, literals).map(lambda pair: "..".join(sorted(pair))),
)
texts = st.text(st.characters(codec="utf-8", exclude_characters=",/\0"), max_size=12)
VALUES = {
    ValueKind.TEXT: texts,
    ValueKind.EXACT_TEXT: texts,
    ValueKind.STATUS: st.sampled_from(["successful", "FAILED", "In_Progress"]),
    ValueKind.NUMBER: numbers,
    ValueKind.BOX: boxes,
    ValueKind.SPAN: spans,
}


@st.composite
def terms(draw: st.DrawFn) -> str:
    field = draw(st.sampled_from(FIELDS))
    operator = draw(st.sampled_from(field.operators))
    return f"{field.name}{operator}{draw(VALUES[field.kind])}"


names = st.lists(terms(), min_size=1, max_size=4).map(",".join)


@given(st.text(st.characters(codec=None, exclude_categories=())) | names)
@example("text=\udcff")
@example("text=%FF")
@example("datetime<0001")
@example("datetime=0001-01-01T00:00+14:00")
@example("datetime>9999-12-31")
@example("cloud<1e999")
@example("bbox=1,2,3")
def test_any_name_parses_or_is_no_query_and_its_canonical_name_is_the_same_query(name: str) -> None:
    query = parse_query(name)
    if query is None:
        return
    one = query.canonical()
    assert parse_query(one) == query
    assert parsed(one).canonical() == one
    assert "/" not in one
    assert one.isprintable()
    assert len(one.encode()) <= MAX_NAME_BYTES
    assert one == one.strip()
    body = query.stac_body(100)
    assert (body is not None) == query.needs_search
    assert json.loads(json.dumps(body, allow_nan=False)) == body


LONG_BOX = "bbox=-9.101680706282886e-195,1.952645001027299e-247,10.578125,4.9196932761994224e-222"


@given(terms(), terms())
@example(LONG_BOX, LONG_BOX)
def test_order_and_repetition_make_no_other_query(first: str, second: str) -> None:
    both = parse_query(f"{first},{second}")
    assert both == parse_query(f"{second},{first}")
    again = f"{first},{second},{first}"
    if both is not None and len(again) <= MAX_NAME_BYTES:
        assert parse_query(again) == both


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_the_table_says_what_the_parser_does(field) -> None:
    query = parsed(field.example)
    assert [term.field for term in query.terms] == [field.name]
    assert query.needs_search == (field.source is TermSource.SEARCH)
    value = {ValueKind.SPAN: "2024", ValueKind.BOX: "1,2,3,4", ValueKind.STATUS: "failed"}.get(
        field.kind, "1"
    )
    operators = ("=", "<", "<=", ">", ">=")
    accepted = {each for each in operators if parse_query(f"{field.name}{each}{value}")}
    assert accepted == set(field.operators)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("collection=phr,cloud<10", "collection=phr,cloud<10"),
        ("Cloud < 10.0 , Collection = phr", "collection=phr,cloud<10"),
        ("cloud<=.5,cloud>-0", "cloud<=0.5,cloud>0"),
        ("bbox=13.1,52.3,13.7,52.7,text=a", "text=a,bbox=13.1,52.3,13.7,52.7"),
        ("bbox=170,-10,-170,10", "bbox=170,-10,-170,10"),
        ("bbox=1,2,1,2", "bbox=1,2,1,2"),
        ("bbox=1,2,3,4,bbox=1.0,2,3,4", "bbox=1,2,3,4"),
        ("tag=a%2fb%2Cc", "tag=a%2Fb%2Cc"),
        ("text=100%", "text=100%25"),
        ("text=%20 a", "text=%20 a"),
        ("text=a=b<c", "text=a=b<c"),
        ("text=cloud<10", "text=cloud<10"),
        ("status=in_progress", "status=IN_PROGRESS"),
        ("order=Köln; Mai", "order=Köln; Mai"),
        ("datetime=2024-05-01..2024-06-01", "datetime=2024-05-01..2024-06-01"),
        ("datetime=2024-05", "datetime=2024-05-01..2024-05-31"),
        ("datetime=2024", "datetime=2024-01-01..2024-12-31"),
        ("datetime=2024-05-01T10:00+02:00", "datetime=2024-05-01T08:00Z"),
        ("datetime<2024-05", "datetime=..2024-04-30"),
        ("datetime<=2024-05", "datetime=..2024-05-31"),
        ("datetime>2024-05", "datetime=2024-06-01.."),
        ("datetime>=2024-05", "datetime=2024-05-01.."),
        ("datetime>=2024-05,datetime<2024-07", "datetime=2024-05-01..2024-06-30"),
    ],
)
def test_one_spelling_for_one_query(name: str, expected: str) -> None:
    assert canonical(name) == expected


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        ",",
        "berlin",
        ".git",
        "text",
        "text=",
        "text= ",
        "text<a",
        "cloud",
        "cloud<",
        "cloud<ten",
        "cloud<nan",
        "cloud<inf",
        "cloud<1_0",
        "cloud<٣",
        "clod<10",
        "cloud<10%",
        "cloud<10,",
        ",cloud<10",
        "cloud<10,,gsd<1",
        "collection=phr,clod<10",
        "text=a,b",
        "cloud==10",
        "cloud=>10",
        "cloud!=10",
        "bbox=1,2,3",
        "bbox=1,2,3,4,5",
        "bbox=1,2,3,x",
        "bbox=1,4,3,2",
        "bbox=-181,0,0,0",
        "bbox=0,-91,0,0",
        "bbox=1,2,3,4,bbox=1,2,3,5",
        "bbox<1,2,3,4",
        "datetime=..",
        "datetime=",
        "datetime=2024-13",
        "datetime=2024-02-30",
        "datetime=24",
        "datetime=2024-05-01..x",
        "datetime=2024-06..2024-05",
        "datetime=2024-5-1",
        "datetime<2024..2025",
        "datetime<2024,datetime>2025",
        "datetime=2024-05-01/2024-06-01",
        "status=done",
        "text=%FF",
        "text=" + "x" * 251,
        "text=" + "ü" * 126,
        "tag=" + "%" * 100,
    ],
)
def test_what_is_no_query(name: str) -> None:
    assert parse_query(name) is None


# -- time

EDGES = st.none() | st.datetimes(datetime(1, 1, 2), datetime(9998, 12, 31)).map(
    lambda moment: moment.replace(tzinfo=UTC)
)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("colour=red", "there is no field 'colour'; the fields are text, collection,"),
        ("clowd<3", "there is no field 'clowd'; did you mean cloud? the fields are text,"),
        ("footprints", "'footprints' is no term such as cloud<10; the fields are text,"),
        ("status=done", "'done' is no value of status: it is a state of UP42's transformation"),
        ("tag=a,cloud=low", "'low' is no value of cloud: it is a decimal number, as cloud<10"),
        ("title<x", "title takes =, as title=harbour"),
        ("updated=2024-13", "'2024-13' is no value of updated: it is a date, a time or a range"),
        ("bbox=1,2,3", "'1,2,3' is no value of bbox: it is west, south, east and north"),
        ("datetime<2024,datetime>2025", "its terms exclude each other"),
        ("x\n\u202e=1", r"'x\n\u202e=1' is no term"),
        ("title=" + "y" * 300, "it is longer than 255 bytes"),
    ],
)
def test_what_is_no_query_is_told_why(name: str, reason: str) -> None:
    assert parse_query(name) is None
    assert why_no_query(name).startswith(reason)


@given(names | st.text(max_size=300))
def test_every_name_that_is_no_query_has_a_printable_reason(name: str) -> None:
    if parse_query(name) is None:
        assert why_no_query(name).isprintable()
        assert len(why_no_query(name)) < 400


@given(EDGES, EDGES, st.sampled_from([0, 1, 1_000_000, 60_000_000, 86_400_000_000]))
def test_every_span_has_a_spelling(
    start: datetime | None, stop: datetime | None, grain_us: int
) -> None:
    edges = [start, stop]
    if grain_us:
        zero = datetime(1, 1, 1, tzinfo=UTC)
        edges = [edge and edge - (edge - zero) % timedelta(microseconds=grain_us) for edge in edges]
    try:
        span = TimeSpan(*edges)
    except ValueError:
        assume(False)
        raise
    assert parse_span(str(span)) == span


def test_a_literal_is_all_of_its_unit() -> None:
    def ends(text: str) -> tuple[datetime | None, datetime | None]:
        span = parse_literal(text)
        assert span is not None
        return span.start, span.stop

    assert ends("2024-12") == (datetime(2024, 12, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC))
    assert ends("2024-02-29")[1] == datetime(2024, 3, 1, tzinfo=UTC)
    assert ends("2024-05-01T10:00:00Z")[1] == datetime(2024, 5, 1, 10, 0, 1, tzinfo=UTC)
    assert parse_literal("9999") is None, "its end cannot be told"


@pytest.mark.parametrize(
    ("text", "stac"),
    [
        ("2024-05-01", "2024-05-01T00:00:00Z/2024-05-01T23:59:59.999999Z"),
        ("2024-05-01..", "2024-05-01T00:00:00Z/.."),
        ("..2024-05-01", "../2024-05-01T23:59:59.999999Z"),
        ("2024-05-01T10:00:00.25Z", "2024-05-01T10:00:00.250000Z/2024-05-01T10:00:00.250000Z"),
    ],
)
def test_stac_includes_both_ends(text: str, stac: str) -> None:
    span = parse_span(text)
    assert span is not None
    assert span.stac() == stac


# -- memory

ORDER = make_order(1, display_name="Berlin Straße")
ASSET = make_asset(
    1,
    name="oneatlas.zip",
    title="Mitte / May",
    tags=("a/b", "Über"),
    cnam_status=CnamStatus.FAILED,
    collection="phr",
    producer="airbus",
    source="ARCHIVE",
    order_id=ORDER.id,
)


@pytest.mark.parametrize(
    "name",
    [
        "text=ATLAS",
        "text=mitte %2F",
        "text=STRASSE",
        "text=über",
        "text=u\u0308ber",
        "text=0000000F-",
        "collection=PHR",
        "producer=Airbus",
        "source=archive",
        "status=failed",
        "tag=a%2Fb",
        "tag=ÜBER",
        f"order={ORDER.id}",
        "order=berlin strasse",
        "tag=a%2Fb,tag=über,collection=phr",
        "cloud<10,collection=phr",
    ],
)
def test_an_asset_that_matches(name: str) -> None:
    assert parsed(name).matches(ASSET, ORDER)


@pytest.mark.parametrize(
    "name",
    [
        "text=x",
        "collection=ph",
        "producer=air",
        "source=TASKING",
        "status=successful",
        "tag=a",
        "order=Berlin",
        "collection=phr,tag=a",
        "cloud<10,collection=spot",
    ],
)
def test_an_asset_that_does_not(name: str) -> None:
    assert not parsed(name).matches(ASSET, ORDER)


def test_what_an_asset_does_not_say_matches_nothing() -> None:
    bare = make_asset(2, name=None)
    for field in FIELDS:
        if field.source is TermSource.MEMORY:
            assert not parsed(field.example).matches(bare, None), field.name
    assert not parsed("order=Berlin Straße").matches(ASSET, None)


# -- STAC


@pytest.mark.parametrize("name", ["collection=phr", "text=a,tag=b,order=c,status=failed"])
def test_memory_alone_asks_nothing(name: str) -> None:
    assert parsed(name).stac_body(100) is None


def or_unsaid(condition: dict) -> dict:
    """Memory knows of the asset what its items may leave out."""
    return {"op": "or", "args": [condition, {"op": "isNull", "args": condition["args"][:1]}]}


def test_a_search_says_all_it_can() -> None:
    name = "bbox=13.1,52.3,13.7,52.7,cloud<10,gsd<=0.5,collection=phr,datetime=2024-05,tag=x"
    assert parsed(name + f",order={ORDER.id},constellation=PHR").stac_body(50) == {
        "limit": 50,
        "bbox": [13.1, 52.3, 13.7, 52.7],
        "datetime": "2024-05-01T00:00:00Z/2024-05-31T23:59:59.999999Z",
        "filter": {
            "op": "and",
            "args": [
                or_unsaid({"op": "=", "args": [{"property": "collection_name"}, "phr"]}),
                or_unsaid({"op": "=", "args": [{"property": "order_id"}, ORDER.id]}),
                {"op": "=", "args": [{"property": "constellation"}, "PHR"]},
                {"op": "<", "args": [{"property": "eo:cloud_cover"}, 10]},
                {"op": "<=", "args": [{"property": "gsd"}, 0.5]},
            ],
        },
        "filter-lang": "cql2-json",
    }


def test_one_condition_needs_no_and_and_none_no_filter() -> None:
    assert parsed("cloud<10").stac_body(5) == {
        "limit": 5,
        "filter": {"op": "<", "args": [{"property": "eo:cloud_cover"}, 10]},
        "filter-lang": "cql2-json",
    }
    assert parsed("bbox=170,-10,-170,10").stac_body(5) == {
        "limit": 5,
        "bbox": [170, -10, -170, 10],
    }


def test_without_narrowing_only_what_stac_must_judge_is_asked() -> None:
    query = parsed(f"cloud<10,collection=phr,order={ORDER.id}")
    assert query.stac_body(5, narrow=False) == parsed("cloud<10").stac_body(5)


@pytest.mark.parametrize("term", ["collection=PHR", "order=Berlin May", "tag=x", "source=ARCHIVE"])
def test_what_stac_might_judge_otherwise_is_left_to_memory(term: str) -> None:
    assert parsed(f"{term},cloud<10").stac_body(5) == parsed("cloud<10").stac_body(5)

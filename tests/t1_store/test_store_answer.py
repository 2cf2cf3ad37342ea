"""Answers are judged by their head: what is taken, what is retried, what is final."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from up42fs.errors import InvalidAnswer, VersionChanged
from up42fs.store.http.answer import (
    PAGE,
    SKIP_BYTES,
    Delivery,
    Final,
    Garbled,
    ResponseHead,
    Take,
    VersionPin,
    judge,
)
from up42fs.store.lanes import FilePlace, Lane
from up42fs.types import ByteRange, Bytes, Version

SIZE = 1000
ASKED = ByteRange(100, 200)
GOOD = {"content-range": "bytes 100-199/1000", "content-length": "100", "etag": '"a"'}


def partial(**changes: str | None) -> ResponseHead:
    headers = GOOD | {name.replace("_", "-"): value for name, value in changes.items()}
    return ResponseHead(206, {name: value for name, value in headers.items() if value is not None})


def test_the_answer_to_the_question_is_taken_and_pins_its_version() -> None:
    pin = VersionPin(SIZE)
    assert judge(partial(), ASKED, pin) == Take(Version(SIZE, '"a"'))
    assert pin.version == Version(SIZE, '"a"')
    assert pin.if_match == '"a"'


@pytest.mark.parametrize(
    "head",
    [
        partial(content_range=None),
        partial(content_range="bytes 101-199/1000"),
        partial(content_range="bytes 100-198/1000"),
        partial(content_range="bytes 100-199/*"),
        partial(content_range="bytes */1000"),
        partial(content_range="bytes 100-199"),
        partial(content_length="99"),
        partial(content_length="101"),
        partial(content_encoding="gzip"),
    ],
)
def test_wrong_partial_answers_are_refused_and_pin_nothing(head: ResponseHead) -> None:
    pin = VersionPin(SIZE)
    assert isinstance(judge(head, ASKED, pin), Garbled)
    assert pin.version is None


@pytest.mark.parametrize(
    ("head", "seen"),
    [
        (partial(etag='"b"'), Version(SIZE, '"b"')),
        (partial(content_range="bytes 100-199/1001"), Version(1001, '"a"')),
        (
            partial(content_range="bytes 100-149/150", content_length="50"),
            Version(150, '"a"'),
        ),
        (ResponseHead(200, {"content-length": "999", "etag": '"a"'}), Version(999, '"a"')),
        (ResponseHead(200, {"content-length": "1000", "etag": '"b"'}), Version(SIZE, '"b"')),
    ],
)
def test_another_version_is_final_and_remembered(head: ResponseHead, seen: Version) -> None:
    pin = VersionPin(SIZE)
    judge(partial(), ASKED, pin)
    judgement = judge(head, ASKED, pin)
    assert isinstance(judgement, Final)
    assert judgement.error is VersionChanged
    assert pin.changed_to == seen
    assert pin.version == Version(SIZE, '"a"')


@pytest.mark.claim("S387")
def test_a_size_other_than_the_catalogues_is_another_version_at_once() -> None:
    pin = VersionPin(SIZE + 1)
    judgement = judge(partial(), ASKED, pin)
    assert isinstance(judgement, Final)
    assert judgement.error is VersionChanged
    assert pin.version is None
    assert pin.changed_to == Version(SIZE, '"a"')
    assert f"of {SIZE:,} bytes and not {pin.size:,} as UP42 lists" in judgement.why


def test_an_answer_that_lost_its_etag_is_not_trusted() -> None:
    pin = VersionPin(SIZE)
    judge(partial(), ASKED, pin)
    assert isinstance(judge(partial(etag=None), ASKED, pin), Garbled)


@pytest.mark.parametrize("length", ["\x1c1000", "9" * 5000, "1e3", "-1", "", "\u0661"])
def test_a_length_that_is_no_number_is_garbled(length: str) -> None:
    """Found by contrib/fuzz: what `strip` takes for a blank, `int` does not."""
    head = ResponseHead(200, {"content-length": length, "etag": '"a"'})
    assert isinstance(judge(head, ASKED, VersionPin(SIZE)), Garbled)


@pytest.mark.parametrize("size", [SIZE, None])
def test_a_sign_in_page_is_not_taken_for_a_new_version(size: int | None) -> None:
    """A captive portal answers 200 with a page; its length is not the object's."""
    pin = VersionPin(size)
    page = ResponseHead(200, {"content-length": "57", "content-type": "text/html"})
    assert isinstance(judge(page, ASKED, pin), Garbled)
    assert (pin.version, pin.changed_to, pin.size) == (None, None, size)


@pytest.mark.parametrize("size", [SIZE, None])
@pytest.mark.parametrize("kind", ["text/html", "Text/HTML; charset=utf-8", "application/xhtml+xml"])
def test_a_page_from_a_server_of_static_files_is_no_version(kind: str, size: int | None) -> None:
    """It sends ranges and an ETag, too; once, that was an unknown file's bytes."""
    asked = ByteRange(0, 100)
    page = {"content-type": kind, "etag": '"page"', "content-length": "60"}
    ranged = ResponseHead(206, page | {"content-range": "bytes 0-59/60"})
    for head in (ranged, ResponseHead(200, page)):
        pin = VersionPin(size)
        assert judge(head, asked, pin) == Garbled(PAGE)
        assert pin.version is None
        assert pin.changed_to is None


def test_html_that_is_the_file_is_taken() -> None:
    page = {"content-type": "text/html", "etag": '"a"', "content-length": "60"}
    signed = {"content-disposition": "attachment; filename=preview.html"}
    asked = ByteRange(0, 60)
    assert isinstance(judge(ResponseHead(200, page), asked, VersionPin(60)), Take)
    assert isinstance(judge(ResponseHead(200, page | signed), asked, VersionPin(None)), Take)


def test_a_store_without_etags_is_believed_where_the_size_is_right() -> None:
    whole = ResponseHead(200, {"content-length": str(SIZE)})
    assert isinstance(judge(whole, ASKED, VersionPin(SIZE)), Take)
    assert isinstance(judge(partial(etag=None), ASKED, VersionPin(SIZE)), Take)
    assert isinstance(judge(partial(etag=None), ASKED, VersionPin(None)), Take)


def test_no_length_means_the_body_must_prove_itself() -> None:
    assert judge(partial(content_length=None), ASKED, VersionPin(SIZE)) == Take(
        Version(SIZE, '"a"'), prove=100
    )


def test_a_whole_answer_is_used_by_skipping() -> None:
    head = ResponseHead(200, {"content-length": "1000", "etag": '"a"'})
    assert judge(head, ASKED, VersionPin(SIZE)) == Take(Version(SIZE, '"a"'), skip=100)


def test_a_whole_answer_is_not_read_for_ever() -> None:
    size = SKIP_BYTES * 2
    head = ResponseHead(200, {"content-length": str(size)})
    judgement = judge(head, ByteRange(SKIP_BYTES + 1, SKIP_BYTES + 2), VersionPin(size))
    assert judgement == Final(InvalidAnswer, "the object store ignores ranges for it")
    assert isinstance(judge(head, ByteRange(0, 5), VersionPin(size)), Take)


def test_compressed_objects_are_refused_unless_small_enough_to_prove() -> None:
    encoded = ResponseHead(200, {"content-length": "1000", "content-encoding": "gzip"})
    judgement = judge(encoded, ASKED, VersionPin(SIZE))
    assert isinstance(judgement, Final)
    assert judgement.error is InvalidAnswer
    inflated = ResponseHead(200, {"x-goog-stored-content-encoding": "gzip", "etag": '"a"'})
    large = judge(inflated, ASKED, VersionPin(SKIP_BYTES + 1))
    assert isinstance(large, Final)
    assert "ignores ranges" in large.why
    assert judge(inflated, ASKED, VersionPin(SIZE)) == Take(
        Version(SIZE, '"a"'), skip=100, prove=SIZE
    )


@pytest.mark.parametrize(
    ("etag", "sent"),
    [
        ('"a"', '"a"'),
        ('W/"a"', None),
        ("a", None),
        (None, None),
        (f'"{"a" * 1022}"', f'"{"a" * 1022}"'),
        (f'"{"a" * 90_000}"', None),
    ],
)
def test_only_a_strong_etag_becomes_a_condition(etag: str | None, sent: str | None) -> None:
    pin = VersionPin(SIZE)
    judge(partial(etag=etag), ASKED, pin)
    assert pin.if_match == sent


texts = st.text(alphabet='bytes 0123456789-/*,gip"aW', max_size=24)


@given(
    st.sampled_from([200, 206]),
    st.dictionaries(
        st.sampled_from(["content-range", "content-length", "content-encoding", "etag"]),
        st.one_of(texts, st.sampled_from(list(GOOD.values()))),
    ),
)
def test_whatever_the_head_only_the_asked_bytes_are_taken(
    status: int, headers: dict[str, str]
) -> None:
    pin = VersionPin(SIZE)
    judgement = judge(ResponseHead(status, headers), ASKED, pin)
    if isinstance(judgement, Take):
        assert judgement.version.size == SIZE
        if status == 206:
            assert headers["content-range"].strip() == "bytes 100-199/1000"
            assert headers.get("content-length", "100").strip() == "100"
            assert judgement.skip == 0
        else:
            assert judgement.skip == ASKED.start
            assert headers.get("content-length", "1000").strip().lstrip("0") == "1000"


class FileWriter:
    """A writer whose bytes go to a file."""

    def __init__(self, place: FilePlace) -> None:
        self._place = place

    def write(self, data: Bytes) -> bool:
        return True

    def space(self) -> FilePlace:
        return self._place

    def fill(self, count: int) -> bool:
        return True

    def abandon(self) -> None: ...


@pytest.mark.parametrize(
    ("head", "is_placed"),
    [
        (partial(), True),
        (partial(content_length=None), False),  # the body may be of any length
        (partial(transfer_encoding="chunked"), False),  # which overrides its length
        (ResponseHead(200, {"content-length": "1000", "etag": '"a"'}), False),
    ],
)
def test_a_body_goes_to_a_file_by_itself_only_if_it_ends_with_its_range(
    tmp_path: Path, head: ResponseHead, is_placed: bool
) -> None:
    (tmp_path / "file").touch()
    place = FilePlace(Lane(tmp_path / "file"), 100, lambda _error: None)
    delivery = Delivery(ASKED, VersionPin(SIZE), FileWriter(place))
    assert delivery.begin(head)
    assert delivery.space() is (place if is_placed else None)

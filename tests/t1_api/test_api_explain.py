from typing import Any

import httpx
import pytest
from api_helpers import reply
from hypothesis import given
from hypothesis import strategies as st

from up42fs.api.bounds import parse
from up42fs.api.explain import LONGEST_WORDS, explain, inner_error, redact, unwrap

SIGNED = "https://storage.googleapis.com/b/o?Expires=1&Signature=abc"


@pytest.mark.parametrize(
    ("document", "explained"),
    [
        (
            {"title": "Bad Request", "status": 400, "detail": "no such workspace"},
            (None, "Bad Request: no such workspace"),
        ),
        ({"title": "Bad", "status": 400, "type": "about:blank"}, (None, "Bad")),
        ({"title": "Bad", "type": "urn:up42:bad"}, ("urn:up42:bad", "Bad")),
        ({"code": 404, "message": "Not there", "details": None}, ("404", "Not there")),
        (
            {"data": None, "error": {"code": 403, "message": "No", "details": "plan"}},
            ("403", "No: plan"),
        ),
        ({"data": None, "error": "It broke"}, ("It broke", "It broke")),
        (
            {"error": "invalid_grant", "error_description": "Invalid user credentials"},
            ("invalid_grant", "Invalid user credentials"),
        ),
        ({"error": {"code": "UNAUTHORIZED", "message": None}}, ("UNAUTHORIZED", "")),
        ({"message": ["odd"]}, (None, "")),
        ([1], (None, "")),
        ({}, (None, "")),
    ],
)
def test_the_shapes_of_error_bodies(document: Any, explained: tuple[str | None, str]) -> None:
    answer = reply(document, 400)
    assert explain(answer, parse(answer.content)) == explained


def test_gateways_answer_what_they_like() -> None:
    page = httpx.Response(502, html="<h1>Bad gateway</h1>")
    assert explain(page, parse(page.content)) == (None, "an answer that is not JSON (text/html)")
    assert explain(httpx.Response(502), None) == (None, "")
    deep = httpx.Response(500, content=b"[" * 100_000)
    assert explain(deep, None)[1].startswith("an answer that is not JSON")


@pytest.mark.parametrize(
    ("document", "status"),
    [
        ({"data": None, "error": {"code": 404}}, 404),
        ({"data": None, "error": {"code": "UNAUTHORIZED"}}, 401),
        ({"data": None, "error": {"code": "ODD"}}, 200),
        ({"data": None, "error": {"code": 42}}, 200),
        ({"error": "broken"}, 200),
        ({"data": {"id": 1}, "error": "note"}, None),
        ({"data": {}, "error": None}, None),
        ({"id": "x", "error": "an order may say so"}, None),
        ({"content": []}, None),
    ],
)
def test_errors_inside_a_200(document: dict[str, Any], status: int | None) -> None:
    assert inner_error(document) == status


def test_the_legacy_envelope_is_taken_off() -> None:
    assert unwrap({"data": {"a": 1}, "error": None}) == {"a": 1}
    assert unwrap({"data": {"a": 1}, "id": "x"}) == {"data": {"a": 1}, "id": "x"}
    assert unwrap({"data": [1]}) == {"data": [1]}


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (f"cannot read {SIGNED} now", "cannot read https://storage.googleapis.com/b/o now"),
        ("Bearer abc.def-ghi was refused", "Bearer <token> was refused"),
        ("JWT eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln expired", "JWT <token> expired"),
        ("at https://me:pw@host/x", "at https://host/x"),
        ("two\nlines\x00 and\ttabs", "two lines and tabs"),
    ],
)
def test_words_carry_no_secrets(words: str, kept: str) -> None:
    assert redact(words) == kept


@given(st.text(), st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=12))
def test_redaction_holds_in_any_surroundings(words: str, secret: str) -> None:
    found = redact(f"{words} https://host.example/o?Signature=Sig{secret} {words}")
    assert f"Sig{secret}" not in found
    assert len(found) <= LONGEST_WORDS
    assert found.isprintable()

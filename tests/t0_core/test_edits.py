"""Edits as intentions: nothing anybody else did is lost, and undoing takes back one's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from up42fs.errors import InvalidArgument
from up42fs.model.intentions import (
    MAX_TAG_BYTES,
    MAX_TAGS,
    MAX_TITLE_BYTES,
    Edit,
    Metadata,
    check_tag,
    parse_tags,
    parse_title,
    retag,
    undo,
)

TAGS = st.lists(st.sampled_from("abcde"), unique=True, max_size=5).map(tuple)
TITLES = st.sampled_from([None, "one", "two", "three"])
STATES = st.builds(Metadata, TITLES, TAGS)
EDITS = st.one_of(
    st.builds(retag, TAGS, TAGS),
    st.builds(lambda title: Edit(title=title), TITLES),
    st.builds(undo, STATES, STATES),
)


@given(TAGS, TAGS, TAGS)
def test_retagging_touches_only_what_was_seen_or_wanted(shown, wanted, fresh) -> None:
    after = retag(shown, wanted).applied(Metadata("t", fresh))
    assert after.title == "t"
    assert set(after.tags) == (set(fresh) - (set(shown) - set(wanted))) | (set(wanted) - set(shown))
    assert [tag for tag in after.tags if tag in fresh] == [t for t in fresh if t in after.tags]


@given(TAGS, TAGS)
def test_retagging_what_was_seen_gives_what_was_wanted(shown, wanted) -> None:
    assert set(retag(shown, wanted).applied(Metadata(None, shown)).tags) == set(wanted)


@given(EDITS, STATES)
def test_an_edit_carried_out_is_done(edit: Edit, state: Metadata) -> None:
    once = edit.applied(state)
    assert edit.applied(once) == once
    assert len(set(once.tags)) == len(once.tags)


@given(EDITS, STATES)
def test_undo_takes_an_edit_back(edit: Edit, state: Metadata) -> None:
    after = edit.applied(state)
    back = undo(state, after).applied(after)
    assert (back.title, set(back.tags)) == (state.title, set(state.tags))


@given(EDITS, STATES, TAGS, TITLES)
def test_undo_leaves_what_others_did_since(edit, state, others, title) -> None:
    after = edit.applied(state)
    changed = {tag for tag in state.tags + after.tags if (tag in state.tags) != (tag in after.tags)}
    since = Metadata(title, others)
    back = undo(state, after)
    found = back.applied(since)
    assert set(found.tags) - changed == set(others) - changed
    assert {tag for tag in changed if tag in found.tags} == changed & set(state.tags)
    if state.title == after.title or title != after.title:
        assert found.title == title
        assert back.is_refused_by(since) == (
            state.title != after.title and title not in (state.title, after.title)
        )


WORDS = st.text(st.sampled_from("ab9 .-_/:ü"), min_size=1, max_size=8).filter(
    lambda text: text == text.strip()
)


@given(st.lists(WORDS, unique=True, max_size=6))
def test_tags_written_as_they_are_shown_are_the_same(tags: list[str]) -> None:
    assert parse_tags(",".join(tags)) == tuple(tags)
    assert parse_tags(" , ".join(tags) + ",,") == tuple(tags)


@given(st.text(st.sampled_from("ab,# "), min_size=1, max_size=6), st.booleans())
def test_tags_older_than_the_rules_survive_being_written_back(odd: str, more: bool) -> None:
    tags = ["zz", odd, "yy"] if more else [odd]
    assert parse_tags(",".join(tags), tags) == tuple(dict.fromkeys(tags))
    assert parse_tags(",".join([*tags, "new"]), tags) == (*tags, "new")


@pytest.mark.parametrize(
    "tag",
    ["", " a", "a ", "a,b", "a#b", "a\tb", "a\nb", "a\0", "a\\b", "ä" * 101, "\ud800", "a;b", "☂"],
)
def test_tags_that_will_not_do(tag: str) -> None:
    with pytest.raises(InvalidArgument):
        check_tag(tag)


def test_limits_of_tags() -> None:
    assert check_tag("x" * MAX_TAG_BYTES)
    many = ",".join(f"t{number}" for number in range(MAX_TAGS))
    assert len(parse_tags(many)) == MAX_TAGS
    with pytest.raises(InvalidArgument, match=str(MAX_TAGS)):
        parse_tags(many + ",one more")
    assert parse_tags("e\u0301te\u0301") == ("\u00e9t\u00e9",)
    assert parse_tags("") == parse_tags(" , ") == ()


@pytest.mark.parametrize("title", ["   ", "two\nlines", "nul\0", "\x7f", "ü" * 501, "\u2028"])
def test_titles_that_will_not_do(title: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_title(title)


def test_titles_that_will() -> None:
    assert parse_title("") is None
    for title in ("a", "Guarulhos/Onboarding, 3 °C “so”", "x" * MAX_TITLE_BYTES, " blank before"):
        assert parse_title(title) == title

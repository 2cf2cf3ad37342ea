"""Names: safe, unique within a directory, stable under insertion (design §2)."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from up42fs.model.names import (
    MAX_NAME_BYTES,
    NameWish,
    asset_name,
    assign,
    extension_for,
    is_name_of,
    mime_type,
    safe_name,
    split_extension,
    with_suffix,
)

texts = st.text(st.characters(codec=None, exclude_categories=()), max_size=300)
wishes = st.sampled_from(["a.zip", "b.zip", "a", "a [0123abcd].zip", "x" * 200, "é.tif"])
ids = st.uuids().map(str)
entries = st.lists(
    st.builds(
        lambda id_, age, wish: NameWish(id_, (age, id_), wish), ids, st.integers(0, 5), wishes
    ),
    unique_by=lambda entry: entry.id,
    max_size=30,
)


@given(texts)
@pytest.mark.claim("S29")
def test_a_safe_name_is_one_printable_path_component(raw: str) -> None:
    name = safe_name(raw)
    if name is None:
        return
    assert "/" not in name
    assert "\0" not in name
    assert name not in (".", "..")
    assert name == name.strip()
    assert 0 < len(name.encode()) <= MAX_NAME_BYTES
    assert unicodedata.is_normalized("NFC", name)
    assert not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in name)


@given(texts)
def test_making_safe_twice_changes_nothing(raw: str) -> None:
    name = safe_name(raw)
    assert safe_name(name) == name


@given(texts)
def test_stem_and_extension_make_the_name_again(name: str) -> None:
    stem, extension = split_extension(name)
    assert stem + extension == name


@given(entries)
def test_names_of_a_directory_are_unique_and_safe(given_entries: list[NameWish]) -> None:
    names = assign(given_entries)
    assert set(names) == {entry.id for entry in given_entries}
    assert len(set(names.values())) == len(names)
    assert all(safe_name(name) == name for name in names.values())


@given(entries, st.randoms())
@pytest.mark.claim("S32")
def test_names_do_not_depend_on_listing_order(given_entries, random) -> None:
    shuffled = list(given_entries)
    random.shuffle(shuffled)
    assert assign(shuffled) == assign(given_entries)


@given(entries, entries)
@pytest.mark.claim("S32")
def test_newer_entries_rename_nothing(older: list[NameWish], newer: list[NameWish]) -> None:
    before = assign(older)
    known = set(before)
    later = [
        NameWish(entry.id, (entry.age[0] + 100, entry.id), entry.wish)
        for entry in newer
        if entry.id not in known
    ]
    after = assign([*older, *later])
    assert {id_: after[id_] for id_ in before} == before


@given(entries, st.frozensets(wishes))
def test_taken_names_are_left_alone(given_entries, taken) -> None:
    assert not taken & set(assign(given_entries, taken).values())


@pytest.mark.claim("S31")
def test_the_oldest_keeps_the_plain_name_and_others_show_their_id() -> None:
    old = NameWish("aaaaaaaa-1111", (1, "a"), "scene.zip")
    new = NameWish("bbbbbbbb-2222", (2, "b"), "scene.zip")
    assert assign([new, old]) == {
        "aaaaaaaa-1111": "scene.zip",
        "bbbbbbbb-2222": "scene [bbbbbbbb].zip",
    }


def test_equal_id_prefixes_get_more_digits() -> None:
    clash = [NameWish(f"bbbbbbbb-{n}", (n, ""), "s.zip") for n in range(1, 4)]
    assert list(assign(clash).values()) == ["s.zip", "s [bbbbbbbb].zip", "s [bbbbbbbb-3].zip"]


@pytest.mark.parametrize(
    ("raw", "safe"),
    [
        ("Guarulhos/Onboarding", "Guarulhos_Onboarding"),
        ("  padded.zip ", "padded.zip"),
        ("two\nlines.tif", "two_lines.tif"),
        ("e\u0301te\u0301.zip", "été.zip"),
        ("..", None),
        (".", None),
        ("   ", None),
        ("", None),
        (None, None),
        (".zip", ".zip"),
        ("\ud800.zip", "_.zip"),
        ("a\u200bb\ufeff.zip", "a_b_.zip"),
        ("a\U000e0062.zip", "a_.zip"),
        ("क\u200cष.zip", "क\u200cष.zip"),
        ("x" * 300 + ".tar.gz", "x" * 193 + ".tar.gz"),
        ("ü" * 150 + ".zip", "ü" * 98 + ".zip"),
    ],
)
def test_known_cases(raw: str | None, safe: str | None) -> None:
    assert safe_name(raw) == safe


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("a.tif", ("a", ".tif")),
        ("a.tar.gz", ("a", ".tar.gz")),
        (".hidden", (".hidden", "")),
        ("v1.2 final version", ("v1.2 final version", "")),
        ("a.", ("a.", "")),
        ("scene.averyveryverylongone", ("scene.averyveryverylongone", "")),
    ],
)
def test_extensions(name: str, parts: tuple[str, str]) -> None:
    assert split_extension(name) == parts


@pytest.mark.claim("S30")
def test_asset_names_fall_back_to_title_then_id() -> None:
    assert asset_name("d.zip", "Title", "application/gzip", "id") == "d.zip"
    assert asset_name(None, "A/B", "application/zip", "id") == "A_B.zip"
    assert asset_name(None, "done.ZIP", "application/zip", "id") == "done.ZIP"
    assert asset_name("..", None, "application/zip", "3f-7") == "3f-7"


def test_types_and_extensions() -> None:
    assert extension_for("image/tiff; application=geotiff; profile=cloud-optimized") == ".tif"
    assert extension_for(None) == ""
    assert mime_type("a.zip", "application/gzip") == "application/zip"
    assert mime_type("a.TIFF", None) == "image/tiff"
    assert mime_type("noext", "image/png") == "image/png"
    assert mime_type("noext", None) is None


def test_a_suffix_goes_before_the_extension_and_fits() -> None:
    assert with_suffix("a.tif", " (files)") == "a (files).tif"
    assert len(with_suffix("x" * 200, " [12345678]").encode()) == MAX_NAME_BYTES


@given(entries)
def test_names_that_entries_get_are_theirs(found: list[NameWish]) -> None:
    given_names = assign(found)
    for entry in found:
        name = given_names[entry.id]
        assert is_name_of(name, entry.wish, entry.id)
        assert is_name_of(entry.id.upper(), entry.wish, entry.id)
        assert not is_name_of("other.zip", entry.wish, entry.id)
        for other in found:
            if other.id[:8] != entry.id[:8] and "[" in name and "[" not in entry.wish:
                assert not is_name_of(name, other.wish, other.id) or name == other.wish

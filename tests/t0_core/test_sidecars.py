"""Names of sidecars: which are some, of which image, and back again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from up42fs.fs.sidecars.names import (
    APPENDED,
    EXTENSIONS,
    LONGEST_NAME_BYTES,
    REPLACING,
    Tag,
    kept_name,
    parse_kept_name,
    readings,
)

ID = "a8239879-e7bd-5626-8cce-af20f1440360"
passing = st.from_regex(r"\.([A-Za-z0-9]{6}|tmp|part)", fullmatch=True)
tags = st.sampled_from(APPENDED + REPLACING).map(Tag) | st.builds(
    Tag, st.sampled_from(APPENDED + REPLACING), passing, st.booleans()
)
stems = st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=60)
images = st.builds("{}{}".format, stems, st.sampled_from(EXTENSIONS))


@given(images, tags)
@pytest.mark.claim("S91")
def test_a_sidecar_is_found_by_the_name_it_is_shown_under(image: str, tag: Tag) -> None:
    name = tag.shown(image)
    assert name is not None
    assert any(image in r.images and r.tag == tag for r in readings(name))


@given(images, images, tags)
def test_two_images_share_a_name_only_where_their_stem_is_one(a: str, b: str, tag: Tag) -> None:
    if a != b and tag.shown(a) == tag.shown(b):
        assert not tag.is_appended


@given(tags, st.from_regex(r"[A-Za-z0-9_!-]{1,96}", fullmatch=True))
def test_the_name_of_the_kept_file_tells_both(tag: Tag, owner: str) -> None:
    name = kept_name(owner, tag)
    assert name is not None
    assert not name.startswith(".")
    assert "/" not in name
    assert parse_kept_name(name) == (owner, tag)


@given(st.text(max_size=80))
def test_what_is_no_kept_file_is_not_taken_for_one(name: str) -> None:
    found = parse_kept_name(name)
    assert found is None or kept_name(*found) == name


@given(st.text(max_size=80) | images)
def test_every_reading_gives_the_name_again(name: str) -> None:
    for reading in readings(name):
        for image in reading.images:
            # A double extension is one: `x.qml` is no sidecar of `x.tar.gz` read as `x.tar`.
            assert reading.tag.shown(image) == name or image.lower().endswith(".gz")


@pytest.mark.parametrize(
    "name",
    [
        "scene.tif", "notes.txt", "scene.tif.xyz", ".aux.xml", "aux.xml", ".qml", "scene.tfw",
        "scene.vrt", ".scene.tif.swp", "scene.tif~", ".hidden.tif.aux.xml.longer1", "a.part", "",
        ".scene.tif.aux.xml.",
    ],
)  # fmt: skip
def test_other_names_are_no_sidecars(name: str) -> None:
    assert not list(readings(name))


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("scene.tif.aux.xml", "scene.tif"),
        ("scene.tif.msk.ovr", "scene.tif"),
        ("SCENE.TIF.ovr", "SCENE.TIF"),
        ("IMG_R1C1.qml", "IMG_R1C1.JP2"),
        ("delivery.qmd", "delivery.tar.gz"),
        (".scene.tif.aux.xml.Ab12Cd", "scene.tif"),
        ("scene.qml.WxYz12", "scene.tif"),
        ("scene.tif.ovr.part", "scene.tif"),
    ],
)
def test_names_that_programs_give(name: str, image: str) -> None:
    assert any(image in reading.images for reading in readings(name))


def test_ids_that_are_no_file_names_keep_nothing() -> None:
    for owner in ("", "a/b", "..", "a.b", "ü", "x" * 97, "a+b"):
        assert kept_name(owner, Tag(".ovr")) is None


def test_a_name_too_long_for_linux_is_not_shown() -> None:
    assert Tag(".aux.xml").shown("x" * (LONGEST_NAME_BYTES - 12) + ".tif") is not None
    assert Tag(".aux.xml").shown("x" * (LONGEST_NAME_BYTES - 11) + ".tif") is None


def test_nothing_is_put_for_an_extension_that_nobody_knows() -> None:
    assert Tag(".qml").shown("scene.bin") is None
    assert Tag(".qml").shown(".tif") is None
    assert Tag(".aux.xml").shown("scene.bin") == "scene.bin.aux.xml"

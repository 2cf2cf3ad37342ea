"""The static STAC tree: valid whatever UP42 says, and every href opens (issue 3, items 4 and 5)."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pystac
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pystac.validation.stac_validator import JsonSchemaSTACValidator

from up42fs.api.schema import parse_collection, parse_item
from up42fs.model.names import safe_name
from up42fs.model.stac import StacAsset, StacCollection, StacItem
from up42fs.model.stac_documents import (
    catalog_document,
    collection_document,
    collection_names,
    file_names,
    item_document,
    item_document_name,
    item_names,
)

RESPONSES = Path(
    os.environ.get("UP42FS_TEST_RESPONSES")
    or Path(__file__).parents[2].parent / "shared" / "api" / "responses"
)
API = "https://api.up42.com"
ASSET = f"{API}/v2/assets/5ed3f2a5-5a42-4c4d-8b6f-6a4b0a4e7a10"
ODD_KEYS = [
    "b02.tiff",
    "metadata.xml",
    "100% cloud#1?.tif",
    "a;b.tif",
    "a\\b.tif",
    "a/b.tif",
    "a%20b.tif",
    "Größe 東京 [x]:y.tif",
    "data",
    "item.json",
    "~tilde 'quote\" <x>|&+,!^`{}$*.tif",
]
VALIDATOR = JsonSchemaSTACValidator()
SQUARE = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]]}


def validate(document: dict[str, Any]) -> None:
    """By the core schemas that pystac bundles (1.1.0, which refuse more than 1.0.0)."""
    kinds = {
        "Catalog": pystac.STACObjectType.CATALOG,
        "Collection": pystac.STACObjectType.COLLECTION,
        "Feature": pystac.STACObjectType.ITEM,
    }
    # Extension schemas need the network; the core ones are all of this module's promise.
    core = json.loads(json.dumps(document, allow_nan=False)) | {"stac_version": "1.1.0"}
    VALIDATOR.validate_core(core, kinds[document["type"]], "1.1.0")


def make_item(number: int, keys: Sequence[str] = ("b02.tiff",), **fields: Any) -> StacItem:
    document = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": f"item-{number}",
        "collection": f"collection-{number}",
        "geometry": SQUARE,
        "bbox": [0, 0, 1, 1],
        "properties": {
            "datetime": "2024-05-01T10:00:00.5+00:00",
            "title": f"scene {number}",
            "proj:epsg": None,
            "up42-system:asset_id": "a",
        },
        "links": [{"rel": "self", "href": f"{API}/self"}, {"rel": "root", "href": API}],
        "assets": {
            key: {"href": ASSET, "type": "image/tiff", "title": key, "description": None}
            for key in keys
        },
    }
    item = parse_item(document | fields, API)
    assert item is not None
    return item


def make_collection(number: int, **fields: Any) -> StacCollection:
    document = {"id": f"collection-{number}", "title": f"delivery {number}", "links": []}
    collection = parse_collection(document | fields, API)
    assert collection is not None
    return collection


Tree = Sequence[tuple[StacCollection, Sequence[StacItem]]]


def write_tree(root: Path, tree: Tree, names: dict[str, str] | None = None) -> set[Path]:
    """The mount's `stac/`, with a small file for each asset; `names` overrides directory names."""
    files = set()
    directories = collection_names([each for each, _ in tree]) | (names or {})
    rows = [(directories[each.id], each) for each, _ in tree]
    save(root / "catalog.json", catalog_document(rows))
    for collection, items in tree:
        place = root / directories[collection.id]
        inside = item_names(items) | (names or {})
        rows_ = [(inside[item.id], item) for item in items]
        save(place / "collection.json", collection_document(collection, rows_))
        for directory, item in rows_:
            document = item_document_name(directory)
            known = file_names(item, {document})
            save(
                place / directory / document,
                item_document(item, files=known, self_contained=False),
            )
            for name in known.values():
                assert not (place / directory / name).exists(), "one name for two files"
                (place / directory / name).write_text(name)
                files.add(place / directory / name)
    return files


def save(path: Path, document: dict[str, Any]) -> None:
    validate(document)
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(json.dumps(document, ensure_ascii=False, allow_nan=False), encoding="utf-8")


def walk(root: Path) -> tuple[list[str], set[Path]]:
    """Item IDs and asset paths as pystac finds them from catalog.json; validates on the way."""
    catalog = pystac.Catalog.from_file(str(root / "catalog.json"))
    ids, found = [], set()
    for _, _, items in catalog.walk():
        for item in items:
            ids.append(item.id)
            validate(item.to_dict())
            assert item.get_root() is catalog
            if item.collection_id is not None:
                assert item.get_collection() is item.get_parent()
            for asset in item.assets.values():
                href = asset.get_absolute_href()
                assert href is not None
                assert Path(href).is_file()
                found.add(Path(href))
    for collection in catalog.get_children():
        validate(collection.to_dict())
    return ids, found


# -- trees


def test_pystac_finds_every_item_and_opens_every_href(tmp_path: Path) -> None:
    tree = [
        (make_collection(1, title="a # 100%? b"), [make_item(1, ODD_KEYS), make_item(2)]),
        (make_collection(2, title="a # 100%? b"), [make_item(3, title="x")]),
        (make_collection(3, title="catalog.json"), []),
    ]
    files = write_tree(tmp_path, tree)
    ids, found = walk(tmp_path)
    assert sorted(ids) == ["item-1", "item-2", "item-3"]
    assert found == files
    assert len(files) == len(ODD_KEYS) + 2


@pytest.mark.parametrize("odd", ["a b", "ü 東京", "100%", "a%20b", "[x]:y", "~'\"<>|&+,!^`{}$*"])
def test_directory_names_that_are_given_open_as_they_are(tmp_path: Path, odd: str) -> None:
    tree = [(make_collection(1), [make_item(1)])]
    files = write_tree(tmp_path, tree, {"collection-1": odd, "item-1": odd})
    assert walk(tmp_path) == (["item-1"], files)


@pytest.mark.parametrize("odd", ["a#b", "a?b", "a;b", "a\\b"])
def test_names_that_no_spelling_opens_in_pystac_are_at_least_right_as_urls(odd: str) -> None:
    href = catalog_document([(odd, make_collection(1))])["links"][1]["href"]
    assert not set("#?;\\") & set(href)
    assert href == f"./a%{ord(odd[1]):02X}b/collection.json"


texts = st.text(st.characters(codec="utf-8"), max_size=40)


@settings(max_examples=30)
@given(st.lists(texts, min_size=1, max_size=3), st.lists(texts, max_size=6, unique=True))
def test_any_title_and_key_become_a_tree_that_opens(
    tmp_path_factory: pytest.TempPathFactory, titles: list[str], keys: list[str]
) -> None:
    root = tmp_path_factory.mktemp("tree")
    items = [
        make_item(number, keys, properties={"title": title, "datetime": "2024-05-01T00:00:00Z"})
        for number, title in enumerate(titles)
    ]
    tree = [
        (make_collection(number, title=title), items if number == 0 else [])
        for number, title in enumerate(titles)
    ]
    files = write_tree(root, tree)
    ids, found = walk(root)
    assert sorted(ids) == sorted(item.id for item in items)
    assert found == files


def test_an_item_alone_opens_and_has_no_links(tmp_path: Path) -> None:
    item = make_item(1, ODD_KEYS)
    known = file_names(item)
    document = item_document(item, files=known, self_contained=True)
    save(tmp_path / "item.json", document)
    for name in known.values():
        (tmp_path / name).write_text(name)
    read = pystac.Item.from_file(str(tmp_path / "item.json"))
    hrefs = [asset.get_absolute_href() for asset in read.assets.values()]
    assert len(hrefs) == len(ODD_KEYS)
    assert all(href and Path(href).is_file() for href in hrefs)
    assert document["links"] == []
    assert "collection" not in document


def test_rasterio_reads_pixels_through_the_href(tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    numpy = pytest.importorskip("numpy")
    item = make_item(1, ["100% Größe #1?.tif"])
    names = file_names(item)
    save(tmp_path / "item.json", item_document(item, files=names, self_contained=True))
    path = tmp_path / names["100% Größe #1?.tif"]
    profile = {"driver": "GTiff", "width": 1, "height": 1, "count": 1, "dtype": "uint8"}
    transform = rasterio.Affine(1, 0, 0, 0, -1, 1)
    with rasterio.open(path, "w", crs="EPSG:4326", transform=transform, **profile) as image:
        image.write(numpy.full((1, 1, 1), 7, "uint8"))
    asset = pystac.Item.from_file(str(tmp_path / "item.json")).assets["100% Größe #1?.tif"]
    with rasterio.open(asset.get_absolute_href()) as image:
        assert image.read(1)[0, 0] == 7


# -- what is kept, left out and filled


def test_extension_fields_stay_as_sent_and_refused_assets_are_left_out() -> None:
    item = make_item(1, ["a.tif", "b.tif"], stac_extensions=["https://x/schema.json"])
    before = json.dumps(dict(item.document))
    document = item_document(item, files={"a.tif": "a.tif"}, self_contained=False)
    assert document["stac_extensions"] == ["https://x/schema.json"]
    assert document["properties"]["proj:epsg"] is None
    assert document["properties"]["datetime"] == "2024-05-01T10:00:00.5+00:00"
    assert document["assets"] == {
        "a.tif": {"href": "./a.tif", "type": "image/tiff", "title": "a.tif"}
    }
    assert {link["rel"] for link in document["links"]} == {"root", "parent", "collection"}
    assert API not in json.dumps(document)
    document["properties"]["proj:epsg"] = 1
    assert json.dumps(dict(item.document)) == before, "the catalogue's own copy was changed"


def test_links_about_the_data_are_kept_and_those_of_the_api_are_not() -> None:
    licence = {"rel": "license", "href": "https://example.com/eula.pdf", "title": "EULA"}
    links = [licence, {"rel": "next", "href": API}, {"rel": {}, "href": 1}, 7]
    item = make_item(1, links=[*links, {"rel": "license", "href": "relative"}])
    assert item_document(item, files={}, self_contained=True)["links"] == [licence]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"datetime": "2024-05-01T10:00:00+02:00"}, {"datetime": "2024-05-01T08:00:00Z"}),
        ({"datetime": "2024-05-01T10:00:00"}, {"datetime": "2024-05-01T10:00:00Z"}),
        (
            {"datetime": None, "start_datetime": "2024-05-01T00:00:00Z"},
            {"datetime": "2024-05-01T00:00:00Z"},
        ),
        (
            {"start_datetime": "2024-05-01T00:00:00Z", "end_datetime": "2024-05-02T00:00:00Z"},
            {
                "datetime": None,
                "start_datetime": "2024-05-01T00:00:00Z",
                "end_datetime": "2024-05-02T00:00:00Z",
            },
        ),
        (
            {"datetime": "yesterday", "created": "2024-05-03T00:00:00Z"},
            {
                "datetime": None,
                "start_datetime": "1970-01-01T00:00:00Z",
                "end_datetime": "2024-05-03T00:00:00Z",
                "created": "2024-05-03T00:00:00Z",
            },
        ),
        (
            {},
            {
                "datetime": None,
                "start_datetime": "1970-01-01T00:00:00Z",
                "end_datetime": "9999-12-31T23:59:59Z",
            },
        ),
    ],
)
def test_an_item_has_a_moment_or_a_range(said: dict[str, Any], expected: dict[str, Any]) -> None:
    document = item_document(make_item(1, properties=said), files={}, self_contained=True)
    assert document["properties"] == expected
    validate(document)
    pystac.Item.from_dict(document)


@pytest.mark.parametrize(
    ("geometry", "bbox", "expected"),
    [
        (SQUARE, None, (SQUARE, [0, 0, 1, 1])),
        (None, None, (None, None)),
        (
            None,
            [0, 0, 1, 1],
            ({"type": "Polygon", "coordinates": SQUARE["coordinates"]}, [0, 0, 1, 1]),
        ),
        ({"type": "Polygon", "coordinates": []}, "none", (None, None)),
    ],
)
def test_geometry_and_box_come_together_or_not_at_all(
    geometry: Any, bbox: Any, expected: tuple[Any, Any]
) -> None:
    item = make_item(1, geometry=geometry, bbox=bbox)
    document = item_document(item, files={}, self_contained=True)
    assert (document["geometry"], document.get("bbox")) == expected
    validate(document)


def test_a_bare_collection_gets_its_extent_from_its_items() -> None:
    items = [make_item(1), make_item(2, bbox=[5, 5, 6, 6])]
    document = collection_document(make_collection(1), [(item.id, item) for item in items])
    validate(document)
    assert document["extent"]["spatial"]["bbox"] == [[0, 0, 6, 6]]
    assert document["extent"]["temporal"]["interval"] == [["2024-05-01T10:00:00.500000Z"] * 2]
    assert document["license"] == "proprietary"
    assert document["description"] == "delivery 1"
    assert document["assets"] == {}


def test_the_original_delivery_points_where_the_caller_says() -> None:
    assets = {"scene.zip": {"href": ASSET, "roles": ["data", "original"], "description": None}}
    collection = make_collection(1, assets=assets)
    document = collection_document(
        collection, [], files={"scene.zip": "../../assets/scene 100%.zip"}
    )
    validate(document)
    assert document["assets"]["scene.zip"] == {
        "href": "../../assets/scene 100%.zip",
        "roles": ["data", "original"],
    }


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
core_keys = st.sampled_from(
    ["title", "description", "keywords", "providers", "license", "gsd", "platform", "roles",
     "instruments", "constellation", "mission", "datetime", "start_datetime", "end_datetime",
     "created", "updated", "type", "href", "links", "assets", "extent", "summaries", "bbox",
     "geometry", "stac_version", "stac_extensions", "collection", "properties", "up42-x:y"]
)  # fmt: skip
moments = st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat)
junk = st.dictionaries(core_keys, json_values | moments, max_size=8)


@given(junk, junk, junk, st.booleans())
def test_whatever_up42_says_the_item_is_valid(
    top: dict[str, Any], properties: dict[str, Any], asset: dict[str, Any], alone: bool
) -> None:
    document = {"properties": properties, "assets": {"a": asset}} | top | {"id": "x"}
    item = parse_item(document, API)
    assert item is not None
    made = item_document(item, files=file_names(item), self_contained=alone)
    validate(made)


@given(junk, junk)
def test_whatever_up42_says_the_collection_is_valid(
    top: dict[str, Any], asset: dict[str, Any]
) -> None:
    # Summaries may hold any JSON Schema, which only its own schema can judge; none is invented.
    document = {"assets": {"a": asset}} | {**top, "summaries": {}} | {"id": "x"}
    collection = parse_collection(document, API)
    assert collection is not None
    validate(collection_document(collection, [], files={"a": "a.zip"}))


# -- names


def stac_asset(key: str, media_type: str | None = None) -> StacAsset:
    return StacAsset(key, "id", media_type=media_type)


def named(*assets: StacAsset, taken: Sequence[str] = ()) -> list[str]:
    return list(file_names(StacItem("i", None, None, assets), taken).values())


def test_file_names_are_the_keys_with_an_extension() -> None:
    assert named(stac_asset("b02.tiff"), stac_asset("x.JP2", "image/tiff")) == ["b02.tiff", "x.JP2"]
    assert named(stac_asset("data", "application/zip")) == ["data.zip"]
    cog = "image/tiff; application=geotiff; profile=cloud-optimized"
    assert named(stac_asset("pan v1.0", cog)) == ["pan v1.0.tif"]
    assert named(stac_asset("what", "no/such")) == ["what"]
    assert named(stac_asset("x" * 300, cog)) == ["x" * 196 + ".tif"]


def test_clashing_file_names_keep_the_first_plain() -> None:
    first, second, third = named(
        stac_asset("a/b.tif"), stac_asset("a_b.tif"), stac_asset("item.json")
    )
    assert first == "a_b.tif"
    assert second.startswith("a_b [")
    assert second.endswith("].tif")
    assert third.startswith("item [")
    assert named(stac_asset("x.json"), taken=["x.json"]) != ["x.json"]


@given(st.lists(st.text(max_size=30) | st.sampled_from(ODD_KEYS), unique=True), texts)
def test_file_names_are_safe_unique_and_stable(keys: list[str], later: str) -> None:
    item = StacItem("i", None, None, tuple(stac_asset(key) for key in keys))
    names = file_names(item)
    assert names.keys() == set(keys)
    assert len(set(names.values())) == len(keys)
    for name in names.values():
        assert safe_name(name) == name
        assert not set("#?;%\\/") & set(name)
        assert name != "item.json"
    if later not in names:
        more = StacItem("i", None, None, (*item.assets, stac_asset(later)))
        assert file_names(more).items() >= names.items()


def test_items_of_one_title_are_told_apart_by_age_then_id() -> None:
    def item(id_: str, year: int | None) -> StacItem:
        created = datetime(year, 1, 1, tzinfo=UTC) if year else None
        return StacItem(id_, None, None, title="scene", created=created)

    old, new = item("ffffffff-1", 2020), item("00000000-1", 2021)
    assert item_names([new, old]) == {"ffffffff-1": "scene", "00000000-1": "scene [00000000]"}
    assert item_names([old]) == {"ffffffff-1": "scene"}
    assert item_names([item("collection.json", None)])["collection.json"] == "scene"
    assert item_names([StacItem("id-1", None, None)]) == {"id-1": "id-1"}


def test_collections_are_named_in_the_order_given() -> None:
    rows = [StacCollection(f"{n:08x}-0000", None, title="same #1") for n in (2, 1)]
    assert collection_names(rows) == {
        "00000002-0000": "same _1",
        "00000001-0000": "same _1 [00000001]",
    }
    assert collection_names([StacCollection("x", None, title="catalog.json")])["x"] != (
        "catalog.json"
    )


# -- what UP42 really sent


def recorded() -> list[Any]:
    if not RESPONSES.is_dir():
        return []
    return [json.loads(path.read_text()) for path in sorted(RESPONSES.glob("*stac*.json"))]


@pytest.mark.skipif(
    not RESPONSES.is_dir(), reason=f"no responses at {RESPONSES} (UP42FS_TEST_RESPONSES)"
)
def test_recorded_collections_and_items_become_a_tree_that_opens(tmp_path: Path) -> None:
    items: dict[str, StacItem] = {}
    collections: dict[str, StacCollection] = {}
    for answer in recorded():
        for row in answer.get("features", [answer] if answer.get("type") == "Feature" else []):
            item = parse_item(row, API)
            assert item is not None
            items[item.id] = item
        for row in answer.get("collections", []):
            collection = parse_collection(row, API)
            assert collection is not None
            collections[collection.id] = collection
    for item in items.values():
        assert item.collection_id is not None
        bare = StacCollection(item.collection_id, item.asset_id)
        collections.setdefault(item.collection_id, bare)
    tree = [
        (each, [item for item in items.values() if item.collection_id == each.id])
        for each in collections.values()
    ]
    files = write_tree(tmp_path, tree)
    ids, found = walk(tmp_path)
    assert len(ids) >= 20
    assert sorted(ids) == sorted(items)
    assert found == files

"""The sample storage, for the demo and for tests of names, states and oddities.

Eight orders in all interesting states, assets of every kind, tags, the four transformation states,
and names as difficult as the service allows. IDs and dates are the same in every run. The files
come from `sample_files`; this module names them and assigns them to orders and assets.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from up42fs.emulator.clock import US, parse_us
from up42fs.emulator.content import (
    EMPTY_ZIP,
    BytesContent,
    FileContent,
    ObjectContent,
    PatternContent,
)
from up42fs.emulator.geometry import polygon
from up42fs.emulator.sample_files import default_sample_dir, ensure_files, zip_of_size
from up42fs.emulator.storage import (
    Collection,
    EmulatedAccount,
    EmulatedAsset,
    EmulatedOrder,
    Item,
    StacFile,
    Storage,
    stable_id,
)

__all__ = ["default_sample_dir", "sample_storage"]

COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_DAY_US = 86_400 * US

#: key, name, status, type, created, tags, assets are delivered one day later each
_ORDERS: tuple[tuple[str, str | None, str, str, str, list[str] | None], ...] = (
    ("pneo", "Berlin Tempelhof, Pléiades Neo", "FULFILLED", "ARCHIVE",
     "2024-04-18T15:56:17.268879Z", ["berlin/2024 spring"]),
    ("s2", "Sentinel-2 Brandenburg", "FULFILLED", "ARCHIVE", "2023-04-26T17:31:02.100200Z", []),
    ("vine", "Spain/La Rioja/vineyards 2024", "FULFILLED", "ARCHIVE",
     "2024-07-02T08:00:00.000001Z", None),
    ("harbour-new", "Harbour monitoring", "BEING_FULFILLED", "TASKING",
     "2026-02-03T09:12:44.918273Z", ["harbour"]),
    ("harbour-old", "Harbour monitoring", "FULFILLED", "TASKING",
     "2025-02-03T09:12:44.918273Z", ["harbour"]),
    ("names", "Naming oddities", "FULFILLED", "ARCHIVE", "2023-11-05T23:59:59.999999Z", []),
    ("placed", "Wildfire response, tasking", "PLACED", "TASKING",
     "2026-05-11T06:30:00.250000Z", []),
    ("failed", None, "FAILED_PERMANENTLY", "ARCHIVE", "2025-08-19T12:00:00.000000Z", None),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Row:
    """One sample asset: `key` determines its ID; `file` is a sample file or None for `content`."""

    key: str
    name: str | None
    file: str | None
    created: str
    order: str | None = None
    status: str = "NOT_PROCESSED"
    tags: list[str] | None = None
    title: str | None = None
    content_type: str = "application/zip"
    content: ObjectContent | None = None
    digits: int = 6
    producer: str | None = "airbus"
    collection: str | None = "pneo"
    source: str | None = "ARCHIVE"
    absent: frozenset[str] = frozenset()
    object_path: str | None = None
    job: str | None = None


_BERLIN, _VEGETATION = "berlin/2024 spring", "vegetation"
_MAIN = (
    _Row("pneo", "oneatlas_a9147c99-3bf3-463e-a5e6-564912b15cf1.zip", "stored.zip",
         "2024-04-18T16:03:22.958921Z", "pneo", "SUCCESSFUL", [_BERLIN, _VEGETATION],
         "Tempelhof in April"),
    _Row("s2", "earthsearch-aws_e1693a6c-1bfa-4b0a-acd9-752d73dd6e0e.zip", "deflated.zip",
         "2023-04-26T19:58:48.287Z", "s2", "SUCCESSFUL", [], None, digits=3, producer="esa",
         collection="sentinel-2"),
    _Row("spot", "DS_SPOT7_202404181005124_FR1_SV1_E013N52.zip", "deflated.zip",
         "2024-07-02T09:15:00.000001Z", "vine", "FAILED", [_VEGETATION], "La Rioja/parcel 12",
         collection="spot"),
    _Row("stereo", "PHR1A_stereo_202602031015.zip", "stored.zip",
         "2026-02-04T11:00:01.5Z", "harbour-new", "SUCCESSFUL", ["harbour", "Überwachung"],
         "Harbour, stereo pair", digits=3, collection="phr", source="TASKING"),
    _Row("arriving", "PHR1B_mono_202602051022.zip", "deflated.zip",
         "2026-02-05T11:41:13.004005Z", "harbour-new", "IN_PROGRESS", ["harbour"], None,
         collection="phr", source="TASKING"),
    _Row("harbour-1", "delivery.zip", "stored.zip", "2025-02-04T11:00:00.100Z", "harbour-old",
         "NOT_PROCESSED", ["harbour"], "First pass", digits=3, source="TASKING"),
    _Row("harbour-2", "delivery.zip", "deflated.zip", "2025-02-05T11:00:00.200Z", "harbour-old",
         "NOT_PROCESSED", ["harbour"], "Second pass", digits=3, source="TASKING"),
    _Row("pansharpened", "tempelhof_pansharpened_50cm.tif", "pms.tiff",
         "2024-04-19T08:00:00.123456Z", "pneo", "NOT_PROCESSED", [_BERLIN], "Pansharpened",
         content_type="image/tiff", source="PROCESSING", job="pansharpening"),
    _Row("visual", "tempelhof_visual.tif", "visual.tiff", "2024-04-19T08:05:00.123Z", "pneo",
         "NOT_PROCESSED", [_BERLIN], None, digits=3, content_type="image/tiff",
         source="PROCESSING", job="pansharpening"),
)  # fmt: skip
_WITHOUT_ORDER = (
    _Row("dem", "elevation_berlin.tif", "dem.tiff", "2025-05-20T10:00:00.123456Z",
         status="SUCCESSFUL", tags=[_BERLIN], title="Elevation model",
         content_type="image/tiff", producer=None, collection=None, source="USER"),
    _Row("index", "ndvi_2025.tif", "b08.tiff", "2025-06-21T10:00:00.5Z", digits=3,
         tags=[_VEGETATION], title=None, content_type="image/tiff", source="PROCESSING", job="ndvi",
         absent=frozenset({"producerName", "collectionName", "productId", "orderId"})),
    _Row("job", "DS_SPOT6_202206240959075_FR1_FR1_SV1_SV1_E013N52_01709.tgz", "job.tgz",
         "2023-01-10T08:30:00.042Z", digits=3, content_type="application/gzip", source=None,
         object_path="workspace/{workspace}/block-output/{id}/data.tgz"),
    _Row("quicklook", "quicklook.png", "quicklook.png", "2023-02-11T08:30:00.042Z", digits=3,
         content_type="image/png", source="USER"),
    _Row("note", "delivery_note.xml", "metadata.xml", "2023-03-12T08:30:00.042000Z",
         content_type="application/xml", source="USER"),
    _Row("report", "report.json", "tileinfo.json", "2023-06-15T08:30:00.042000Z",
         content_type="application/json", source="USER",
         absent=frozenset({"geospatialMetadataExtractionStatus", "title", "tags"})),
)  # fmt: skip


def _hard_rows() -> tuple[_Row, ...]:
    """Return small assets whose names a file system must make safe (contract, fact 8)."""
    hard: tuple[tuple[str, str | None, str | None, frozenset[str]], ...] = (
        ("twin-1", "ORT_SPOT7_20210531.zip", "Twin one", frozenset()),
        ("twin-2", "ORT_SPOT7_20210531.zip", "Twin two", frozenset()),
        ("twin-3", "ORT_SPOT7_20210531.zip", None, frozenset()),
        ("slash", "Guarulhos/Onboarding/scene.zip", None, frozenset()),
        ("decomposed", unicodedata.normalize("NFD", "Métadonnées_été.zip"), None, frozenset()),
        ("spaces", "  leading and trailing .zip  ", None, frozenset()),
        ("dots", "..", None, frozenset()),
        ("newline", "line\nbreak\tand tab.zip", None, frozenset()),
        ("long", "grüße_" * 40 + ".zip", None, frozenset()),
        ("title-only", None, "Named by its title only", frozenset({"name"})),
        ("nameless", None, None, frozenset({"name", "title"})),
        ("null-name", None, None, frozenset()),
        ("gzip-zip", "archive.zip", None, frozenset()),
        ("case", "ARCHIVE.ZIP", None, frozenset()),
    )
    rows = [
        _Row(key, name, None, f"2023-11-06T00:{n:02d}:00.{n:03d}Z", "names", digits=3, title=title,
             content=_small(n, 3000 + n, f"{name or title}"), absent=absent,
             content_type="application/gzip" if key == "gzip-zip" else "application/zip")
        for n, (key, name, title, absent) in enumerate(hard)
    ]  # fmt: skip
    short = _Row("short", "one byte.txt", None, "2023-11-06T01:00:00.000000Z", "names",
                 content=BytesContent(b"\n"), content_type="text/plain")  # fmt: skip
    tiny = replace(short, key="tiny", name="tiny.zip", content=BytesContent(EMPTY_ZIP),
                   content_type="application/zip",
                   created="2023-11-06T01:00:01.000000Z")  # fmt: skip
    return (*rows, short, tiny)


def _small(seed: int, size: int, name: str) -> ObjectContent:
    """Content of `size` bytes: of a zip if the name says so, or gets that extension."""
    if name in ("None", ".."):
        return PatternContent(seed, size)
    return BytesContent(zip_of_size(seed, size))


def sample_storage(account: EmulatedAccount, directory: Path) -> Storage:
    """Return the sample storage on the files in `directory`; missing files are made.

    Raises the errors of `sample_files.ensure_files`.
    """
    facts = ensure_files(directory)
    storage = Storage(account)
    for row in _ORDERS:
        storage.put_order(_order(account, *row))
    for sample in (*_MAIN, *_WITHOUT_ORDER, *_hard_rows()):
        asset = _put_asset(storage, directory, sample)
        _put_collection(storage, asset, sample, directory, facts)
    return storage


def _order(
    account: EmulatedAccount,
    key: str,
    name: str | None,
    status: str,
    kind: str,
    created: str,
    tags: list[str] | None,
) -> EmulatedOrder:
    created_us = parse_us(created)
    footprint = {"type": "Point", "coordinates": [13.4, 52.47]}
    details: dict[str, Any] = {"aoi": footprint, "imageId": None}
    if key == "pneo":
        area, scene = (13.36, 52.45, 13.44, 52.49), "PNEO3_202404181005124_PMS-FS_ORT"
        details = {"aoi": polygon(area), "imageId": scene}
    if kind == "TASKING":
        details = {
            "acquisitionStart": created[:10] + "T00:00:00Z",
            "acquisitionEnd": "2026-12-31T23:59:59Z",
            "geometry": polygon((13.3, 52.4, 13.5, 52.6)),
            "extraDescription": None,
            "subStatus": None if status != "PLACED" else "FEASIBILITY_WAITING_UPLOAD",
            "acquisitionMode": "mono",
            "maxCloudCover": 10,
        }
    is_bare = key == "failed"
    return EmulatedOrder(
        stable_id(f"sample order {key}"), name, status, created_us, created_us + 427 * US,
        account.workspace_id, account.account_id, kind,
        None if is_bare else stable_id(f"product {key}"), tags,
        details=None if is_bare else details,
        absent=frozenset({"budgetId", "tags", "createdBy", "updatedBy"} if is_bare else ()),
    )  # fmt: skip


def _put_asset(storage: Storage, directory: Path, row: _Row) -> EmulatedAsset:
    account, created_us = storage.account, parse_us(row.created)
    asset_id = stable_id(f"sample asset {row.key}")
    workspace_id = account.other_workspace_id if row.key == "quicklook" else account.workspace_id
    asset = EmulatedAsset(
        asset_id, created_us, created_us + (613 * US if row.status != "NOT_PROCESSED" else 0),
        workspace_id, account.account_id, row.name, 0, row.content_type, row.status,
        stable_id(f"product {row.order}") if row.order else None,
        stable_id(f"sample order {row.order}") if row.order else None,
        row.source, row.producer, row.collection, row.title, row.tags, row.digits, row.absent,
        None if row.job is None else stable_id(f"sample job {row.job}"),
    )  # fmt: skip
    content = row.content if row.content is not None else FileContent(directory / str(row.file))
    path = None
    if row.object_path is not None:
        path = row.object_path.format(workspace=workspace_id, id=stable_id(f"block {row.key}"))
    return storage.put_asset(asset, content, path)


# -- STAC side


#: Files of transformed deliveries by asset: key in the item, sample file, title, roles, media type.
_FileRow = tuple[str, str, str | None, tuple[str, ...], str]
_PNEO: tuple[_FileRow, ...] = (
    ("img_pneo3_202404181005124_pms-fs_ort_r1c1.tiff", "pms.tiff", "Pansharpened, 4 bands",
     ("data", "multispectral", "pansharpened"), COG),
    ("visual.tiff", "visual.tiff", "Visual, 3 bands", ("visual", "data"), COG),
    ("preview.jpg", "preview.jpg", "Overview", ("overview",), "image/png"),
    ("metadata.xml", "metadata.xml", "Delivery Metadata", ("metadata",), "application/xml"),
    ("roi mask/cloud #1 (50%).geojson", "stac.geojson", None, ("data", "metadata"),
     "application/geo+json"),
)  # fmt: skip
_S2: tuple[_FileRow, ...] = (
    ("b02.tiff", "b02.tiff", "Blue (band 2)", ("data",), COG),
    ("b03.tiff", "b03.tiff", "Green (band 3)", ("data",), COG),
    ("b04.tiff", "b04.tiff", "Red (band 4)", ("data",), COG),
    ("b08.tiff", "b08.tiff", "NIR 1 (band 8)", ("data",), COG),
    ("scl.tiff", "scl.tiff", "Scene classification", ("data",), COG),
    ("tci.tiff", "visual.tiff", "True Color Visual", ("visual", "data", "multispectral"), COG),
    ("preview.jpg", "preview.jpg", "True color overview", ("overview",), "image/png"),
    ("metadata.xml", "metadata.xml", "Delivery Metadata", ("metadata",), "application/xml"),
    ("stac.geojson", "stac.geojson", "STAC metadata", ("metadata", "stac"),
     "application/geo+json"),
    ("tileinfo.json", "tileinfo.json", "Tile info metadata", ("metadata", "tile-info"),
     "application/json"),
)  # fmt: skip
_STEREO: tuple[_FileRow, ...] = (
    ("b01.tiff", "b04.tiff", "Panchromatic", ("data",), COG),
    ("metadata.xml", "metadata.xml", "Delivery Metadata", ("metadata",), "application/xml"),
)
_DEM: tuple[_FileRow, ...] = (("data", "dem.tiff", "Data", ("data",), COG),)
_SCENES: dict[str, tuple[tuple[str, tuple[_FileRow, ...], dict[str, Any]], ...]] = {
    "pneo": (("PNEO3_202404181005124_PMS-FS_ORT", _PNEO, {
        "platform": "PNEO-3", "constellation": "PNEO", "eo:cloud_cover": 3.2,
        "view:azimuth": 179.1, "view:incidence_angle": 18.1, "view:sun_azimuth": 150.3,
        "view:sun_elevation": 46.6}),),
    "s2": (("S2A_33UUU_20230426_0_L2A", _S2, {
        "platform": "sentinel-2a", "constellation": "sentinel-2", "instruments": ["msi"],
        "eo:cloud_cover": 8.99, "sentinel:utm_zone": 33, "sentinel:latitude_band": "U"}),),
    "stereo": tuple(
        (f"DS_PHR1A_20260203101{n}_FR1_PX_E013N52_{n}", _STEREO, {
            "platform": "PHR-1A", "constellation": "PHR", "eo:cloud_cover": 0,
            "view:incidence_angle": 12.5 * n}) for n in (1, 2)
    ),
    "dem": (("elevation_berlin", _DEM, {"platform": None, "proj:epsg": None}),),
}  # fmt: skip
_BANDS = {
    "b02.tiff": {"name": "B02", "common_name": "blue", "center_wavelength": 0.4966},
    "b03.tiff": {"name": "B03", "common_name": "green", "center_wavelength": 0.56},
    "b04.tiff": {"name": "B04", "common_name": "red", "center_wavelength": 0.6645},
    "b08.tiff": {"name": "B08", "common_name": "nir", "center_wavelength": 0.8351},
}
_KEYWORDS = {"pneo": ("Airbus", "PléiadesNeo"), "s2": ("ESA", "Sentinel-2")}


def _put_collection(
    storage: Storage, asset: EmulatedAsset, row: _Row, directory: Path, facts: dict[str, Any]
) -> None:
    scenes = _SCENES.get(row.key)
    collection = Collection(
        stable_id(f"sample collection {row.key}"),
        asset.id,
        scenes[0][0] if scenes else "ORT_SPOT7_20210531_095152300_000",
        asset.created_us + 60 * US,
        is_transformed=scenes is not None,
        description="Sample imagery, made by the emulator of up42fs.",
        keywords=_KEYWORDS.get(row.key, ("Sample",)),
    )
    if scenes is None:
        collection.items = [_untransformed_item(collection, asset)]
    else:
        key = asset.name or asset.id
        roles = ("data", "original")
        collection.original = StacFile(
            key, asset.id, asset.content_type, "Original Delivery", roles
        )
        collection.items = [
            _item(storage, collection, asset, f"{row.key} {n}", scene, directory, facts)
            for n, scene in enumerate(scenes)
        ]
    storage.put_collection(collection)


def _untransformed_item(collection: Collection, asset: EmulatedAsset) -> Item:
    file = StacFile("data", asset.id, asset.content_type, "Data",
                    extra={"description": "Storage Data"})  # fmt: skip
    return Item(
        stable_id(f"sample item {asset.id}"), collection.id, collection.title,
        asset.created_us - 2 * _DAY_US, (-9.0, 38.4, -8.9, 38.5), (file,),
        {"gsd": 1.5, "platform": "SPOT-7", "constellation": "SPOT", "proj:epsg": None,
         "eo:cloud_cover": 0},
    )  # fmt: skip


def _item(
    storage: Storage,
    collection: Collection,
    asset: EmulatedAsset,
    label: str,
    scene: tuple[str, tuple[_FileRow, ...], dict[str, Any]],
    directory: Path,
    facts: dict[str, Any],
) -> Item:
    title, rows, properties = scene
    files = []
    for key, source, file_title, roles, media_type in rows:
        file = StacFile(
            key, stable_id(f"sample file {label} {key}"), media_type, file_title, roles,
            _raster_fields(key, facts[source]),
        )  # fmt: skip
        storage.put_stac_file(file, FileContent(directory / source), asset.created_us + 300 * US)
        files.append(file)
    raster = next(facts[row[1]] for row in rows if "bbox" in facts[row[1]])
    west, south, east, north = raster["bbox"]
    return Item(
        stable_id(f"sample item {label}"), collection.id, title, asset.created_us - _DAY_US,
        (west, south, east, north), tuple(files),
        {"gsd": raster["gsd"], "proj:epsg": raster["epsg"], **properties},
    )  # fmt: skip


def _raster_fields(key: str, fact: dict[str, Any]) -> dict[str, Any]:
    if "shape" not in fact:
        return {}
    shape, transform = fact["shape"], fact["transform"]
    fields = {"proj:shape": shape, "proj:transform": transform, "gsd": fact["gsd"]}
    if key in _BANDS:
        fields["eo:bands"] = [_BANDS[key]]
    return fields

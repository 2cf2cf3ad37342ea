"""A directory's images and outlines as layers, opened by GDAL and QGIS through a real mount."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Emulator, Mount, check, emulator, mounted, run
from transformed_support import file, transformed

pytestmark = pytest.mark.mount
SCRIPT = Path(__file__).with_name("qgis_layers_script.py")


@pytest.fixture(scope="module")
def made(sample: Emulator, session_home: Path) -> Iterator[tuple[Emulator, Mount]]:
    with mounted(sample.env, "-o", "footprints,refresh=3600", home=session_home) as mount:
        yield sample, mount


def berlin(mount: Mount) -> Path:
    (found,) = (mount.path / "orders").glob("Berlin*")
    return found


def checksums(path: Path) -> list[int]:
    said = json.loads(check("gdalinfo", "-json", "-checksum", path))
    return [band["checksum"] for band in said["bands"]]


@pytest.mark.claim("S322")
def test_gdal_opens_the_mosaic_of_an_order(made: tuple[Emulator, Mount]) -> None:
    running, mount = made
    order = berlin(mount)
    before = running.remote.position()
    said = json.loads(check("gdalinfo", "-json", order / "visual.vrt"))
    signs = [r for r in running.remote.log(before) if r["route"] == "assets.download_url"]
    assert len(signs) <= 1, "a link for the one image, none for those that it does not show"
    (image,) = order.glob("*/visual.tiff")
    own = json.loads(check("gdalinfo", "-json", image))
    assert said["size"] == own["size"]
    assert said["geoTransform"] == own["geoTransform"]
    assert said["coordinateSystem"]["wkt"].endswith(own["coordinateSystem"]["wkt"][-17:])
    assert [band["colorInterpretation"] for band in said["bands"]] == ["Red", "Green", "Blue"]
    assert checksums(order / "visual.vrt") == checksums(image)


@pytest.mark.claim("S322")
def test_the_mosaic_of_a_tag_and_a_search_and_a_copy(
    made: tuple[Emulator, Mount], tmp_path: Path
) -> None:
    _, mount = made
    for directory in ("tags/vegetation", "search/constellation=PNEO"):
        said = json.loads(check("gdalinfo", "-json", mount.path / directory / "visual.vrt"))
        assert len(said["bands"]) == 3
        assert any(name.endswith("visual.tiff") for name in said["files"])
    # A copy of the directory with its document is complete.
    order = berlin(mount)
    (image,) = order.glob("*/visual.tiff")
    (tmp_path / image.parent.name).mkdir()
    shutil.copy(image, tmp_path / image.parent.name)
    shutil.copy(order / "visual.vrt", tmp_path)
    assert checksums(tmp_path / "visual.vrt") == checksums(image)


def test_a_directory_without_images_has_none(made: tuple[Emulator, Mount]) -> None:
    _, mount = made
    oddities = mount.path / "orders/Naming oddities"
    assert "visual.vrt" not in [path.name for path in oddities.iterdir()]
    assert "footprints.geojson" in [path.name for path in oddities.iterdir()]
    for name in ("visual.vrt", "layers.qlr"):
        with pytest.raises(FileNotFoundError):
            (oddities / name).read_bytes()
    assert "visual.vrt" in [path.name for path in berlin(mount).iterdir()]


@pytest.mark.claim("S321")
def test_ogrinfo_shows_the_whole_storage_as_one_layer(made: tuple[Emulator, Mount]) -> None:
    _, mount = made
    for place, count in (("", None), ("assets", None), ("cnam/SUCCESSFUL", 5)):
        path = mount.path / place / "footprints.geojson"
        assert path.name in [entry.name for entry in path.parent.iterdir()]
        said = check("ogrinfo", "-so", "-al", path)
        rows = json.loads(path.read_text())["features"]
        assert f"Feature Count: {len(rows)}" in said
        assert count is None or len(rows) == count
        for row in rows:
            assert (path.parent / row["properties"]["path"]).exists()
    assert "Layer name: UP42" in check("ogrinfo", "-so", "-al", mount.path / "footprints.geojson")


@pytest.mark.claim("S322")
def test_images_that_do_not_fit_are_named(tmp_path: Path, session_home: Path) -> None:
    def tiff(name: str, *arguments: str) -> bytes:
        made = tmp_path / name
        shape = ("-q", "-of", "GTiff", "-bands", "3", "-outsize", "64", "32", "-burn", "7")
        check("gdal_create", *shape, *arguments, made)
        return made.read_bytes()

    berlin_utm = ("-a_srs", "EPSG:32633", "-a_ullr")
    images = {
        "left.tif": tiff("left.tif", *berlin_utm, "390000", "5820032", "390064", "5820000"),
        "right.tif": tiff("right.tif", *berlin_utm, "390064", "5820032", "390128", "5820000"),
        "far.tif": tiff("far.tif", "-a_srs", "EPSG:32632", "-a_ullr", "1", "33", "65", "1"),
        "nowhere.tif": tiff("nowhere.tif"),
        "no image.tif": b"II*\0" + bytes(64),
    }
    with emulator("--synthetic", "1,1,0") as running:
        order = running.remote.storage("add_order", display_name="Mixed & <odd>")["id"]
        for name, content in images.items():
            transformed(
                running,
                f"{name} delivery & <more>.zip",
                [file(name, content, media_type="image/tiff", roles=["visual"])],
                order_id=order,
            )
        with mounted(running.env, home=session_home) as mount:
            path = mount.path / "orders/Mixed & <odd>/visual.vrt"
            said = json.loads(check("gdalinfo", "-json", "-stats", "-nofl", path))
            assert said["size"] == [128, 32]
            assert said["bands"][0]["mean"] == 7
            left_out = said["metadata"][""]["UP42FS_LEFT_OUT"]
            assert "far.tif: EPSG:32632, 3 bands, Byte" in left_out
            assert "nowhere.tif" in left_out
            assert "no image.tif" in left_out


@pytest.mark.claim("S388")
def test_the_mosaic_of_layers_is_that_of_the_vrt(tmp_path: Path, session_home: Path) -> None:
    """By reference systems alone 32633 is the most frequent; no two images can share a mosaic."""
    rows = []
    for name, epsg, bands in (("a", 32633, 3), ("b", 32633, 1), ("c", 32632, 3)):
        shape = ("-q", "-of", "GTiff", "-bands", str(bands), "-outsize", "8", "4", "-burn", "7")
        check("gdal_create", *shape, "-a_srs", f"EPSG:{epsg}", "-a_ullr", "1", "5", "9", "1",
              tmp_path / f"{name}.tif")  # fmt: skip
        content = (tmp_path / f"{name}.tif").read_bytes()
        files = [file(f"{name}.tif", content, media_type="image/tiff", roles=["visual"])]
        rows.append({"title": name, "files": files, "properties": {"proj:epsg": epsg}})
    with emulator("--synthetic", "1,1,0") as running:
        order = running.remote.storage("add_order", display_name="Zones")["id"]
        asset = transformed(running, "zones.zip", order_id=order)
        running.remote.storage("put_items", asset_id=asset, items=rows, collection="first")
        with mounted(running.env, home=session_home) as mount:
            directory = mount.path / "orders/Zones"
            before = running.remote.position()
            definition = (directory / "layers.qlr").read_text()
            said = (directory / "visual.vrt").read_text()
            signs = [r for r in running.remote.log(before) if r["route"] == "assets.download_url"]
    assert len(signs) <= len(rows), "both are made of the same heads"
    layers = re.findall(r"<layername>(.*?)</layername>.*?<authid>(.*?)</authid>", definition, re.S)
    assert ("Mosaic", "EPSG:32632") in layers
    assert "<SRS>EPSG:32632</SRS>" in said


@pytest.mark.claim("S322")
def test_qgis_opens_the_layers_of_an_order(made: tuple[Emulator, Mount], tmp_path: Path) -> None:
    _, mount = made
    env = {"QT_QPA_PLATFORM": "offscreen", "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    python = "/usr/bin/python3"  # Debian's: QGIS is made for it
    if run(python, "-c", "import qgis.core").returncode:
        pytest.skip("no QGIS: sudo apt-get install python3-qgis")
    answer = check(python, SCRIPT, berlin(mount) / "layers.qlr", env=env).splitlines()[-1]
    layers = json.loads(answer)
    assert [row["name"] for row in layers] == ["Outlines", "PNEO3_202404181005124_PMS-FS_ORT"]
    assert all(row["valid"] for row in layers), layers
    # Without one of its own a layer would lie nowhere: QGIS does not take it from the file.
    assert [row["crs"] for row in layers] == ["EPSG:4326", "EPSG:32633"]
    assert layers[0]["fill"] == "no", "a filled outline would hide its image"
    assert layers[0]["count"] >= 1
    assert layers[1]["bands"] == 3

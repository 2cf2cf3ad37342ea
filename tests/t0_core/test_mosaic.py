"""The mosaic of a directory's images, and what `layers.qlr` says of it."""

from __future__ import annotations

from xml.etree import ElementTree as Xml

import pytest
from hypothesis import given
from hypothesis import strategies as st

from up42fs.model.geotiff import Raster
from up42fs.model.mosaic import MosaicImage, reference_system, vrt


def raster(epsg: int | None, bands: int, kind: str) -> Raster:
    return Raster(
        width=8, height=4, bands=bands, kind=kind, transform=(0.0, 1.0, 0.0, 4.0, 0.0, -1.0),
        epsg=epsg, nodata=None, block=(8, 4),
    )  # fmt: skip


RASTERS = st.none() | st.builds(
    raster,
    st.sampled_from([None, 4326, 32632, 32633]),
    st.sampled_from([1, 3, 4]),
    st.sampled_from(["Byte", "UInt16"]),
)


@pytest.mark.claim("S388")
@given(st.lists(RASTERS, max_size=7))
def test_the_layer_has_the_reference_system_of_the_mosaic(rasters: list[Raster | None]) -> None:
    images = [MosaicImage(f"{number}.tif", one, "odd") for number, one in enumerate(rasters)]
    said = Xml.fromstring(vrt(images)).findtext("SRS")
    epsg = reference_system(images)
    assert said == (None if epsg is None else f"EPSG:{epsg}")

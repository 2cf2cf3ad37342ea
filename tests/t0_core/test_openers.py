"""Which files are read in pieces, by the names of file and program."""

from __future__ import annotations

import pytest

from up42fs.core.openers import reads_pieces


@pytest.mark.parametrize(
    ("name", "program", "pieces"),
    [
        ("b02.tiff", "gdal_translate", True),
        ("SCENE.TIF", "qgis.bin", True),
        ("scene.tif", "?", True),
        ("scene.tif", "cp", False),
        ("scene.tif", "rsync", False),
        ("delivery.zip", "python3", True),
        ("delivery.zip", "unzip", False),
        ("T31UFQ_B04.jp2", "gdalinfo", False),
        ("tif", "gdalinfo", False),
        ("", "gdalinfo", False),
    ],
)
def test_images_are_read_in_pieces_except_by_copiers(name: str, program: str, pieces: bool) -> None:
    assert reads_pieces(name, program) is pieces

"""Which files are read in pieces, by the names of file and program."""

from __future__ import annotations

import pytest

from up42fs.core.openers import copies, reads_pieces


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


@pytest.mark.parametrize(
    ("program", "is_copier"),
    [
        ("cp", True),
        ("sha256sum", True),
        ("unzip", False),
        ("smbd", False),
        ("dd", False),
        ("", False),
    ],
)
def test_only_who_wants_all_of_a_file_is_taken_for_a_copier(program: str, is_copier: bool) -> None:
    assert copies(program) is is_copier
    assert not copies(program) or not reads_pieces("scene.tif", program)

"""How files are read, by the names of file and program."""

from __future__ import annotations

import pytest

from up42fs.readahead.tuning import Reading, reading_of


@pytest.mark.parametrize(
    ("name", "program", "reading"),
    [
        ("b02.tiff", "gdal_translate", Reading.DIRECT),
        ("SCENE.TIF", "qgis.bin", Reading.DIRECT),
        ("scene.tif", "?", Reading.DIRECT),
        ("scene.tif", "", Reading.DIRECT),
        ("delivery.zip", "python3", Reading.DIRECT),
        ("delivery.zip", "unzip", Reading.ANY),
        ("scene.tif", "dd", Reading.ANY),
        ("scene.tif", "smbd", Reading.ANY),
        ("T31UFQ_B04.jp2", "gdalinfo", Reading.ANY),
        ("tif", "gdalinfo", Reading.ANY),
        ("", "gdalinfo", Reading.ANY),
    ],
)
def test_images_are_read_in_pieces_except_by_who_reads_on(
    name: str, program: str, reading: Reading
) -> None:
    assert reading_of(name, program) is reading


@pytest.mark.parametrize("name", ["scene.tif", "noise.bin", ""])
@pytest.mark.parametrize(
    ("program", "reading"),
    [
        ("cp", Reading.WHOLE),
        ("sha256sum", Reading.WHOLE),
        ("file", Reading.EXACT),
        ("bash", Reading.ANY),  # opens it for who reads its input
    ],
)
def test_some_programs_read_all_files_alike(name: str, program: str, reading: Reading) -> None:
    assert reading_of(name, program) is reading

"""What to read ahead of work: which files, and which of their bytes. Reads tables of TIFFs only."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from up42fs.cli.running import mount_of
from up42fs.cli.warm.ranges import MAP_PIECE_BYTES, PIECE_BYTES, Window, map_ranges
from up42fs.errors import ConfigurationError
from up42fs.readahead import tiff
from up42fs.types import ByteRange

#: West, south, east, north in degrees.
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Job:
    """What to read of one file, `piece_bytes` at a time; with `is_exact` nothing beside it.

    `held_bytes` of it need no request, None where nobody knows.
    """

    path: Path
    spans: tuple[ByteRange, ...]
    held_bytes: int | None
    piece_bytes: int = PIECE_BYTES
    is_exact: bool = False

    @property
    def bytes(self) -> int:
        """Bytes to read."""
        return sum(len(span) for span in self.spans)


def files(paths: Iterable[str], *, is_map: bool = False, box: Box | None = None) -> Iterator[Path]:
    """The delivered files at and below `paths`, each once however many names it has.

    With `is_map` TIFFs only; with `box` none whose outline, where UP42 told it, lies elsewhere.
    """
    seen: set[int] = set()
    for path in paths:
        _, place = mount_of(path)
        if not place.exists():
            raise ConfigurationError(f"{path} does not exist")
        found = _below(place, box) if place.is_dir() else [(place.stat().st_ino, place)]
        for inode, file in found:
            if inode not in seen and (not is_map or _is_tiff(file)) and _is_stored(file):
                seen.add(inode)
                yield file


def _below(directory: Path, box: Box | None) -> Iterator[tuple[int, Path]]:
    """Files with their inodes.

    Nothing is asked of files, since their sizes may cost requests; directories have attributes too.
    """
    if box is not None and not _touches(directory, box):
        return
    with os.scandir(directory) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _below(Path(entry.path), box)
        else:
            yield entry.inode(), Path(entry.path)


def _is_tiff(path: Path) -> bool:
    return path.suffix.lower() in (".tif", ".tiff")


def _is_stored(path: Path) -> bool:
    try:
        return os.getxattr(path, "user.up42.kind") in (b"asset", b"file")
    except OSError:
        return False  # made by the mount itself: README, item.json


def planner(overviews: bool, box: Box | None) -> Callable[[Path], Job | None]:
    """What plans a file: all of it, or what a map needs. Raises ConfigurationError."""
    if not overviews and box is None:
        return whole
    if box is not None:
        _need_rasterio()
    return lambda path: _for_map(path, overviews=overviews, box=box)


def whole(path: Path) -> Job:
    """All of a file; raises OSError."""
    size = path.stat().st_size
    held = int(os.getxattr(path, "user.up42.cached"))
    return Job(path, (ByteRange(0, size),) if size else (), held)


def _for_map(path: Path, *, overviews: bool, box: Box | None) -> Job | None:
    """What a map needs of a TIFF; None for other files and where the box does not touch it."""
    if box is not None and not _touches(path, box):
        return None
    size = path.stat().st_size
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)

        def get(span: ByteRange) -> bytes:
            return os.pread(descriptor, len(span), span.start)

        layout = tiff.parse(size, get)
    finally:
        os.close(descriptor)
    window = _window(path, box) if box else None
    if box and window is None:
        return None
    spans = map_ranges(layout, size, overviews=overviews, window=window)
    return Job(path, tuple(spans), None, MAP_PIECE_BYTES, is_exact=True)


def _touches(path: Path, box: Box) -> bool:
    """Whether the file's outline, where UP42 told it, meets the box: this costs no request."""
    try:
        text = os.getxattr(path, "user.up42.stac.bbox").decode()
        west, south, east, north = (float(number) for number in text.split(","))
    except (OSError, ValueError):
        return True
    return west < box[2] and east > box[0] and south < box[3] and north > box[1]


def _need_rasterio() -> None:
    try:
        import rasterio  # noqa: F401
    except ImportError:
        raise ConfigurationError(
            "--bbox needs the Python package rasterio; run: pip install 'up42fs[geo]'"
        ) from None


def _window(path: Path, box: Box) -> Any:
    """The pixels under the box; None where there are none, or the image is nowhere."""
    import rasterio
    from rasterio.warp import transform_bounds

    quietly = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_PAM_ENABLED": "NO"}
    with rasterio.Env(**quietly), rasterio.open(path) as image:
        if image.crs is None:
            return None
        left, bottom, right, top = transform_bounds("EPSG:4326", image.crs, *box, densify_pts=21)
        corners = [~image.transform * (x, y) for x in (left, right) for y in (bottom, top)]
        width, height = image.width, image.height
    columns, rows = zip(*corners, strict=True)
    window = Window(
        max(0, int(min(columns))),
        max(0, int(min(rows))),
        min(width, int(max(columns)) + 1),
        min(height, int(max(rows)) + 1),
    )
    is_empty = window.left >= window.right or window.top >= window.bottom
    return None if is_empty else window

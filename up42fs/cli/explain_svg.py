"""Draws what a file cost: which bytes were fetched and read, when, and where they lie in the image.

Pure: takes the mount's record of a file, and returns an SVG image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from up42fs.config.quantities import show_count
from up42fs.ranges import RangeSet, coalesce
from up42fs.readahead.tiff import TiffLayout, TiffLevel
from up42fs.types import ByteRange
from up42fs.visible import visible

#: Widths, heights and gaps in pixels.
_WIDTH, _MARGIN, _GAP, _LINE = 960, 24, 28, 18
_INNER = _WIDTH - 2 * _MARGIN
_BAR, _TIME = 24, 240
#: The most cells across and down an image, and the most images of a file that are drawn.
_MOST_CELLS, _MOST_LEVELS = 64, 6
_LEVEL = 210
#: The least height of what lasted no time.
_THIN = 2.5
_NAME_SHOWN, _PROGRAMS_SHOWN = 90, 130

#: Classes of rectangles, and their meaning.
_KINDS = (
    ("read", "read"),
    ("came", "fetched, and read by now"),
    ("unread", "fetched, not read"),
    ("none", "not fetched"),
)

_STYLE = """
svg { font: 13px system-ui, sans-serif; fill: #1b1b1b; background: #ffffff }
.head { font-size: 16px; font-weight: 600 }
.small { font-size: 11px }
.none { fill: #e3e6ea } .unread { fill: #f2a33a } .read { fill: #1f5fa8 } .came { fill: #a9c8ea }
.axis { stroke: #8a8f98; fill: none } .frame { stroke: #8a8f98; fill: none }
@media (prefers-color-scheme: dark) {
  svg { fill: #e8e8e8; background: #16181c } .none { fill: #33373e } .read { fill: #6ea8f0 }
  .came { fill: #2c4f78 }
}
"""


@dataclass(frozen=True, slots=True)
class _Bytes:
    """The size of a file, and its bytes by what happened to them."""

    size: int
    read: RangeSet
    fetched: RangeSet

    @property
    def unread(self) -> list[ByteRange]:
        """The ranges that were fetched and never read."""
        return [rest for span in self.fetched for rest in self.read.missing(span)]


def draw(
    document: Mapping[str, Any], history: Mapping[str, Any], layout: TiffLayout | None = None
) -> str:
    """Return the SVG image of a file's record.

    `document` is the attribute `user.up42.explain`, `history` is `user.up42.explain.history`;
    `layout` has the tiles of a TIFF, as far as they are known.
    """
    size = document["size"] or 0
    moments = {kind: [_moment(one) for one in history[kind]] for kind in ("fetched", "read")}
    read = RangeSet(ByteRange(*pair) for pair in document.get("ranges") or ())
    fetched = RangeSet(span for _, _, span in moments["fetched"])
    bytes_ = _Bytes(size, read, fetched)
    parts, top = list(_heading(document, bytes_)), _MARGIN + 3.5 * _LINE
    parts += _file_bar(bytes_, top)
    top += _BAR + _GAP + _LINE
    parts += _time_panel(bytes_, moments, top)
    top += _TIME + _GAP + _LINE
    levels = list(layout.levels[:_MOST_LEVELS]) if layout is not None else []
    if levels:
        drawn, top = _image_panel(levels, bytes_, top)
        parts += drawn
    parts += _legend(top)
    height = top + _LINE + _MARGIN
    name = escape(visible(str(document["name"])))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" '
        f'width="{_WIDTH}" height="{height:.0f}" role="img" aria-labelledby="t d">'
        f'<title id="t">{name}</title><desc id="d">{escape(_summary(document, bytes_))}</desc>'
        f"<style>{_STYLE}</style>{''.join(parts)}</svg>\n"
    )


_Moments = Mapping[str, Sequence[tuple[float, float, ByteRange]]]


def _moment(one: Sequence[float]) -> tuple[float, float, ByteRange]:
    began_s, ended_s, start, stop = one
    return began_s, ended_s, ByteRange(int(start), int(stop))


def _summary(document: Mapping[str, Any], bytes_: _Bytes) -> str:
    wasted = sum(map(len, bytes_.unread))
    requests = (document.get("store") or {}).get("requests", 0)
    return (
        f"{bytes_.size:,} bytes; {bytes_.read.total:,} of them read, {bytes_.fetched.total:,} "
        f"fetched in {show_count(requests, 'request')}, {wasted:,} fetched and not read"
    )


def _heading(document: Mapping[str, Any], bytes_: _Bytes) -> Iterator[str]:
    opened = document.get("programs") or {}
    programs = ", ".join(f"{visible(name)} {n}" for name, n in opened.items())
    name = _cut(visible(str(document["name"])), _NAME_SHOWN)
    yield _text(_MARGIN, _MARGIN + 8, name, "head")
    yield _text(_MARGIN, _MARGIN + 8 + _LINE, _summary(document, bytes_))
    opened_by = _cut(f"opened by {programs or 'nobody'}", _PROGRAMS_SHOWN)
    yield _text(_MARGIN, _MARGIN + 8 + 2 * _LINE, opened_by)


def _file_bar(bytes_: _Bytes, top: float) -> Iterator[str]:
    yield _rect("none", _MARGIN, top, _INNER, _BAR)
    for kind, spans in (("unread", bytes_.fetched), ("read", bytes_.read)):
        for span in _at_resolution(spans, bytes_.size):
            left, width = _across(span, bytes_.size)
            yield _rect(kind, left, top, width, _BAR)
    yield _text(_MARGIN, top + _BAR + 14, "byte 0", "small")
    end = f"byte {bytes_.size:,}"
    yield _text(_WIDTH - _MARGIN, top + _BAR + 14, end, "small", anchor="end")


def _time_panel(bytes_: _Bytes, moments: _Moments, top: float) -> Iterator[str]:
    """Draw each request and each first read: its bytes across, its time downward."""
    last_s = max((one[1] for kind in moments.values() for one in kind), default=0.0) or 1e-3
    yield _text(_MARGIN, top - 6, f"Over time: from above to below, {last_s:.2f} s", "small")
    yield _rect("frame", _MARGIN, top, _INNER, _TIME)
    for began_s, ended_s, span in moments["fetched"]:
        at = top + (_TIME - _THIN) * began_s / last_s
        height = max(_THIN, _TIME * (ended_s - began_s) / last_s)
        for kind, spans in (("came", [span]), ("unread", bytes_.read.missing(span))):
            for part in _at_resolution(spans, bytes_.size):
                left, width = _across(part, bytes_.size)
                yield _rect(kind, left, at, width, height)
    for _, ended_s, span in moments["read"]:
        left, width = _across(span, bytes_.size)
        yield _rect("read", left, top + (_TIME - _THIN) * ended_s / last_s, width, _THIN)


def _image_panel(
    levels: Sequence[TiffLevel], bytes_: _Bytes, top: float
) -> tuple[list[str], float]:
    """Draw the tiles of each image as they lie in it; return that, and where it ends."""
    parts = [_text(_MARGIN, top - 6, "In the image: each resolution with its tiles", "small")]
    left, below = float(_MARGIN), top
    for level in levels:
        scale = _LEVEL / max(level.width, level.height, 1)
        width, height = max(2.0, level.width * scale), max(2.0, level.height * scale)
        if left + width > _WIDTH - _MARGIN:
            left, top = _MARGIN, below + _GAP + _LINE
        parts += _tiles(level, bytes_, left, top, width, height)
        what = "mask, " if level.is_mask else ""
        size = f"{what}{level.width:,} x {level.height:,}"
        parts.append(_text(left, top + height + 14, size, "small"))
        below = max(below, top + height)
        left += max(width, 130.0) + _GAP
    return parts, below + _GAP + _LINE


def _tiles(
    level: TiffLevel, bytes_: _Bytes, left: float, top: float, width: float, height: float
) -> Iterator[str]:
    across, down = min(level.across, _MOST_CELLS), min(level.down, _MOST_CELLS)
    cells: dict[tuple[int, int], str] = {}
    for kind, spans in (("unread", bytes_.fetched), ("read", bytes_.read)):
        for index in _within(level, spans):
            row, col = divmod(index, level.across)
            row %= level.down
            cells[row * down // level.down, col * across // level.across] = kind
    yield _rect("none", left, top, width, height)
    for (row, col), kind in sorted(cells.items()):
        yield _rect(
            kind,
            left + width * col / across,
            top + height * row / down,
            width / across,
            height / down,
        )
    yield _rect("frame", left, top, width, height)


def _within(level: TiffLevel, spans: RangeSet) -> Iterator[int]:
    """Indexes of the tiles whose middle lies in `spans`: a tile of which a byte came did not."""
    for span in spans:
        for index in level.indexes_under(span, len(level.offsets)):
            if span.start <= level.offsets[index] + level.counts[index] // 2 < span.stop:
                yield index


def _legend(top: float) -> Iterator[str]:
    left = float(_MARGIN)
    for kind, what in _KINDS:
        yield _rect(kind, left, top - 4, 14, 14)
        yield _text(left + 20, top + 8, what)
        left += 210


def _at_resolution(spans: Iterable[ByteRange], size: int) -> list[ByteRange]:
    """Join what lies within a pixel, so that a million ranges are no million rectangles."""
    return coalesce(spans, max(1, size // _INNER))


def _across(span: ByteRange, size: int) -> tuple[float, float]:
    """Where a span begins across the picture, and how wide it is; nothing is too thin to see."""
    scale = _INNER / max(1, size)
    width = min(_INNER, max(1.5, len(span) * scale))
    return min(_MARGIN + span.start * scale, _WIDTH - _MARGIN - width), width


def _rect(kind: str, left: float, top: float, width: float, height: float) -> str:
    return (
        f'<rect class="{kind}" x="{left:.1f}" y="{top:.1f}" '
        f'width="{width:.1f}" height="{height:.1f}"/>'
    )


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _text(left: float, top: float, text: str, kind: str = "", *, anchor: str = "start") -> str:
    return (
        f'<text class="{kind}" x="{left:.0f}" y="{top:.0f}" text-anchor="{anchor}">'
        f"{escape(text)}</text>"
    )

"""Archives for tests, made when needed: honest ones of each kind, hostile ones, deliveries.

`honest` and `hostile` name builders. What they build says which files a reader must find in it.
`zip_support` and `tar_support` write the bytes.
"""

from __future__ import annotations

import functools
import io
import random
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import tar_support as tars
import zip_support as zips
from tar_support import TarEntry
from zip_support import ZipEntry, zip_bytes

from up42fs.archive.tar_members import GAP_NAME


@dataclass(frozen=True)
class Built:
    """An archive, and what a reader must find in it by path.

    `broken` are members that are listed and cannot be read, each with the size that is shown.
    """

    name: str
    data: bytes = field(repr=False)
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    directories: frozenset[str] = frozenset()
    symlinks: Mapping[str, str] = field(default_factory=dict)
    broken: Mapping[str, int] = field(default_factory=dict)


# --- contents


@functools.cache
def noise(size: int, seed: int = 1) -> bytes:
    """Bytes that do not compress."""
    return random.Random(seed).randbytes(size)


@functools.cache
def pixels(size: int, seed: int = 1) -> bytes:
    """Bytes that deflate to about 70 per cent, as 12-bit imagery does."""
    chance = random.Random(seed)
    low, high = chance.randbytes(size // 2 + 1), chance.randbytes(size // 2 + 1)
    mixed = bytearray(2 * (size // 2 + 1))
    mixed[0::2] = low
    mixed[1::2] = high.translate(bytes(byte % 8 for byte in range(256)))
    return bytes(mixed[:size])


@functools.cache
def words(size: int, seed: int = 1) -> bytes:
    """Text that deflates to about a tenth."""
    chance = random.Random(seed)
    lines = [f"<value row='{chance.randrange(50)}'>{chance.random():.2f}</value>\n".encode()] * 20
    out = b"".join(
        chance.choice(lines) + b"%d\n" % chance.randrange(1000) for _ in range(size // 30 + 1)
    )
    return out[:size]


def standard_files(large: int = 300_000) -> dict[str, bytes]:
    """Files of a small delivery: a top folder, nested folders, empty files, names beyond ASCII."""
    return {
        "delivery/README.txt": b"Read me.\n",
        "delivery/empty": b"",
        "delivery/IMG/image.tif": pixels(large, 2),
        "delivery/IMG/noise.bin": noise(large // 3, 3),
        "delivery/IMG/deep/er/metadata.xml": words(20_000, 4),
        "delivery/Übersicht Süd.txt": "Grüße".encode(),
        "delivery/one.bin": b"x",
    }


def _folders(paths: Iterable[str]) -> frozenset[str]:
    found = set()
    for path in paths:
        while "/" in path:
            path = path.rpartition("/")[0]
            found.add(path)
    return frozenset(found)


def _built(name: str, data: bytes, files: Mapping[str, bytes], **others: object) -> Built:
    return Built(name, data, dict(files), _folders(files), **others)  # type: ignore[arg-type]


# --- zip


def zip_of(name: str, files: Mapping[str, bytes], method: int = zips.DEFLATED, **fields) -> Built:
    """A zip of files; `fields` go to each entry."""
    entries = [ZipEntry(path, data, method, **fields) for path, data in files.items()]
    return _built(name, zip_bytes(entries), files)


def _zip_with(name: str, files: Mapping[str, bytes], **fields) -> Built:
    entries = [ZipEntry(path, data, zips.DEFLATED) for path, data in files.items()]
    return _built(name, zip_bytes(entries, **fields), files)


def zip_descriptors(method: int = zips.DEFLATED, *, signed: bool = True) -> Built:
    """Sizes stand after the data, as in UP42's zips of 2020 and in ASF's stored Sentinel-1."""
    files = standard_files()
    entries = [
        ZipEntry(path, data, method, descriptor=True, signed=signed) for path, data in files.items()
    ]
    return _built("descriptors.zip", zip_bytes(entries), files)


def zip64_small() -> Built:
    """Sizes in zip64 fields though they are small, and the end record of zip64."""
    files = standard_files()
    entries = [ZipEntry(path, data, zips.DEFLATED, zip64=True) for path, data in files.items()]
    return _built("zip64.zip", zip_bytes(entries, zip64_end=True), files)


def zip_many(count: int = 66_000) -> Built:
    """More members than fit 16 bits, each of its own number."""
    files = {f"d{number // 1000}/{number}.txt": b"%d" % number for number in range(count)}
    return zip_of("many.zip", files, zips.STORED)


def zip_local_differs() -> Built:
    """Local headers with longer extra fields than the directory, as ESA's zips have them."""
    files = standard_files()
    entries = [
        ZipEntry(path, data, zips.DEFLATED, local_extra=zips.extended_times(1_600_000_000) * 3)
        for path, data in files.items()
    ]
    return _built("local.zip", zip_bytes(entries), files)


def zip_sozip(size: int = 1_000_000, chunk: int = 32768) -> Built:
    """One member with SOZip's hidden index, and a plain one after it."""
    files = {"image.tif": pixels(size, 5), "after.txt": b"after"}
    entries = zips.sozip_entries("image.tif", files["image.tif"], chunk)
    entries.append(ZipEntry("after.txt", files["after.txt"], zips.DEFLATED))
    return _built("sozip.zip", zip_bytes(entries), files)


def zip_symlinks() -> Built:
    """Symlinks: one that stays inside; others leave, and are no way out."""
    entries = [
        ZipEntry("d/file.txt", b"here"),
        zips.symlink_entry("d/near", "file.txt"),
        zips.symlink_entry("d/far", "../d/file.txt"),
        zips.symlink_entry("d/absolute", "/etc/passwd"),
        zips.symlink_entry("d/out", "../../secret"),
    ]
    files = {"d/file.txt": b"here"}
    links = {"d/near": "file.txt", "d/far": "../d/file.txt"}
    return _built("links.zip", zip_bytes(entries), files, symlinks=links)


def zip_nested(depth: int = 2, method: int = zips.STORED) -> Built:
    """A zip in a zip, `depth` archives in all; `files` are those of the outermost."""
    data = zip_of("inner.zip", {"leaf.txt": b"leaf", "leaf.bin": noise(50_000, 6)}).data
    for level in range(depth - 1):
        data = zip_bytes([ZipEntry(f"level{level}/inner.zip", data, method)])
        inner = data
    files = {f"level{depth - 2}/inner.zip": zips_member(inner, 0)} if depth > 1 else {}
    return _built("nested.zip", data, files)


def zips_member(archive: bytes, header_at: int) -> bytes:
    """The stored data of the member at that offset."""
    start = zips.data_at(archive, header_at)
    (size,) = struct.unpack_from("<L", archive, header_at + 22)
    return archive[start : start + size]


# --- tar

#: Endings of tar archives, with the framing that each means.
TAR_KINDS = ("tar", "tgz", "tar.bz2", "tar.xz", "tar.zst")


def tar_of(kind: str, files: Mapping[str, bytes], format_: int = tarfile.PAX_FORMAT) -> Built:
    """A tar of files in that framing, as Python's tarfile writes it."""
    return _built(f"plain.{kind}", tars.framed(kind, tars.tarfile_bytes(files, format_)), files)


def tar_many(kind: str = "tgz", count: int = 200, size: int = 20_000) -> Built:
    """Many members of like size, as deliveries of tiles have them."""
    files = {f"tiles/{number:04}.tif": pixels(size, number) for number in range(count)}
    return tar_of(kind, files)


def tar_long_names(format_: int = tarfile.GNU_FORMAT) -> Built:
    """Names longer than 100 and 255 bytes."""
    files = {
        "long/" + "a" * 120: b"a",
        "/".join(["deep" * 20] * 6) + "/file": b"b",
        "ä" * 90: b"c",
        "short": b"d",
    }
    built = tar_of("tar", files, format_)
    return Built("names.tar", built.data, files, built.directories)


#: As tar writes them: whole blocks but for the last one with data, then an empty one at the end.
SPARSE = (
    *((0, noise(1024, 7)), (4096, noise(512, 8)), (100_000, noise(3072, 9)), (150_000, b"end")),
    (160_000, b""),
)
SPARSE_MANY = (*((number * 2048, noise(512, number)) for number in range(60)), (200_000, b""))


def tar_sparse() -> Built:
    """Sparse files in each of the four forms, with few holes and with many, between plain files."""
    files = {"before": b"before"}
    entries = [TarEntry(b"before", b"before")]
    for label, segments, size in (("few", SPARSE, 160_000), ("many", SPARSE_MANY, 200_000)):
        content = tars.sparse_content(segments, size)
        entries.append(tars.gnu_sparse(f"gnu-{label}".encode(), segments, size))
        files[f"gnu-{label}"] = content
        for version in ("0.0", "0.1", "1.0"):
            name = f"pax-{version}-{label}"
            entries += tars.pax_sparse(name, segments, size, version)
            files[name] = content
    entries.append(tars.gnu_sparse(b"hole", ((5000, b""),), 5000))
    entries.append(TarEntry(b"after", b"after"))
    return _built(
        "sparse.tar", tars.tar_bytes(entries), files | {"hole": bytes(5000), "after": b"after"}
    )


def tar_links() -> Built:
    """Hard links, symlinks that stay inside and that leave, and kinds that are left out."""
    entries = [
        TarEntry(b"d/", kind=tars.DIRECTORY, mode=0o755),
        TarEntry(b"d/file", b"content"),
        TarEntry(b"d/hard", kind=tars.HARD_LINK, link=b"d/file"),
        TarEntry(b"./d/harder", kind=tars.HARD_LINK, link=b"./d/hard"),
        TarEntry(b"d/soft", kind=tars.SYMLINK, link=b"file"),
        TarEntry(b"d/out", kind=tars.SYMLINK, link=b"../../etc/passwd"),
        TarEntry(b"d/absolute", kind=tars.SYMLINK, link=b"/etc/passwd"),
        TarEntry(b"d/tty", kind=tars.CHARACTER),
        TarEntry(b"d/disk", kind=tars.BLOCK_DEVICE),
        TarEntry(b"d/pipe", kind=tars.FIFO),
        TarEntry(b"d/last", b"last"),
    ]
    files = dict.fromkeys(("d/file", "d/hard", "d/harder"), b"content") | {"d/last": b"last"}
    return _built("links.tar", tars.tar_bytes(entries), files, symlinks={"d/soft": "file"})


def tar_duplicates() -> Built:
    """One name several times: the last one counts, as when tar extracts."""
    entries = [
        TarEntry(b"a", b"old"),
        TarEntry(b"b", b"between"),
        TarEntry(b"./a", b"newer"),
        TarEntry(b"a", b"newest"),
    ]
    return _built("twice.tar", tars.tar_bytes(entries), {"a": b"newest", "b": b"between"})


def tar_damaged() -> Built:
    """A header whose checksum is wrong between good ones; tar goes on behind it."""
    entries = [
        TarEntry(b"first", b"1"),
        TarEntry(b"lost", b"2" * 2000, checksum=1),
        TarEntry(b"last", b"3"),
    ]
    files, broken = {"first": b"1", "last": b"3"}, {GAP_NAME: 5 * 512}
    return _built("damaged.tar", tars.tar_bytes(entries), files, broken=broken)


def tar_truncated() -> Built:
    """The last member ends before its data; what comes before it is whole."""
    whole = tars.tar_bytes([TarEntry(b"first", b"1"), TarEntry(b"cut", noise(5000, 11))])
    data = whole[: 3 * 512 + 1000]
    return _built("cut.tar", data, {"first": b"1"}, broken={"cut": 5000})


def tar_concatenated() -> Built:
    """Two archives, and text after them: what stands behind the end mark does not count."""
    one = tars.tar_bytes([TarEntry(b"one", b"1")])
    two = tars.tar_bytes([TarEntry(b"two", b"2")])
    return _built("twins.tar", one + two + b"trailing text", {"one": b"1"})


# --- archives that lie


def zip_bomb() -> Built:
    """Many members that claim the packed bytes of one, and one that stands by itself."""
    content = bytes(2_000_000)
    packed_size = len(zips.compress(zips.DEFLATED, content))
    kernel = ZipEntry("kernel", content, zips.DEFLATED)
    copies = [
        ZipEntry(
            f"copy{number}",
            method=zips.DEFLATED,
            packed=b"",
            header_at=0,
            packed_size=packed_size - number,
            size=len(content),
            crc32=zlib.crc32(content),
        )
        for number in range(50)
    ]
    return Built(
        "bomb.zip", zip_bytes([kernel, *copies, ZipEntry("good", b"good")]), {"good": b"good"}
    )


def zip_impossible_ratio() -> Built:
    """A size that deflate cannot reach from so few bytes."""
    packed = zips.compress(zips.DEFLATED, b"small")
    entries = [
        ZipEntry("good", b"good"),
        ZipEntry("huge", b"small", zips.DEFLATED, packed=packed, size=1 << 32 - 1),
    ]
    return Built("ratio.zip", zip_bytes(entries), {"good": b"good"}, broken={"huge": 1 << 31})


def zip_sizes_lie() -> Built:
    """Members that hold less, and more, than the directory says."""
    data = noise(50_000, 12)
    entries = [
        ZipEntry("less", data, zips.DEFLATED, size=60_000),
        ZipEntry("more", data, zips.DEFLATED, size=40_000),
        ZipEntry("good", b"good", zips.DEFLATED),
    ]
    broken = {"less": 60_000, "more": 40_000}
    return Built("lies.zip", zip_bytes(entries), {"good": b"good"}, broken=broken)


def zip_wrong_crc() -> Built:
    """A member whose CRC is wrong, deflated and stored."""
    data = noise(50_000, 13)
    entries = [
        ZipEntry("deflated", data, zips.DEFLATED, crc32=1),
        ZipEntry("good", b"good", zips.DEFLATED),
    ]
    return Built("crc.zip", zip_bytes(entries), {"good": b"good"}, broken={"deflated": 50_000})


def zip_garbage() -> Built:
    """A member whose packed bytes are no deflate stream."""
    entries = [
        ZipEntry("garbage", bytes(9000), zips.DEFLATED, packed=b"\xff" * 3000),
        ZipEntry("good", b"good", zips.DEFLATED),
    ]
    return Built("garbage.zip", zip_bytes(entries), {"good": b"good"}, broken={"garbage": 9000})


#: Names that try to leave the archive, or that two systems read in two ways.
HOSTILE_NAMES = (
    b"../up", b"a/../../up", b"/absolute", b"//double", b"./dot", b"..", b".", b"", b"a//b",
    b"nul\0hidden", b"line\nbreak", b"C:\\windows\\file", b"C:/drive", b"..\\up", b"same", b"same",
    b"pet", b"pet/cat", b"dir/", b"dir", b"gr\x81n", "grün".encode(), "gru\u0308n".encode(),
    b"\xff\xfe", b"con", b"-rf", b" lead", b"trail ", b"x" * 300, b"y/" * 300 + b"z",
    "\u202etxt.exe".encode(), b"\x1b[31m",
)  # fmt: skip


def zip_hostile_names(host: int = zips.UNIX) -> Built:
    """Names that must not lead out, hide one another, or break a listing."""
    entries = [
        ZipEntry(name, b"%d" % number, host=host) for number, name in enumerate(HOSTILE_NAMES)
    ]
    return Built("names.zip", zip_bytes(entries))


def tar_hostile_names() -> Built:
    """The same in a tar, by GNU's long names, since a header ends a name at NUL."""
    entries: list[TarEntry | bytes] = []
    for number, name in enumerate(HOSTILE_NAMES):
        entries += [tars.long_name(name), TarEntry(name[:100], b"%d" % number, magic=tars.GNU)]
    return Built("names.tar", tars.tar_bytes(entries))


def zip_unsupported() -> Built:
    """Methods that nothing here unpacks, and an encrypted member; the rest is readable."""
    entries = [
        ZipEntry("deflate64", b"64", zips.DEFLATE64),
        ZipEntry("unknown", b"??", 77),
        ZipEntry("encrypted", b"secret", zips.DEFLATED, flags=zips.ENCRYPTED),
        ZipEntry("aes", b"secret", zips.AES, flags=zips.ENCRYPTED),
        ZipEntry("good", b"good", zips.DEFLATED),
    ]
    broken = {"deflate64": 2, "unknown": 2, "encrypted": 6, "aes": 6}
    return Built("unsupported.zip", zip_bytes(entries), {"good": b"good"}, broken=broken)


def zip_two_kinds() -> Built:
    """A file and a directory of one name, and one name twice."""
    entries = [
        ZipEntry("pet", b"file"),
        ZipEntry("pet/cat", b"cat"),
        ZipEntry("twice", b"first"),
        ZipEntry("twice", b"second"),
    ]
    return Built("kinds.zip", zip_bytes(entries))


def not_an_archive(name: str = "plain.zip") -> Built:
    """Bytes that only the name calls an archive."""
    return Built(name, noise(5000, 14))


#: Honest archives by name: each is the same through `unzip` or `tar`.
honest: dict[str, Callable[[], Built]] = {
    "zip-stored": lambda: zip_of("stored.zip", standard_files(), zips.STORED),
    "zip-deflated": lambda: zip_of("deflated.zip", standard_files()),
    "zip-bzip2": lambda: zip_of("bzip2.zip", standard_files(), zips.BZIP2),
    "zip-lzma": lambda: zip_of("lzma.zip", standard_files(), zips.LZMA),
    "zip-descriptors": zip_descriptors,
    "zip-stored-descriptors": lambda: zip_descriptors(zips.STORED),
    "zip-unsigned-descriptors": lambda: zip_descriptors(signed=False),
    "zip64": zip64_small,
    "zip-local-differs": zip_local_differs,
    "zip-comment": lambda: _zip_with("comment.zip", standard_files(), comment=b"Made by hand."),
    "zip-prefixed": lambda: _zip_with("prefixed.zip", standard_files(), prefix=b"MZ" + bytes(3000)),
    "zip-prefix-counted": lambda: _zip_with(
        "counted.zip", standard_files(), prefix=bytes(3000), is_prefix_counted=True
    ),
    "zip-sozip": zip_sozip,
    "zip-symlinks": zip_symlinks,
    "zip-nested": zip_nested,
    **{f"tar-{kind}": functools.partial(tar_of, kind, standard_files()) for kind in TAR_KINDS},
    "tar-gnu": lambda: tar_of("tar", standard_files(), tarfile.GNU_FORMAT),
    "tar-many": tar_many,
    "tar-long-names": tar_long_names,
    "tar-long-names-pax": lambda: tar_long_names(tarfile.PAX_FORMAT),
    "tar-sparse": tar_sparse,
    "tar-links": tar_links,
    "tar-duplicates": tar_duplicates,
    "tar-bgzf": lambda: _refit("bgzf.tgz", tars.bgzf_bytes),
    "tar-members": lambda: _refit("members.tar.gz", lambda data: tars.gzip_bytes(data, 5)),
    "tar-independent": lambda: _refit("independent.tgz", tars.independent_gzip_bytes),
    "tar-xz-streams": lambda: _refit("streams.tar.xz", lambda data: tars.xz_bytes(data, 4)),
    "tar-xz-blocks": lambda: _refit("blocks.txz", lambda data: tars.xz_bytes(data, block=65536)),
    "tar-zst-frames": lambda: _refit("frames.tar.zst", lambda data: tars.zstd_bytes(data, 65536)),
    "tar-zst-seekable": lambda: _refit(
        "seekable.tzst", lambda data: tars.zstd_bytes(data, 65536, is_seekable=True)
    ),
}

#: Archives that lie, or that readers read in several ways.
hostile: dict[str, Callable[[], Built]] = {
    "zip-comment-end": lambda: _zip_with(
        "endmark.zip", standard_files(), comment=b"PK\5\6 " * 9 + b"end"
    ),
    "zip-bomb": zip_bomb,
    "zip-ratio": zip_impossible_ratio,
    "zip-sizes-lie": zip_sizes_lie,
    "zip-wrong-crc": zip_wrong_crc,
    "zip-garbage": zip_garbage,
    "zip-names": zip_hostile_names,
    "zip-names-fat": lambda: zip_hostile_names(zips.FAT),
    "zip-unsupported": zip_unsupported,
    "zip-two-kinds": zip_two_kinds,
    "zip-not": not_an_archive,
    "tar-names": tar_hostile_names,
    "tar-damaged": tar_damaged,
    "tar-truncated": tar_truncated,
    "tar-concatenated": tar_concatenated,
    "tar-not": lambda: not_an_archive("plain.tar"),
    "tgz-not": lambda: not_an_archive("plain.tgz"),
}


def _refit(name: str, frame: Callable[[bytes], bytes]) -> Built:
    files = standard_files()
    return _built(name, frame(tars.tarfile_bytes(files)), files)


# --- deliveries


def image_bytes(driver: str = "GTiff", size: int = 256, seed: int = 1, **options: object) -> bytes:
    """An image of four bands of noise, written by GDAL."""
    import numpy
    from affine import Affine
    from rasterio.io import MemoryFile

    bands = numpy.random.default_rng(seed).integers(0, 4096, (4, size, size), dtype="uint16")
    profile = {"driver": driver, "width": size, "height": size, "count": 4, "dtype": "uint16"}
    place = {"crs": "EPSG:32633", "transform": Affine(2, 0, 400_000, 0, -2, 5_800_000)}
    with MemoryFile() as memory:
        with memory.open(**profile, **place, **options) as image:
            image.write(bands)
        return bytes(memory.read())


_DIMAP = """<?xml version="1.0" encoding="UTF-8"?>
<Dimap_Document>
  <Metadata_Identification>
    <METADATA_FORMAT version="2.15">DIMAP</METADATA_FORMAT>
    <METADATA_PROFILE>PHR_ORTHO</METADATA_PROFILE>
  </Metadata_Identification>
  <Coordinate_Reference_System><Projected_CRS>
    <PROJECTED_CRS_CODE>urn:ogc:def:crs:EPSG::32633</PROJECTED_CRS_CODE>
  </Projected_CRS></Coordinate_Reference_System>
  <Geoposition><Geoposition_Insert>
    <ULXMAP>400000</ULXMAP><ULYMAP>5800000</ULYMAP><XDIM>2</XDIM><YDIM>2</YDIM>
  </Geoposition_Insert></Geoposition>
  <Raster_Data>
    <Data_Access>
      <DATA_FILE_FORMAT>image/tiff</DATA_FILE_FORMAT>
      <DATA_FILE_TILES>true</DATA_FILE_TILES>
      <Data_Files>
        <Data_File tile_R="1" tile_C="1"><DATA_FILE_PATH href="{image}"/></Data_File>
      </Data_Files>
    </Data_Access>
    <Raster_Dimensions>
      <NROWS>{size}</NROWS><NCOLS>{size}</NCOLS><NBANDS>4</NBANDS>
      <Tile_Set><NTILES>1</NTILES><Regular_Tiling>
        <NTILES_SIZE nrows="{size}" ncols="{size}"/><NTILES_COUNT ntiles_R="1" ntiles_C="1"/>
        <OVERLAP_ROW>0</OVERLAP_ROW><OVERLAP_COL>0</OVERLAP_COL>
      </Regular_Tiling></Tile_Set>
    </Raster_Dimensions>
    <Raster_Encoding><DATA_TYPE>INTEGER</DATA_TYPE><NBITS>16</NBITS><SIGN>UNSIGNED</SIGN></Raster_Encoding>
    <Raster_Display><Band_Display_Order>
      <RED_CHANNEL>B2</RED_CHANNEL><GREEN_CHANNEL>B1</GREEN_CHANNEL><BLUE_CHANNEL>B0</BLUE_CHANNEL>
    </Band_Display_Order></Raster_Display>
  </Raster_Data>
</Dimap_Document>
"""


def dimap(size: int = 256, method: int = zips.DEFLATED) -> Built:
    """A Pléiades product as Airbus packs it; GDAL opens it by `DIM_PHR1B_MS.XML`."""
    folder = "0001/IMG_PHR1B_MS_001"
    image = "IMG_PHR1B_MS_R1C1.TIF"
    files = {
        "0001/VOL_PHR.XML": b"<Dimap_Document/>",
        f"{folder}/DIM_PHR1B_MS.XML": _DIMAP.format(image=image, size=size).encode(),
        f"{folder}/{image}": image_bytes(size=size, seed=21),
        f"{folder}/PREVIEW_PHR1B_MS.JPG": noise(30_000, 22),
        f"{folder}/ICON_PHR1B_MS.KMZ": zip_of("x", {"doc.kml": b"<kml/>"}).data,
    }
    return zip_of("dimap.zip", files, method)


def safe(method: int = zips.STORED, size: int = 512) -> Built:
    """A Sentinel-2 product in form: its top folder, small GML files, a band in JPEG 2000."""
    top = "S2A_MSIL1C_20240517T100031_N0510_R122_T33UUU_20240517T120000.SAFE"
    granule = f"{top}/GRANULE/L1C_T33UUU"
    band = image_bytes("JP2OpenJPEG", size, 23, QUALITY=100, REVERSIBLE="YES")
    files = {
        f"{top}/manifest.safe": words(60_000, 24),
        f"{top}/MTD_MSIL1C.xml": words(50_000, 25),
        f"{granule}/IMG_DATA/T33UUU_B02.jp2": band,
        **{f"{granule}/QI_DATA/MSK_{n:02}.gml": words(428, 30 + n) for n in range(49)},
        f"{top}/preview/quick-look.png": noise(40_000, 26),
    }
    folders = sorted(_folders(files))
    entries = [zips.directory_entry(f"{folder}/") for folder in folders]
    entries += [
        ZipEntry(path, data, method, local_extra=zips.extended_times(1_715_940_000))
        for path, data in files.items()
    ]
    return _built(f"{top}.zip", zip_bytes(entries), files)


def random_files(chance: random.Random, most: int = 12, largest: int = 400_000) -> dict[str, bytes]:
    """Files of random names, folders, sizes and contents."""
    files: dict[str, bytes] = {}
    for number in range(chance.randint(1, most)):
        folder = "/".join(chance.choices(("a", "b", "Süd", "d e"), k=chance.randrange(3)))
        size = chance.choice((0, 1, chance.randrange(600), chance.randrange(largest)))
        make = chance.choice((noise, pixels, words))
        files[f"{folder}/{number}.bin".lstrip("/")] = make(size, chance.randrange(1000))
    return files


def random_archive(
    chance: random.Random, largest: int = 400_000, *, is_stored: bool = False
) -> Built:
    """An honest archive of random files, kind, method and framing; `is_stored`: nothing packed."""
    files = random_files(chance, largest=largest)
    packed = zips.STORED if is_stored else zips.DEFLATED
    if chance.random() < 0.5:
        entries = [
            ZipEntry(
                path, data, chance.choice((zips.STORED, packed, packed)),
                descriptor=chance.random() < 0.3, zip64=chance.random() < 0.2,
                local_extra=b"" if chance.random() < 0.5 else zips.extended_times(1),
            )
            for path, data in files.items()
        ]  # fmt: skip
        prefix = bytes(chance.choice((0, 0, 777)))
        return _built("random.zip", zip_bytes(entries, prefix=prefix), files)
    tar = tars.tarfile_bytes(files, chance.choice((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)))
    frames: dict[str, Callable[[bytes], bytes]] = {
        "random.tar": bytes,
        "random.tgz": tars.gzip_bytes,
        "random.bgzf.tgz": tars.bgzf_bytes,
        "random.members.tgz": lambda data: tars.gzip_bytes(data, 3),
        "random.tar.bz2": lambda data: tars.framed("tar.bz2", data),
        "random.tar.xz": lambda data: tars.xz_bytes(data, 2),
    }
    name = "random.tar" if is_stored else chance.choice(list(frames))
    return _built(name, frames[name](tar), files)


def tar_files(archive: bytes) -> dict[str, bytes]:
    """The regular files of a tar by name, as Python's tarfile reads them."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        found = {}
        for info in opened:
            if info.isreg() or info.islnk():
                file = opened.extractfile(info)
                assert file is not None
                found[info.name] = file.read()
        return found

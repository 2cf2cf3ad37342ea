"""Archives that other programs make, on a real mount: a copy is what was packed, byte for byte."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import lzma
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import archive_support as archives
import pytest
import zip_support as zips
from harness import Emulator, Mount, check, emulator, mounted, take_away
from zip_support import ZipEntry, zip_bytes

from up42fs.archive.kinds import stem_of

pytestmark = pytest.mark.mount

FILES = {
    "order/DIM_PHR.XML": archives.words(30_000),
    "order/IMG 1/tile R1C1.tif": archives.pixels(400_000),
    "order/IMG 1/grün ü.txt": b"gr\xc3\xbcn",
    "order/empty.txt": b"",
    "order/noise.bin": archives.noise(70_000),
}
#: A sparse file, which archives of programs have as well.
HOLE = "order/hole.img"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files on disk."""
    top = tmp_path_factory.mktemp("source")
    for name, data in FILES.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(data)
    with (top / HOLE).open("wb") as hole:
        hole.write(b"begin")
        hole.seek(300_000)
        hole.write(b"end")
    return top


def tool(*argv: str) -> Callable[[Path, Path], None]:
    """Packs the folder `order` of the source with a program; `@` is the archive."""

    def make(source: Path, target: Path) -> None:
        if shutil.which(argv[0]) is None:
            pytest.skip(f"{argv[0]} is not installed")
        check(*(str(target) if word == "@" else word for word in argv), cwd=source)

    return make


def shell(script: str, *needs: str) -> Callable[[Path, Path], None]:
    def make(source: Path, target: Path) -> None:
        for one in needs:
            if shutil.which(one) is None:
                pytest.skip(f"{one} is not installed")
        subprocess.run(["sh", "-ec", script, "sh", str(target)], cwd=source, check=True)

    return make


def streamed(_source: Path, target: Path) -> None:
    """Python to a pipe: data descriptors, and zip64 extra fields although nothing is large."""

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def tell(self) -> int:
            raise OSError("a pipe has no position")

    with Pipe() as pipe:
        out = zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED)
        for name, data in FILES.items():
            with out.open(name, "w", force_zip64=True) as member:
                member.write(data)
        out.close()
        target.write_bytes(pipe.getvalue())


def flagged(_source: Path, target: Path) -> None:
    """Every method in one zip, comments, extra fields that nobody knows, and a prefix."""
    methods = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as out:
        out.comment = b"PK\5\6 and so on"
        for number, (name, data) in enumerate(FILES.items()):
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.compress_type = methods[number % 4]
            info.create_system = (0, 3, 10, 19)[number % 4]
            info.extra = b"\xfe\xca\0\0" + b"ux\x04\0abcd"
            info.comment = b"of the member"
            out.writestr(info, data)
    target.write_bytes(b"#!/bin/sh\nexit 0\n" + made.getvalue())


def backslashed(_source: Path, target: Path) -> None:
    """As old versions of .NET wrote them."""
    entries = [
        ZipEntry(name.replace("/", "\\"), data, zips.DEFLATED, host=0, flags=1 << 11)
        for name, data in FILES.items()
    ]
    target.write_bytes(zip_bytes(entries))


def mac(_source: Path, target: Path) -> None:
    """As the Finder: resource forks beside, data descriptors, no flag of UTF-8."""
    with target.open("wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as out:
        for name, data in FILES.items():
            out.writestr(name, data)
            fork = "__MACOSX/" + name.rpartition("/")[0] + "/._" + name.rpartition("/")[2]
            out.writestr(fork, b"\0\5\x16\7\0\2\0\0Mac OS X")


def members_of_gzip(_source: Path, target: Path) -> None:
    """A tgz of several gzip members, as pigz, BGZF and `cat` make them."""
    packed = plain_tar()
    step = 64 << 10
    parts = [gzip.compress(packed[at : at + step]) for at in range(0, len(packed), step)]
    target.write_bytes(b"".join(parts) + bgzf_end())


def bgzf_end() -> bytes:
    return bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


def blocks_of_xz(_source: Path, target: Path) -> None:
    packed = plain_tar()
    step = 100_000
    target.write_bytes(
        b"".join(lzma.compress(packed[at : at + step]) for at in range(0, len(packed), step))
    )


def streams_of_bzip2(_source: Path, target: Path) -> None:
    packed = plain_tar()
    target.write_bytes(bz2.compress(packed[:200_000]) + bz2.compress(packed[200_000:]))


def plain_tar() -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as out:
        for name, data in FILES.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))
    return made.getvalue()


#: By the archive's name.
MADE: dict[str, Callable[[Path, Path], None]] = {
    "zip-infozip.zip": tool("zip", "-qr", "@", "order"),
    "zip-infozip-stored.zip": tool("zip", "-qr0", "@", "order"),
    "zip-infozip-no-folders.zip": tool("zip", "-qrD", "@", "order"),
    "zip-infozip-stream.zip": shell('zip -qr - order | cat > "$1"', "zip"),
    "zip-infozip-zip64.zip": shell('tar -c order | zip -q "$1" - && zip -qr "$1" order', "zip"),
    "zip-7z.zip": tool("7z", "a", "-tzip", "-bd", "@", "order"),
    "zip-7z-lzma.zip": tool("7z", "a", "-tzip", "-mm=LZMA", "-bd", "@", "order"),
    "zip-jar.zip": tool("jar", "cf", "@", "order"),
    "zip-bsdtar.zip": tool("bsdtar", "-cf", "@", "--format", "zip", "order"),
    "zip-python-stream.zip": streamed,
    "zip-python-flags.zip": flagged,
    "zip-backslashes.zip": backslashed,
    "zip-mac.zip": mac,
    "tar-gnu.tar": tool("tar", "-cf", "@", "order"),
    "tar-gnu-sparse.tar": tool("tar", "--sparse", "-cf", "@", "order"),
    "tar-posix-sparse.tgz": tool("tar", "--format=posix", "--sparse", "-czf", "@", "order"),
    "tar-v7.tar": tool("tar", "--format=v7", "-cf", "@", "order"),
    "tar-bsdtar-pax.tgz": tool("bsdtar", "-czf", "@", "--format", "pax", "order"),
    "tar-bsdtar-gnu.tar.xz": tool("bsdtar", "-cJf", "@", "--format", "gnutar", "order"),
    "tar-star.tar": tool("star", "-c", "-f=@", "H=exustar", "order"),
    "tar-zstd.tar.zst": tool("tar", "--zstd", "-cf", "@", "order"),
    "tar-gzip-members.tgz": members_of_gzip,
    "tar-xz-blocks.tar.xz": blocks_of_xz,
    "tar-xz-threads.tar.xz": shell('tar -c order | xz -T2 --block-size=65536 -c > "$1"', "xz"),
    "tar-bzip2-streams.tbz2": streams_of_bzip2,
    # Endings that say something else than the bytes do.
    "zip-named.tgz": tool("bsdtar", "-cf", "@", "--format", "zip", "order"),
    "tgz-named.zip": tool("tar", "-czf", "@", "order"),
    "tar-named.zip": tool("tar", "-cf", "@", "order"),
    "tar-named-packed.tgz": tool("tar", "-cf", "@", "order"),
    "tgz-named-plain.tar": tool("tar", "-czf", "@", "order"),
    "xz-named.tar.gz": tool("tar", "-cJf", "@", "order"),
}


@pytest.fixture(scope="module")
def store() -> Iterator[Emulator]:
    with emulator("--synthetic", "1") as running:
        yield running


@pytest.fixture(scope="module")
def packed(
    store: Emulator, source: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """The archives that could be made, delivered; why the others could not."""
    folder, left = tmp_path_factory.mktemp("packed"), {}
    for name, make in MADE.items():
        target = folder / name
        try:
            make(source, target)
        except pytest.skip.Exception as why:
            left[name] = str(why)
            continue
        content = base64.b64encode(target.read_bytes()).decode()
        store.remote.storage("add_asset", name=name, content_base64=content)
    return left


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def mount(
    store: Emulator, packed: dict[str, str], cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mount]:
    own = ("-o", "refresh=3600", "--cache-dir", str(cache))
    with mounted(store.env, *own, home=tmp_path_factory.mktemp("home")) as one:
        yield one


def found(top: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(top)): path.read_bytes()
        for path in top.rglob("*")
        if path.is_file() and "__MACOSX" not in path.parts and "META-INF" not in path.parts
    }


@pytest.mark.claim("S259")
@pytest.mark.parametrize("name", MADE)
def test_a_copy_is_what_was_packed(
    name: str, mount: Mount, packed: dict[str, str], source: Path, tmp_path: Path
) -> None:
    if name in packed:
        pytest.skip(packed[name])
    check("cp", "-r", mount.path / "assets" / stem_of(name), tmp_path / "ours")
    ours = found(tmp_path / "ours")
    ours.pop("-", None)  # what zip calls its standard input
    wanted = dict(FILES)
    if HOLE in ours:
        wanted[HOLE] = (source / HOLE).read_bytes()
    assert sorted(ours) == sorted(wanted)
    assert [one for one in ours if ours[one] != wanted[one]] == []


@pytest.mark.claim("S259")
def test_what_a_wrong_ending_hides_is_remembered(
    store: Emulator, mount: Mount, cache: Path, tmp_path: Path
) -> None:
    """A later mount reads members by the table that it finds, and asks for no look at the bytes."""
    names = [name for name in MADE if "-named." in name]
    before = {name: found(mount.path / "assets" / stem_of(name)) for name in names}
    copied = tmp_path / "cache"
    take_away(mount)
    shutil.copytree(cache, copied)
    since = store.remote.position()
    with mounted(store.env, "-o", "refresh=3600", "--cache-dir", str(copied), home=tmp_path) as one:
        for name in names:
            top = one.path / "assets" / stem_of(name)
            sizes = {str(p.relative_to(top)): p.stat().st_size for p in top.rglob("*")}
            assert {path: sizes[path] for path in before[name]} == {
                path: len(content) for path, content in before[name].items()
            }
        assert store.requests(since).get("store.get", 0) == 0
        # What was fetched to inflate a tar in vain is in memory alone, and may be fetched again.
        for name in names:
            assert found(one.path / "assets" / stem_of(name)) == before[name]

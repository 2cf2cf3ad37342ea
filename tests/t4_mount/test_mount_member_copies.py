"""Members of archives in copies and in other locales: attributes that fit, modes to work with."""

from __future__ import annotations

import base64
import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import zip_support as zips
from harness import Emulator, Mount, check, emulator, mounted, run
from test_mount_attributes import attributes, ext4
from zip_support import ZipEntry

pytestmark = pytest.mark.mount

__all__ = ["ext4"]

TAGS = [f"tag number {number:04}" for number in range(400)]
UTF8 = 0x800
#: Names as archives have them, and as the mount shows them, whatever the locale is.
ZIP_NAMES: dict[str, tuple[bytes, int]] = {
    "Köln/北京.tif": ("Köln/北京.tif".encode(), UTF8),
    "Köln/Übersicht.txt": ("Köln/Übersicht.txt".encode(), 0),
    "Köln/größe.txt": ("Köln/größe.txt".encode("cp437"), 0),
    "ôîï₧.txt": ("東京.txt".encode("shift-jis"), 0),
    "odd \u00a0■.bin": (b"odd \xff\xfe.bin", 0),
    # A flag that lies: the name is no UTF-8.
    "flag ■.bin": (b"flag \xfe.bin", UTF8),
}
#: Modes that would keep the owner of a copy from changing it.
MODES = {"locked/read only": 0o100444, "locked/nothing": 0o100000, "locked/program": 0o100555}


def content(name: str) -> bytes:
    return f"bytes of {name}".encode()


def packed() -> bytes:
    """A zip with odd names, and with modes that forbid."""
    entries = [
        ZipEntry(raw, content(name), flags=flags) for name, (raw, flags) in ZIP_NAMES.items()
    ]
    closed = ZipEntry("locked/", mode=0o040555)
    entries += [closed] + [ZipEntry(name, content(name), mode=mode) for name, mode in MODES.items()]
    return zips.zip_bytes(entries)


def tarred() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in ("Köln/北京.tif", "locked/read only"):
            info = tarfile.TarInfo(name)
            info.mode, info.size = 0o444, len(content(name))
            archive.addfile(info, io.BytesIO(content(name)))
    return out.getvalue()


@pytest.fixture(scope="module")
def service() -> Iterator[Emulator]:
    with emulator("--synthetic", "0,0,0") as running:
        for name, data in {"packed.zip": packed(), "tarred.tar": tarred()}.items():
            running.remote.storage(
                "add_asset", name=name, content_base64=base64.b64encode(data).decode(),
                title="T" * 1000, tags=TAGS,
            )  # fmt: skip
        yield running


@pytest.fixture(scope="module")
def there(service: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    home = tmp_path_factory.mktemp("members")
    with mounted(service.env, "-o", "refresh=3600", home=home) as one:
        yield one


def below(top: Path) -> list[str]:
    return sorted(str(path.relative_to(top)) for path in top.rglob("*"))


@pytest.mark.claim("S172")
@pytest.mark.parametrize("tool", ["cp -a", "rsync -aX", "tar"])
@pytest.mark.parametrize("archive", ["packed", "tarred"])
def test_members_are_copied_with_all_listed_attributes(
    there: Mount, ext4: Path, tool: str, archive: str
) -> None:
    copy = ext4 / f"{archive} {tool}"
    copy.mkdir()
    source = there.path / "assets" / archive
    if tool == "tar":
        script = 'tar -C "$1" --xattrs -cf - . | tar -C "$2" --xattrs -xpf -'
        check("sh", "-c", script, "sh", source, copy)
    else:
        done = run(*tool.split(), f"{source}/.", copy)
        assert (done.returncode, done.stderr) == (0, "")
    assert below(copy) == below(source)
    for name in below(source):
        listed = attributes(source / name)
        assert sum(len(key) + len(value) for key, value in listed.items()) <= 3584, name
        assert attributes(copy / name) == listed, name
    shutil.rmtree(copy)


@pytest.mark.claim("S172")
def test_getfattr_walks_over_members(there: Mount) -> None:
    done = subprocess.run(
        ["getfattr", "-dR", "packed", "tarred"], cwd=there.path / "assets", capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, b"")
    members = [name for top in ("packed", "tarred") for name in below(there.path / "assets" / top)]
    assert done.stdout.count(b"# file:") == len(members) + 2
    one = there.path / "assets/packed/locked/nothing"
    assert os.getxattr(one, "user.up42.whole.tags").decode() == ",".join(TAGS)


@pytest.mark.claim("S171")
@pytest.mark.parametrize("copier", ["cp -r", "cp -a", "rsync -a"])
def test_copies_of_members_can_be_changed_and_deleted(
    there: Mount, tmp_path: Path, copier: str
) -> None:
    """By their owner, who may be anybody: as nobody where the tests run as root."""
    copy = Path("/var/tmp") / f"{tmp_path.name}-{copier[:2]}"
    copy.mkdir()
    try:
        check(*copier.split(), there.path / "assets/packed", there.path / "assets/tarred", copy)
        paths = [path for path in copy.rglob("*") if not path.is_symlink()]
        assert any(path.name == "nothing" for path in paths)
        for path in paths:
            least = 0o755 if path.is_dir() else 0o644
            assert path.stat().st_mode & 0o777 & least == least, path
        as_owner: tuple[str, ...] = ()
        if os.getuid() == 0:
            check("chown", "-R", "65534:65534", copy)
            as_owner = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
        locked = copy / "packed/locked"
        check(*as_owner, "sh", "-c", 'echo more >>"$1/read only" && touch "$1/new"', "sh", locked)
        check(*as_owner, "sh", "-c", 'rm -r "$1"/*', "sh", copy)
        assert os.listdir(copy) == []
    finally:
        check("rm", "-rf", copy)


@pytest.mark.claim("S170")
@pytest.mark.parametrize("speech", ["C", "de_DE.ISO-8859-1", "de_DE.UTF-8"])
def test_names_of_members_are_utf8_whatever_the_locale(
    service: Emulator, tmp_path: Path, speech: str
) -> None:
    """Of the mount's process, and of the programs that list, open, find and pack."""
    env = {"LC_ALL": speech, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    with mounted(service.env | env, "-o", "refresh=3600", home=tmp_path) as mount:
        place = os.fsencode(mount.path / "assets/packed")

        def output(*command: str | bytes) -> bytes:
            done = subprocess.run(
                command, cwd=place, env=dict(os.environ) | env, capture_output=True, check=True
            )
            assert done.stderr == b"", command
            return done.stdout

        expected = {name.encode() for name in [*ZIP_NAMES, *MODES]}
        found = output("find", ".", "-type", "f", "-print0").split(b"\0")[:-1]
        assert {name.removeprefix(b"./") for name in found} == expected
        for name in [*ZIP_NAMES, *MODES]:
            assert output("cat", name.encode()) == content(name)
        listed = output("ls", "-RN").splitlines()
        assert {os.path.basename(name) for name in expected} <= set(listed)
        copy = tmp_path / "copy"
        copy.mkdir()
        archive = os.fsencode(tmp_path / "all.tar")
        output("tar", "-cf", archive, ".")
        output("tar", "-xf", archive, "-C", os.fsencode(copy))
        assert {
            os.path.relpath(os.path.join(at, name), os.fsencode(copy))
            for at, _, names in os.walk(os.fsencode(copy))
            for name in names
        } == expected

"""A mount of a service that follows the contract loosely, and of one that means harm."""

from __future__ import annotations

import errno
import gzip
import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import Mount, kib_resident, mounted, run, wait_until
from stranger import TOKEN, Stranger, asset_id, row, stranger

from up42fs.emulator import pattern_bytes
from up42fs.fs.xattrs import CUT

pytestmark = pytest.mark.mount

#: What a mount may take to list, in memory (KiB) and time (s), whatever it is told.
MOST_KIB = 400 << 10
MOST_S = 30.0
#: Deadlines divided by five.
HURRY = {"UP42FS_HURRY": "5"}


def always(body: bytes) -> Callable[[str], tuple[int, dict[str, str], bytes]]:
    return lambda _: (200, {"content-type": "x"}, body)


@pytest.fixture
def service() -> Iterator[Stranger]:
    with stranger() as running:
        yield running


def names(mount: Mount) -> list[str]:
    return sorted(os.listdir(mount.path / "assets"))


def test_a_loose_service_works(service: Stranger, tmp_path: Path) -> None:
    with mounted(service.env, home=tmp_path) as there:
        assert names(there) == ["file 1.bin", "file 2.bin", "file 3.bin"]
        for number in (1, 2, 3):
            path = there.find(f"file {number}.bin")
            assert path.read_bytes() == pattern_bytes(number, 0, 300_000)
            assert os.getxattr(path, "user.up42.id").decode() == asset_id(number)
        assert json.loads(os.getxattr(path, "user.up42.json"))["surprise"]
        assert os.listdir(there.path / "stac") == ["catalog.json"]
        service.hooks["download-url"] = lambda _: (403, {"content-type": "x/y"}, b"\xff not you")
        service.rows.append(row(4, name="file 4.bin"))
        os.kill(there.pid, 1)
        wait_until(lambda: "file 4.bin" in names(there), 10, "the new file shows")
        with pytest.raises(PermissionError):
            there.find("file 4.bin").read_bytes()


@pytest.mark.claim("S354")
def test_a_size_of_0_is_not_believed(service: Stranger, tmp_path: Path) -> None:
    service.rows[:] = [row(1, size=0) | {"true size": 300_000}, row(2)]
    with mounted(service.env, home=tmp_path) as there:
        path = there.find("file 1.bin")
        assert path.read_bytes() == pattern_bytes(1, 0, 300_000)
        assert path.stat().st_size == 300_000
        os.kill(there.pid, signal.SIGHUP)  # the same row comes again, and changes nothing
        wait_until(lambda: len(service.asked("/v2/assets?")) > 2, 10, "the listing is read again")
        assert path.stat().st_size == 300_000


@pytest.mark.claim("S81")
def test_the_token_goes_to_the_api_alone(service: Stranger, tmp_path: Path) -> None:
    with mounted(service.env, home=tmp_path) as there:
        there.find("file 1.bin").read_bytes()
    assert service.asked("/bucket/")
    for _, path, headers in service.seen:
        if path.startswith("/bucket/") or path.endswith("/token"):
            assert "authorization" not in headers
            assert TOKEN not in str(headers)


HOSTILE_NAMES = {
    "..": None,
    ".": None,
    "../../etc/passwd": ".._.._etc_passwd",
    "a/b.tif": "a_b.tif",
    "nul\0in.tif": "nul_in.tif",
    "two\nlines.tif": "two_lines.tif",
    "\x1b[31mred\x1b]0;title\x07.tif": "_[31mred_]0;title_.tif",
    "evil\u202efdp.exe": "evil_fdp.exe",
    "\u2066isolated\u2069.tif": "_isolated_.tif",
    "lone\ud800surrogate.tif": None,
    "x" * 10_000 + ".tif": "x" * 196 + ".tif",
    "\u00e9" * 5_000: "\u00e9" * 100,
    "   ": None,
    "": None,
}


@pytest.mark.claim("S29")
def test_hostile_names_are_made_safe(service: Stranger, tmp_path: Path) -> None:
    service.rows = [row(n, name=name) for n, name in enumerate(HOSTILE_NAMES, start=1)]
    service.rows += [row(1, name="twin.tif"), {"id": None}, {"id": ["x"]}, {}]
    service.rows += [row(99, id="../x", name="id.tif")]
    with mounted(service.env, home=tmp_path) as there:
        shown = names(there)
        for name in shown:
            assert len(os.fsencode(name)) <= 255
            assert name.isprintable()
            assert (there.path / "assets" / name).stat().st_size == 300_000
        for number, safe in enumerate(HOSTILE_NAMES.values(), start=1):
            by_id = there.path / "assets" / asset_id(number)
            assert by_id.stat().st_size == 300_000
            if safe is not None and number != 1:
                assert safe in shown
        assert len(shown) == len(HOSTILE_NAMES) + 1  # a twin of an ID is no second file
        done = run("ls", "-laR", there.path / "assets")
        assert "\x1b" not in done.stdout
        assert done.returncode == 0
    log = there.log.read_text()
    assert log.isprintable() or log.replace("\n", "").isprintable()
    assert "Traceback" not in log
    for number, name in enumerate(HOSTILE_NAMES, start=1):
        told = [line for line in log.splitlines() if asset_id(number) in line]
        # An empty name is none, and an asset may have none.
        assert len(told) == (name != ""), (name, told)
    assert len(re.findall("rows? without a usable ID w(as|ere) left out", log)) == 1


def test_hostile_values_are_bounded(service: Stranger, tmp_path: Path) -> None:
    service.rows = [
        row(1, title="t" * 10_000, tags=[f"tag {n}" for n in range(100_000)]),
        row(2, size=-5),
        row(3, size=10**40),
        row(4, size=2**63 - 1),
        row(5, size="12", tags="no list", title={"a": 1}, createdAt="yesterday"),
        row(6, size=float("1e300"), createdAt="9999-12-31T23:59:59Z", updatedAt=-1),
        row(7, deep=json.loads("[" * 400 + "]" * 400)),
    ]
    started_s = time.monotonic()
    with mounted(service.env, home=tmp_path) as there:
        assert len(names(there)) == 7
        assert run("ls", "-la", there.path / "assets", timeout_s=60).returncode in (0, 1)
        assert there.find("file 7.bin").read_bytes() == pattern_bytes(7, 0, 300_000)
        # What no attribute can hold is marked as cut: as it stands it would be a lie.
        tags = os.getxattr(there.find("file 1.bin"), "user.up42.tags").decode()
        assert tags.startswith("tag 0,")
        assert tags.endswith(CUT)
        assert kib_resident(there.pid) < MOST_KIB
        assert time.monotonic() - started_s < MOST_S
        run("df", there.path)
    log = there.log.read_text()
    assert "Traceback" not in log
    assert f"asset '{asset_id(2)}': its size cannot be used: -5\n" in log
    for number, fields in {3: 1, 5: 2, 6: 2}.items():
        assert log.count(f"INFO up42fs.api.oddities: asset '{asset_id(number)}'") == fields


@pytest.mark.claim("S76")
def test_sizes_that_lie_are_found_out(service: Stranger, tmp_path: Path) -> None:
    service.rows = [row(1, size=500_000) | {"true size": 300_000}]
    with mounted(service.env, home=tmp_path) as there:
        path = there.find("file 1.bin")
        with pytest.raises(OSError) as caught:
            path.read_bytes()
        assert caught.value.errno == errno.ESTALE
        wait_until(lambda: path.stat().st_size == 300_000, 10, "the true size shows")
        assert path.read_bytes() == pattern_bytes(1, 0, 300_000)


NONSENSE = {
    "deep": b"[" * 200_000,
    "deeper": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "shape": b'{"content": "no list", "totalElements": 1e999}',
    "bytes": b"\xff\xfe\x00 not UTF-8",
    "html": b"<html>sign in</html>",
    "empty": b"",
    "null": b"null",
    "number": b"9" * 100_000,
}


@pytest.mark.claim("S83")
def test_answers_that_make_no_sense_are_one_error(service: Stranger, tmp_path: Path) -> None:
    service.rows = [row(number) for number in range(1, len(NONSENSE) + 1)]
    with mounted(service.env | HURRY, "-o", "refresh=3600", home=tmp_path) as there:
        before = names(there)
        for number, (kind, body) in enumerate(NONSENSE.items(), start=1):
            # An object is what the API says, whatever is in it.
            sent = b"[]" if kind == "shape" else body
            service.hooks[r"/v2/assets\?"] = always(body)
            service.hooks["/metadata"] = always(sent)
            asked = len(service.asked("/v2/assets?"))
            os.kill(there.pid, 1)
            with pytest.raises(OSError) as caught:
                os.getxattr(there.find(f"file {number}.bin"), "user.up42.json")
            assert caught.value.errno == errno.EIO, kind
            wait_until(lambda n=asked: len(service.asked("/v2/assets?")) > n, 15, kind)
            assert names(there) == before
        path = there.find("file 2.bin")
        assert path.read_bytes() == pattern_bytes(2, 0, 300_000)
        assert "failed" in there.log.read_text()
    assert "Traceback" not in there.log.read_text()


@pytest.mark.claim("S83")
def test_an_answer_without_end_is_cut_off(service: Stranger, tmp_path: Path) -> None:
    """64 MiB are no page, and a megabyte that unpacks to a gigabyte is none either."""
    bomb = gzip.compress(b'{"content": "' + b"0" * (300 << 20) + b'"}', 1)
    with mounted(service.env, home=tmp_path) as there:
        packed = {"content-encoding": "gzip", "content-type": "application/json"}
        service.hooks["/metadata"] = lambda _: (200, packed, bomb)
        with pytest.raises(OSError) as caught:
            os.getxattr(there.find("file 1.bin"), "user.up42.json")
        assert caught.value.errno == errno.EIO
        assert kib_resident(there.pid) < MOST_KIB


LINKS = [
    "file:///etc/passwd",
    "http://storage.example.com/x",
    "https://user:secret@storage.example.com/x",
    "ftp://storage.example.com/x",
    "gopher://127.0.0.1:25/x",
    "//storage.example.com/x",
    "https://",
    "https://exa mple.com/\r\nX-Evil: 1",
    "javascript:alert(1)",
    "\0",
    "",
]


@pytest.mark.claim("S82")
def test_links_that_must_not_be_followed(service: Stranger, tmp_path: Path) -> None:
    with mounted(service.env | HURRY, home=tmp_path) as there:
        for number, link in enumerate(LINKS):
            service.link = lambda _, link=link: link
            with pytest.raises(OSError) as caught:
                there.find(f"file {number % 3 + 1}.bin").read_bytes()
            assert caught.value.errno in (errno.EIO, errno.ENETUNREACH), link
        service.link = None
        assert there.find("file 1.bin").read_bytes() == pattern_bytes(1, 0, 300_000)
    assert "secret" not in there.log.read_text()


@pytest.mark.claim("S81")
def test_redirects_take_neither_token_nor_link_along(service: Stranger, tmp_path: Path) -> None:
    with stranger() as other, mounted(service.env, home=tmp_path) as there:

        def away(path: str) -> tuple[int, dict[str, str], bytes]:
            return 307, {"location": other.url + path}, b""

        service.hooks["/metadata|/bucket/"] = away
        with pytest.raises(OSError):
            os.getxattr(there.find("file 1.bin"), "user.up42.json")
        with pytest.raises(OSError):
            there.find("file 1.bin").read_bytes()
        assert not other.seen


def pages_without_end(path: str) -> tuple[int, dict[str, str], bytes]:
    number = len(path)  # each link is another one
    answer: dict[str, Any] = {
        "features": [],
        "collections": [],
        "links": [{"rel": "next", "href": f"{path.partition('?')[0]}?token={'x' * number}"}],
    }
    return 200, {"content-type": "application/json"}, json.dumps(answer).encode()


@pytest.mark.parametrize("in_a_circle", [True, False])
@pytest.mark.claim("S83")
def test_pages_in_a_circle_or_without_end(
    service: Stranger, tmp_path: Path, in_a_circle: bool
) -> None:
    def circle(path: str) -> tuple[int, dict[str, str], bytes]:
        status, headers, body = pages_without_end(path.partition("?")[0])
        return status, headers, body

    service.hooks["/stac"] = circle if in_a_circle else pages_without_end
    with mounted(service.env | HURRY, home=tmp_path) as there:
        started_s = time.monotonic()
        done = run("ls", there.path / "stac", timeout_s=60)
        assert time.monotonic() - started_s < MOST_S
        assert names(there) == ["file 1.bin", "file 2.bin", "file 3.bin"]
        if in_a_circle:
            assert done.returncode != 0
            assert len(service.asked("/stac/collections")) < 20
        assert there.find("file 1.bin").read_bytes() == pattern_bytes(1, 0, 300_000)
        assert kib_resident(there.pid) < MOST_KIB


@pytest.mark.claim("S38")
def test_hrefs_to_elsewhere_are_left_out(service: Stranger, tmp_path: Path) -> None:
    hrefs = {
        "local": "file:///etc/passwd",
        "cloud": "http://169.254.169.254/latest/meta-data",
        "other": "https://other.example.com/v2/assets/x",
        "up": f"{service.url}/v2/assets/../../secret",
        "good": f"{service.url}/v2/assets/{asset_id(2)}/download-url",
        "../escape": f"{service.url}/v2/assets/{asset_id(3)}",
    }
    done = {"geospatialMetadataExtractionStatus": "SUCCESSFUL"}
    service.rows = [row(1, name="scene.zip", **done), row(2), row(3)]
    service.items = [{
        "type": "Feature", "id": "item", "collection": "c", "stac_version": "1.0.0",
        "geometry": None, "links": [], "properties": {"up42-system:asset_id": asset_id(1)},
        "assets": {key: {"href": href} for key, href in hrefs.items()},
    }]  # fmt: skip
    with mounted(service.env, home=tmp_path) as there:
        scene = there.path / "assets/scene"
        shown = sorted(os.listdir(scene))
        assert "good" in shown
        assert ".._escape" in shown
        assert not {"local", "cloud", "other", "up"} & set(shown)
    log = there.log.read_text()
    assert "169.254.169.254" in log or "left out" in log
    assert not any("169.254" in path for _, path, _ in service.seen)

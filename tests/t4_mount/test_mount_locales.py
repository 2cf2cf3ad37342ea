"""Names and paths whatever the locale: of the mount's process, and of who looks into it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from harness import COMMANDS, UP42FS, Emulator, check, environ, mounted, run
from stranger import row, stranger

pytestmark = pytest.mark.mount

#: Each with a way of reading bytes of its own. `PYTHONUTF8` is off so that Python obeys them.
LOCALES = {
    "latin": {"LC_ALL": "de_DE.ISO-8859-1", "PYTHONUTF8": "0"},
    "ascii": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "utf-8": {"LC_ALL": "de_DE.UTF-8", "PYTHONUTF8": "0"},
}
NAMES = ["Köln.tif", "北京 scene.tif", "plain.tif", "emoji 🛰.tif"]
#: "köln" as an old file system has it, and a byte that is nothing anywhere.
OLD_NAME = b"k\xf6ln \xff"


def content(*path: bytes) -> bytes:
    with open(os.path.join(*path), "rb") as file:
        return file.read()


each_locale = pytest.mark.parametrize("speech", LOCALES.values(), ids=LOCALES)


@pytest.mark.claim("S170")
@each_locale
def test_names_are_utf8_whatever_the_mounts_locale(speech: dict[str, str], tmp_path: Path) -> None:
    with stranger() as service:
        service.rows[:] = [row(n, name=name) for n, name in enumerate(NAMES, 1)]
        with mounted(service.env | speech, home=tmp_path) as mount:
            directory = os.fsencode(mount.path / "assets")
            assert sorted(os.listdir(directory)) == sorted(name.encode() for name in NAMES)
            for name in NAMES:
                path = os.path.join(directory, name.encode())
                assert os.stat(path).st_size == 300_000
                with open(path, "rb") as file:
                    assert len(file.read(4096)) == 4096
            for missing in (b"k\xf6ln.tif", b"\xff\xfe"):
                with pytest.raises(FileNotFoundError):
                    os.stat(os.path.join(directory, missing))
            # The names that the kernel remembers are forgotten under their bytes, too.
            service.rows[0]["name"] = "Düren.tif"
            service.rows[0]["updatedAt"] = "2030-01-01T00:00:00Z"
            (mount.path / ".up42fs/refresh").touch()
            check("sh", "-c", "for i in $(seq 100); do [ -e Düren.tif ] && [ ! -e Köln.tif ] && "
                  "exit 0; sleep 0.1; done; exit 1", cwd=mount.path / "assets")  # fmt: skip


@pytest.mark.claim("S170")
@each_locale
def test_tags_are_made_whatever_the_mounts_locale(
    start, speech: dict[str, str], tmp_path: Path
) -> None:
    service = start()
    with mounted(service.env | speech, "-o", "rw", home=tmp_path) as mount:
        tag = os.fsencode(mount.path / "tags") + "/köln".encode()
        os.mkdir(tag)
        asset_id = service.asset("quicklook.png")
        os.link(mount.path / "assets" / "quicklook.png", tag + b"/quicklook.png")
        rows = {found["id"]: found for found in service.remote.storage()["assets"]}
        assert "köln" in rows[asset_id]["tags"]
        os.unlink(tag + b"/quicklook.png")


@each_locale
def test_a_mount_point_may_be_any_bytes(
    sample: Emulator, speech: dict[str, str], tmp_path: Path
) -> None:
    """Mounted, looked at, warmed and unmounted by commands; argv are bytes, too."""
    place = os.path.join(os.fsencode(tmp_path), OLD_NAME)
    os.mkdir(place)
    env = {k.encode(): v.encode() for k, v in environ(sample.env | speech).items()}
    state = {b"XDG_STATE_HOME": os.fsencode(tmp_path / "state")}
    command = [word.encode() for word in UP42FS]

    def call(*words: bytes) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*command, *words], env=env | state, capture_output=True, check=False, timeout=60
        )

    done = call(b"mount", place)
    assert done.returncode == 0, done.stderr
    try:
        found = json.loads(content(place, b".up42fs/status.json"))
        assert found["assets"] > 3
        assert b"mountpoint=" in content(place, b".up42fs/metrics")
        one = sorted(os.listdir(os.path.join(place, b"assets")))[0]
        for words in (
            (b"status", b"--once", place),
            (b"status", b"--json", place),
            (b"doctor", place),
            (b"explain", os.path.join(place, b"assets", one)),
            (b"warm", os.path.join(place, b"assets", one)),
            (b"cache", b"usage"),
        ):
            done = call(*words)
            assert b"Traceback" not in done.stderr, (words, done.stderr)
            assert done.returncode == 0 or words[0] == b"doctor", (words, done.stderr)
        # Busy, as it would be another mount: the error names the place, byte by byte.
        done = call(b"mount", b"-o", b"rw", place)
        assert done.returncode == 1
        escaped = place.decode("ascii", "backslashreplace").encode()
        assert place in done.stderr or escaped in done.stderr, done.stderr
    finally:
        done = call(b"unmount", place)
    assert done.returncode == 0, done.stderr


@each_locale
def test_help_is_printed_in_any_encoding(speech: dict[str, str]) -> None:
    for command in COMMANDS:
        done = run(*UP42FS, command, "--help", env=speech, errors="replace")
        assert done.returncode == 0, (command, done.stderr)
        assert command in done.stdout
    done = run(*UP42FS, "mount", "--help", env=LOCALES["ascii"])
    assert "-o OPT,..." in done.stdout

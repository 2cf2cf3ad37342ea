"""Two accounts, signed in by name and mounted side by side, by the commands a user types."""

from __future__ import annotations

import ast
import json
import sys
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from harness import FORKED, Emulator, Mount, check, emulator, mounted, run, wait_until

pytestmark = pytest.mark.mount

UP42FS = (sys.executable, "-m", "up42fs")


class Desk:
    """Somebody who is signed in to two accounts, and mounted both."""

    def __init__(self, home: Path, servers: dict[str, Emulator]) -> None:
        self.servers = servers
        self.env = {
            "HOME": str(home),
            "XDG_CACHE_HOME": str(home / "cache"),
            "XDG_CONFIG_HOME": str(home / "config"),
            "XDG_STATE_HOME": str(home / "state"),
            "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring",
        }
        self.mounts: dict[str, Mount] = {}

    def login(self, name: str) -> None:
        server = self.servers[name].env
        env = {k: server[k] for k in ("UP42_API_URL", "UP42_AUTH_URL")}
        said = check(
            *(*UP42FS, "login", "--as", name, "--username", server["UP42_USERNAME"]),
            env=self.env | env,
            input=server["UP42_PASSWORD"] + "\n",
        )
        assert f"up42fs mount --account {name} ~/up42" in said


@pytest.fixture(scope="module")
def desk(sample: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    home = tmp_path_factory.mktemp("desk")
    with ExitStack() as stack:
        small = stack.enter_context(emulator("--synthetic", "3,1,1"))
        desk = Desk(home, {"work": sample, "lab": small})
        for name in desk.servers:
            desk.login(name)
        # Variables of the one account must not lead the other's mount astray.
        astray = {k: v for k, v in sample.env.items() if k.startswith("UP42_")}
        cache = ("--cache-dir", str(home / "cache" / "up42fs"))
        arguments = {"work": ("--account", "work"), "lab": ("-o", "account=lab")}
        for name, chosen in arguments.items():
            desk.mounts[name] = stack.enter_context(
                mounted(desk.env | astray, *cache, *chosen, home=home)
            )
        yield desk


@pytest.mark.claim("S363")
def test_each_mount_shows_its_own_account(desk: Desk) -> None:
    for name, mount in desk.mounts.items():
        status, server = mount.status(), desk.servers[name]
        assert (status["account_name"], status["api"]) == (name, server.env["UP42_API_URL"])
        assert status["assets"] == len(server.remote.storage()["assets"])
        shown = check(*FORKED, "status", "--once", mount.path, env=desk.env)
        assert f"{name}: {status['account']} at" in shown


@pytest.mark.claim("S363")
def test_nothing_that_is_kept_is_shared(desk: Desk) -> None:
    """The same name of a file, other bytes; the books of both count their own."""
    for name, mount in desk.mounts.items():
        files = (path for path in sorted((mount.path / "assets").iterdir()) if path.is_file())
        first = next(files)
        with first.open("rb") as opened:
            opened.read(1)
        mount.rest()
        assert mount.status()["store"] is not None, name
    kept = {name: mount.status()["disk_cache"]["files"] for name, mount in desk.mounts.items()}
    assert len(set(kept.values())) == 2
    root = Path(desk.env["XDG_CACHE_HOME"]) / "up42fs"
    catalogues = root / "catalogue"
    wait_until(lambda: len(list(catalogues.glob("catalogue-*.sqlite"))) == 2, 60, "both are stored")
    books = Path(desk.env["XDG_STATE_HOME"]) / "up42fs/egress"
    wait_until(lambda: len(list(books.glob("*-all.json"))) == 2, 60, "both books are written")


def test_commands_without_a_mount_take_the_name(desk: Desk) -> None:
    seen = {
        name: check(*FORKED, "ls", "--account", name, "assets", env=desk.env).splitlines()
        for name in desk.servers
    }
    assert len(seen["lab"]) != len(seen["work"])
    for name, mount in desk.mounts.items():
        names = {path.name for path in (mount.path / "assets").iterdir() if path.is_file()}
        assert names <= set(seen[name])
    script = "import up42fs as u; print(u.FileSystem(account='lab', mount='never').ls('assets', 0))"
    said = check(sys.executable, "-c", script, env=desk.env)
    found = {Path(path).name for path in ast.literal_eval(said)}
    # Directories of transformed assets are listed by both, those of archives by `ls` alone.
    assert {name for name in seen["lab"] if not name.endswith("/")} <= found
    assert found <= {name.strip("/") for name in seen["lab"]}


def test_the_doctor_looks_at_the_named_account(desk: Desk) -> None:
    done = run(
        *UP42FS, "doctor", "--json", "--account", "lab", desk.mounts["lab"].path, env=desk.env
    )
    found = {f["check"]: f for f in json.loads(done.stdout)}
    assert "3 assets" in found["account"]["words"], done.stdout


def test_the_support_archive_holds_no_name_of_an_account(desk: Desk, tmp_path: Path) -> None:
    options = ("--local", "--bundle", tmp_path / "b.tar.gz", "--account", "lab")
    run(*FORKED, "doctor", *options, desk.mounts["lab"].path, env=desk.env)
    with tarfile.open(tmp_path / "b.tar.gz") as archive:
        files = [archive.extractfile(member) for member in archive.getmembers()]
        texts = [file.read() for file in files if file is not None]
    assert texts
    assert all(b'"lab"' not in text for text in texts)


def test_without_a_choice_a_command_says_which_there_are(desk: Desk) -> None:
    done = run(*FORKED, "ls", "assets", env=desk.env)
    assert done.returncode == 1
    assert "these are signed in: work, lab; choose one, as in --account work" in done.stderr
    done = run(*FORKED, "ls", "--account", "labb", "assets", env=desk.env)
    assert "did you mean lab? Known are: work, lab." in done.stderr
    assert done.stderr.count("\n") == 1
    listed = check(*FORKED, "accounts", env=desk.env)
    assert [line.split()[0] for line in listed.splitlines()] == ["NAME", "work", "lab"]


def test_signing_in_again_needs_only_the_password(desk: Desk) -> None:
    server = desk.servers["lab"].env
    check(*UP42FS, "login", "--as", "lab", env=desk.env, input=server["UP42_PASSWORD"] + "\n")
    done = run(*UP42FS, "logout", env=desk.env)
    assert (done.returncode, "with one: work, lab; see --as" in done.stderr) == (1, True)

"""Accounts that have nothing, are refused, or are somebody else's: what is said of them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from harness import FORKED, UP42FS, Emulator, run, wait_until
from stranger import stranger

pytestmark = pytest.mark.mount

NO_WORKSPACE = "00000000-0000-4000-8000-000000000000"


def place(tmp_path: Path) -> Path:
    made = tmp_path / "mount"
    made.mkdir()
    return made


@pytest.mark.claim("S158")
@pytest.mark.parametrize("workspace", [None, NO_WORKSPACE])
def test_an_empty_account_is_said(start, tmp_path: Path, workspace: str | None) -> None:
    emulator: Emulator = start() if workspace else start("--synthetic", "0,0,0")
    env = dict(emulator.env) | ({"UP42_WORKSPACE": workspace} if workspace else {})
    env["HOME"] = str(tmp_path)
    there = place(tmp_path)
    words = f"no asset in workspace {NO_WORKSPACE}" if workspace else "has no asset at"
    done = run(*UP42FS, "mount", there, env=env)
    try:
        assert (done.returncode, done.stderr.count("\n")) == (0, 1), done
        assert words in done.stderr
        assert os.listdir(there / "assets") == []
        status = json.loads((there / ".up42fs/status.json").read_text())
        assert [words in note for note in status["notes"]] == [True], "it is said once"
        shown = run(*FORKED, "status", "--once", there, env=env).stdout
        assert words in " ".join(shown.split())  # it is wrapped
        found = json.loads(run(*FORKED, "doctor", "--json", there, env=env).stdout)
        bad = [f for f in found if f["check"] == "account" and f["level"] == "warn"]
        assert words in bad[0]["words"]
        assert bad[0]["cure"]
        assert not workspace or "all workspaces together have" in bad[0]["words"]
        if not workspace:
            emulator.remote.storage("add_asset", name="late.zip", size=10)
            (there / ".up42fs/refresh").touch()
            wait_until(lambda: os.listdir(there / "assets"), 10, "the delivery shows")
            assert json.loads((there / ".up42fs/status.json").read_text())["notes"] == []
    finally:
        run(*FORKED, "unmount", there, env=env)


@pytest.mark.claim("S145")
@pytest.mark.parametrize("status", [400, 403, 404])
def test_a_workspace_that_is_refused_is_named(tmp_path: Path, status: int) -> None:
    """A 404 must not be read as a listing that is gone: STAC would show other workspaces."""
    with stranger() as service:
        no = (status, {"content-type": "text/plain"}, b"no such workspace")
        service.hooks[r"/v2/(assets|orders)\?.*workspaceId="] = lambda _: no
        env = service.env | {"UP42_WORKSPACE": NO_WORKSPACE}
        for words in ("mount", str(place(tmp_path))), ("serve",):
            said = refused(tmp_path, env, *words)
            assert f"this account has no workspace {NO_WORKSPACE} at {service.url}" in said
            assert "correct the option workspace (UP42_WORKSPACE)" in said
        done = run(*FORKED, "doctor", "--json", env=env | {"HOME": str(tmp_path)})
        (bad,) = (f for f in json.loads(done.stdout) if f["check"] == "account")
        assert (bad["level"], "UP42_WORKSPACE" in bad["cure"]) == ("fail", True)
        done = run(*FORKED, "ls", "assets", env=env | {"HOME": str(tmp_path)})
        assert (done.returncode, done.stdout) == (1, "")
        assert NO_WORKSPACE in done.stderr


def test_an_account_with_assets_is_mounted_without_a_word(sample: Emulator, tmp_path: Path) -> None:
    there = place(tmp_path)
    done = run(*UP42FS, "mount", there, env={**sample.env, "HOME": str(tmp_path)})
    try:
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert json.loads((there / ".up42fs/status.json").read_text())["notes"] == []
    finally:
        run(*FORKED, "unmount", there)


def refused(tmp_path: Path, env: dict[str, str], *words: str, typed: str = "") -> str:
    done = run(*UP42FS, *words, env=env | {"HOME": str(tmp_path)}, input=typed)
    assert done.returncode == 1, done
    return done.stderr


@pytest.mark.claim("S158")
def test_a_refused_account_names_its_source(sample: Emulator, tmp_path: Path) -> None:
    urls = {k: v for k, v in sample.env.items() if k.endswith("_URL")}
    name, there = sample.env["UP42_USERNAME"], place(tmp_path)
    said = refused(tmp_path, urls, "login", "--username", name, typed="wrong\n")
    assert "type it again" in said
    assert "UP42_USERNAME" not in said
    wrong = {"UP42_USERNAME": name, "UP42_PASSWORD": "wrong"}
    assert "check UP42_USERNAME" in refused(tmp_path, urls | wrong, "mount", str(there))
    file = tmp_path / "account.json"
    file.write_text(json.dumps({"username": name, "password": "wrong"}))
    file.chmod(0o600)
    said = refused(tmp_path, urls, "mount", "--credentials", str(file), str(there))
    assert f"check {file}" in said
    assert "UP42_USERNAME" not in said


@pytest.mark.claim("S158")
def test_who_is_signed_in_elsewhere_is_named(sample: Emulator, tmp_path: Path) -> None:
    home, there = {"HOME": str(tmp_path)}, place(tmp_path)
    login = tmp_path / ".config/up42fs/logins.json"
    login.parent.mkdir(parents=True)
    entry = {"username": "me@example.com", "region": "eu", "password": "x"}
    login.write_text(json.dumps({"logins": [entry]}))
    login.chmod(0o600)
    said = refused(tmp_path, home, "mount", "--region", "sa", str(there))
    assert "me@example.com is signed in at eu, and sa is meant" in said
    assert "up42fs login --region sa" in said


@pytest.mark.skipif(os.getuid() != 0, reason="sudo is played by root")
def test_sudo_is_explained(sample: Emulator, tmp_path: Path) -> None:
    there = place(tmp_path)
    said = refused(tmp_path, {"SUDO_USER": "ann"}, "mount", str(there))
    assert "the account that ann signed in to" in said
    assert "run up42fs as ann, without sudo" in said

"""`up42fs setup`: what is put where, from any environment, and that it is taken away again."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from harness import IN_A_NAMESPACE, REPOSITORY, check, run
from hypothesis import given
from hypothesis import strategies as st

from up42fs.setup.install import Installation, mounts_of, refuse_foreign_code, shared
from up42fs.setup.login import with_bookmark, without_bookmark
from up42fs.setup.plan import InstallPaths, SetupError, planned

SETUP = (sys.executable, "-I", "-m", "up42fs", "setup")
#: Where no mount of another test runs, since setup removes nothing beneath mounts.
ALONE = ("unshare", "-m", "sh", "-c", 'umount -l -a -t fuse.up42fs; exec "$@"', "sh")
#: Letters of paths that a shell, systemd, and a menu entry all take as they are.
NAMES = st.text(
    st.characters(exclude_characters=':"$`\\\n\r\0/', exclude_categories=["Cs"]), min_size=1
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "my home"
    path.mkdir()
    return path


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}


# plans ------------------------------------------------------------------------------------------


@given(name=NAMES, is_system=st.booleans())
def test_a_plan_leaves_no_place_to_be_filled_in(name: str, is_system: bool) -> None:
    places = InstallPaths.of(is_system=is_system, prefix=f"/{name}", home="")
    plan = list(planned(places, "/py", shared))
    assert len({file.path for file in plan}) == len(plan)
    for file in plan:
        assert not [word for word in ("@bindir@", "@libdir@") if word in file.text], file.path
        outside = (
            {"/sbin/mount.up42fs", "/etc/udev/rules.d/99-up42fs.rules"} if is_system else set()
        )
        assert file.path.is_relative_to(places.prefix) or str(file.path) in outside
    units = [file.text for file in plan if file.path.suffix == ".service"]
    assert len(units) == (2 if is_system else 1)
    assert all(f"/{name}/bin/up42fs".replace("%", "%%") in text for text in units)


@pytest.mark.parametrize("prefix", ["relative", "/a:b", '/a"b', "/a$b", "/a`b", "/a\\b", "/a\nb"])
def test_what_no_script_can_name_is_refused(prefix: str) -> None:
    with pytest.raises(SetupError, match="'"):
        InstallPaths.of(is_system=False, prefix=prefix, home="/h")


BOOKMARKS = st.lists(st.text(st.characters(exclude_characters="\n\r", codec="utf-8"))).map(
    "\n".join
)


@given(text=BOOKMARKS, home=st.sampled_from(["/home/me", "/home/a b", "/h/ü"]))
def test_a_bookmark_is_there_once_and_goes_alone(text: str, home: str) -> None:
    once = with_bookmark(text, home)
    assert with_bookmark(once, home) == once
    kept = [line for line in text.split("\n") if line]
    assert [line for line in without_bookmark(once, home).split("\n") if line] == kept


@pytest.mark.parametrize(
    ("prefix", "said"),
    [
        ("/a:b", "no program can be installed in '/a:b': colons, quotes, dollars and line breaks"),
        ("here", "'here' is no absolute path; set HOME or --prefix"),
    ],
)
def test_why_a_place_is_refused_is_said(prefix: str, said: str) -> None:
    with pytest.raises(SetupError, match=re.escape(said)):
        InstallPaths.of(is_system=False, prefix=prefix, home="/h")


# the command ------------------------------------------------------------------------------------


def test_what_at_login_cannot_do_is_said(home: Path, tmp_path: Path) -> None:
    env = {"HOME": str(home), "PATH": str(tmp_path / "none"), "DESTDIR": str(tmp_path / "stage")}
    done = run(*SETUP, "--at-login", "--system", env=env)
    assert done.returncode == 1
    assert "--at-login is for one user: run `up42fs setup --at-login` as that user" in done.stderr
    done = run(*SETUP, "--at-login", "--user", env=env)
    assert done.returncode == 1
    words = "there is no systemd here; put `up42fs mount ~/up42` where your session begins"
    assert done.stderr.endswith(words + "\n"), done.stderr


@IN_A_NAMESPACE
def test_what_stays_is_said_before_it_is_purged(home: Path) -> None:
    env = {"HOME": str(home), "PATH": os.environ["PATH"]}
    kept = home / ".cache/up42fs/kept"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(bytes(3000))
    check(*SETUP, "--user", env=env)
    said = check(*ALONE, *SETUP, "--user", "--remove", env=env)
    assert f"left: {kept.parent} (" in said
    words = "caches, settings, logs, sidecars, and passwords that up42fs login keeps"
    assert f"{words}\nto remove them too:\n  " in said
    said = check(*ALONE, *SETUP, "--user", "--purge", env=env)
    assert f"removed {kept.parent} (" in said
    assert not kept.parent.exists()


@IN_A_NAMESPACE
@pytest.mark.claim("S345")
def test_one_user_sets_up_and_removes(home: Path) -> None:
    env = {"HOME": str(home), "PATH": os.environ["PATH"]}
    said = check(*SETUP, "--user", env=env)
    put = files(home)
    assert {
        ".local/bin/up42fs",
        ".local/share/man/man1/up42fs.1",
        ".local/share/bash-completion/completions/up42fs",
        ".local/share/systemd/user/up42fs.service",
        ".local/share/applications/up42fs.desktop",
    } <= put
    assert f"note: {home}/.local/bin is not in PATH" in said
    assert "--user --remove" in said
    assert check(home / ".local/bin/up42fs", "--version", cwd="/").startswith("up42fs ")
    check(*SETUP, "--user", env=env)  # again is no different
    assert files(home) == put
    assert "removed what was installed" in check(*ALONE, *SETUP, "--user", "--remove", env=env)
    assert files(home) == set()
    assert list(home.iterdir()) == []
    done = run(*ALONE, *SETUP, "--user", "--remove", env=env)
    assert (done.returncode, "nothing is installed" in done.stderr) == (1, True)


def test_a_menu_entry_is_one(home: Path) -> None:
    if shutil.which("desktop-file-validate") is None:
        pytest.skip("no desktop-file-validate: sudo apt-get install desktop-file-utils")
    check(*SETUP, "--user", env={"HOME": str(home)})
    check("desktop-file-validate", home / ".local/share/applications/up42fs.desktop")


@IN_A_NAMESPACE
@pytest.mark.claim("S345")
def test_the_command_that_pip_put_stays(home: Path) -> None:
    """pip and pipx put `up42fs` where setup would; theirs serves, and is not removed."""
    command = home / ".local/bin/up42fs"
    command.parent.mkdir(parents=True)
    command.write_text(f"#!{sys.executable}\nimport up42fs\n")
    env = {"HOME": str(home)}
    check(*SETUP, "--user", env=env)
    assert command.read_text().endswith("import up42fs\n")
    check(*ALONE, *SETUP, "--user", "--remove", env=env)
    assert files(home) == {".local/bin/up42fs"}
    command.write_text("#!/bin/sh\necho another program\n")
    done = run(*SETUP, "--user", env=env)
    assert (done.returncode, "move it away" in done.stderr) == (1, True)
    assert files(home) == {".local/bin/up42fs"}


@pytest.mark.claim("S346")
def test_root_runs_nothing_that_others_may_change(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root sets up for all users")
    interpreter = tmp_path / "bin/python"
    interpreter.parent.mkdir()
    interpreter.touch()
    for path, change in ((interpreter, "owner"), (interpreter.parent, "mode")):
        if change == "owner":
            os.chown(path, 65534, 65534)
        else:
            path.chmod(0o777)
        with pytest.raises(SetupError, match=f"{path} may be changed by others"):
            refuse_foreign_code(str(interpreter))
        os.chown(path, 0, 0)
        path.chmod(0o755)


@IN_A_NAMESPACE
def test_a_broken_installation_is_removed_by_any_python(home: Path) -> None:
    """The standard library is enough."""
    env = {"HOME": str(home), "PATH": os.environ["PATH"]}
    check(*SETUP, "--user", env=env)
    bare = "import sys; sys.path.insert(0, sys.argv.pop(1)); import up42fs.setup.__main__"
    command = [
        *ALONE,
        sys.executable,
        "-I",
        "-S",
        "-c",
        bare,
        str(REPOSITORY),
        "--user",
        "--remove",
    ]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert files(home) == set()


@IN_A_NAMESPACE
@pytest.mark.parametrize("status", [0, 1])
def test_it_mounts_at_login_by_the_users_unit(home: Path, tmp_path: Path, status: int) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    systemctl = tools / "systemctl"
    systemctl.write_text(
        f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\n'
        f'case "$*" in *enable*) echo no bus >&2; exit {status};; esac\n'
    )
    systemctl.chmod(0o755)
    env = {"HOME": str(home), "PATH": f"{tools}:{os.environ['PATH']}"}
    done = run(*SETUP, "--user", "--at-login", env=env)
    assert done.returncode == status
    assert "--user enable --now up42fs.service" in (tmp_path / "asked").read_text()
    bookmarks = home / ".config/gtk-3.0/bookmarks"
    if status:
        assert "no bus" in done.stderr
        assert not bookmarks.exists()
        return
    assert bookmarks.read_text() == f"file://{str(home).replace(' ', '%20')}/up42 UP42\n"
    check(*ALONE, *SETUP, "--user", "--remove", env=env)
    assert bookmarks.read_text() == ""


def test_a_package_is_staged_below_destdir(tmp_path: Path) -> None:
    env = {"DESTDIR": str(tmp_path), "HOME": "/nonexistent"}
    check(
        *SETUP,
        "--system",
        "--prefix",
        "/usr",
        "--python",
        "/usr/lib/up42fs/venv/bin/python",
        env=env,
    )
    put = files(tmp_path)
    assert {"usr/bin/up42fs", "sbin/mount.up42fs", "usr/lib/systemd/system/up42fs@.service"} <= put
    assert '"/usr/lib/up42fs/venv/bin/python" -I' in (tmp_path / "usr/bin/up42fs").read_text()
    assert str(tmp_path) not in (tmp_path / "usr/lib/systemd/system/up42fs@.service").read_text()


def test_a_mount_with_odd_letters_is_named_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    places = (b"/mnt/my\\040\xc3\xbc\\134x", b"/mnt/k\xf6ln", b"/mnt/\r\x0b\xc2\x85\xe2\x80\xa8x")
    line = b"36 25 0:49 / %b rw - fuse.up42fs up42:eu rw,user_id=7,group_id=7\n"
    table = b"".join(line % place for place in places)
    monkeypatch.setattr(Path, "read_bytes", lambda _: table)
    named = [b"/mnt/my \xc3\xbc\\x", *places[1:]]
    assert mounts_of(7) == mounts_of(None) == [os.fsdecode(place) for place in named]
    assert mounts_of(70) == []


def test_a_list_names_no_path_of_somebody_else(tmp_path: Path) -> None:
    places = InstallPaths.of(is_system=False, prefix=None, home=str(tmp_path))
    installation = Installation(places)
    assert installation.installed() == []
    places.list.parent.mkdir(parents=True)
    places.list.write_text("relative\n\n/absolute\n/directory/\n")
    assert installation.installed() == [Path("/absolute")]


@pytest.mark.claim("S403")
def test_an_installation_that_pip_cannot_make_ends_in_one_line_with_the_cure(
    tmp_path: Path,
) -> None:
    # The tools of a machine that is no Debian: nobody installs packages here.
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "dirname", "mktemp", "mkdir", "cp", "find", "rm"):
        (tools / name).symlink_to(str(shutil.which(name)))
    (tools / "python3").symlink_to(sys.base_prefix + "/bin/python3")
    done = subprocess.run(
        ["/bin/sh", REPOSITORY / "contrib/install", "--user"],
        env={
            "HOME": str(tmp_path / "home"),
            "PATH": str(tools),
            "PIP_NO_INDEX": "1",
            "PIP_CONFIG_FILE": os.devnull,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("install: pip could not install up42fs, and nothing was changed; ")
    assert last.endswith("gcc libc6-dev pkg-config libfuse3-dev python3-dev")
    assert not [path for path in (tmp_path / "home").rglob("*") if path.is_file()]

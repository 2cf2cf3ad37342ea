"""Mounting at boot and on the desktop: what contrib/install puts, tried as far as a machine can."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from harness import (
    COMMANDS,
    IN_A_NAMESPACE,
    REPOSITORY,
    UP42FS,
    Emulator,
    check,
    environ,
    run,
    wait_until,
)

from up42fs.config.options import OPTIONS
from up42fs.fuse.mount_table import mount_at

INSTALL = REPOSITORY / "contrib" / "install"
READ_AHEAD = REPOSITORY / "contrib" / "udev" / "up42fs-read-ahead"
FSTAB_GENERATOR = Path("/usr/lib/systemd/system-generators/systemd-fstab-generator")


def install(destination: Path, *arguments: str) -> str:
    venv = str(Path(sys.executable).parent.parent)
    env = {"UP42FS_VENV": venv, "DESTDIR": str(destination), "HOME": "/home/me"}
    return check(INSTALL, *arguments, env=env)


def files(root: Path) -> dict[str, str]:
    """Every file below `root`, by its path."""
    return {
        "/" + str(path.relative_to(root)): os.readlink(path) if path.is_symlink() else ""
        for path in root.rglob("*")
        if path.is_symlink() or path.is_file()
    }


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    install(root)
    return root


# the installer ----------------------------------------------------------------------------------


def test_what_was_put_can_be_taken_away(tmp_path: Path) -> None:
    (tmp_path / "sbin").mkdir()
    (tmp_path / "sbin/mount.nfs").touch()
    install(tmp_path)
    assert len(files(tmp_path)) > 10
    install(tmp_path)  # again is no different
    assert os.access(tmp_path / "sbin/mount.up42fs", os.X_OK)
    install(tmp_path, "--remove")
    assert files(tmp_path) == {"/sbin/mount.nfs": ""}
    assert [path.name for path in tmp_path.iterdir()] == ["sbin"]
    done = run(INSTALL, "--remove", env={"DESTDIR": str(tmp_path)})
    assert done.returncode == 1
    assert "nothing is installed" in done.stderr


def test_a_user_puts_nothing_outside_the_home_directory(tmp_path: Path) -> None:
    install(tmp_path, "--user")
    put = files(tmp_path)
    assert all(path.startswith("/home/me/.local/") for path in put)
    assert "/home/me/.local/share/up42fs/venv" in (
        (tmp_path / "home/me/.local/bin/up42fs").read_text()
    )
    install(tmp_path, "--user", "--remove")
    assert files(tmp_path) == {}


def clone(place: Path, *modes: int) -> Path:
    """What the installer needs of the repository, in a directory that only its owner may enter."""
    place.mkdir(parents=True)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, place)
    for name in ("contrib", "up42fs"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / name, place / name, ignore=ignored)
    for mode, parent in zip(modes, (place, *place.parents), strict=False):
        parent.chmod(mode)
    return place


def install_from(place: Path, destination: Path, *arguments: str, umask: int = 0o022) -> str:
    env = {"UP42FS_VENV": str(Path(sys.executable).parent.parent), "DESTDIR": str(destination)}
    command: list[str | Path] = [
        "sh",
        "-c",
        f'umask {umask:o}; exec "$@"',
        "sh",
        place / "contrib/install",
    ]
    return check(*command, *arguments, env=env | {"HOME": "/home/me"})


@pytest.mark.claim("S107")
@pytest.mark.parametrize(("umask", "for_whom"), [(0o077, []), (0o002, ["--user"])])
def test_what_is_installed_is_a_copy(tmp_path: Path, umask: int, for_whom: list[str]) -> None:
    """It does not lead into the clone, which its user may change, and others may run it."""
    place = clone(tmp_path / "home" / "up42fs", 0o700, 0o700)
    root = tmp_path / "root"
    root.mkdir()
    install_from(place, root, *for_whom, umask=umask)
    everything = [root, *root.rglob("*")]
    assert len(everything) > 300
    for path in everything:
        found = path.lstat()
        assert found.st_uid == os.getuid()
        if path.is_symlink():
            assert str(place) not in os.readlink(path), path
            continue
        assert not found.st_mode & 0o022, path
        assert found.st_mode & 0o044 == 0o044, path
        assert path.is_file() or found.st_mode & 0o011 == 0o011, path
        assert path.is_dir() or str(place).encode() not in path.read_bytes(), path
    assert not list(place.rglob(".venv")) + list(place.rglob("*.egg-info"))
    code = next(root.rglob(".installed-by-up42fs")).parent
    modules = {p.name for p in code.glob("lib/python*/site-packages/up42fs/*.py")}
    assert modules == {p.name for p in (REPOSITORY / "up42fs").glob("*.py")}
    shutil.rmtree(place.parent)
    says = check(code / "bin/python", "-I", "-c", "import up42fs.cli.main as m; print(m.__file__)")
    assert says.startswith(str(code))


def test_a_directory_of_somebody_elses_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "opt/up42fs").mkdir(parents=True)
    (tmp_path / "opt/up42fs/thesis").touch()
    env = {"UP42FS_VENV": str(Path(sys.executable).parent.parent), "DESTDIR": str(tmp_path)}
    done = run(INSTALL, env=env)
    assert (done.returncode, done.stdout) == (1, "")
    assert "move it away" in done.stderr
    assert files(tmp_path) == {"/opt/up42fs/thesis": ""}


#: Where the installer runs without DESTDIR and changes nothing of this machine.
_APART = """
umount -l -a -t fuse.up42fs 2>/dev/null || true
mount -t tmpfs tmpfs /opt && mount -t tmpfs tmpfs /usr/local && mkdir /usr/local/bin
for place in etc usr/sbin; do
    mkdir -p "$1/$place.upper" "$1/$place.work"
    layers="lowerdir=/$place,upperdir=$1/$place.upper,workdir=$1/$place.work"
    mount -t overlay overlay -o "$layers" "/$place"
done
shift && exec sh -ec "$0" sh "$@"
"""


@pytest.fixture
def apart(tmp_path: Path) -> list[str]:
    """A command that runs a script in a namespace of its own: overlays need a file system."""
    (tmp_path / "layers").mkdir()
    prepare = 'mount -t tmpfs tmpfs "$1" && ' + _APART
    return ["unshare", "-m", "sh", "-c", prepare, "{script}", str(tmp_path / "layers")]


def run_apart(apart: list[str], script: str, *words: str | Path, env: dict[str, str]):
    return run(*(script if word == "{script}" else word for word in apart), *words, env=env)


@IN_A_NAMESPACE
@pytest.mark.mount
@pytest.mark.claim("S108")
def test_the_life_of_an_installation(sample: Emulator, apart: list[str], tmp_path: Path) -> None:
    """Installed, mounted, not removed meanwhile; what stays is said, and goes with --purge."""
    script = """
    "$1" --user; up42fs=$HOME/.local/bin/up42fs
    printf '%s\n' "$UP42_PASSWORD" | PYTHON_KEYRING_BACKEND=keyring.backends.fail.Keyring \
        "$up42fs" login >/dev/null
    unset UP42_PASSWORD UP42_USERNAME
    mkdir "$HOME/my mnt"; "$up42fs" mount "$HOME/my mnt"; ls "$HOME/my mnt"
    cat "$HOME/.local/share/systemd/user/up42fs.service"
    "$1" --user --remove && exit 9
    "$up42fs" unmount "$HOME/my mnt"
    "$1" --user --remove
    ls -A "$HOME" "$HOME/.local"
    "$1" --user --purge
    find "$HOME" -type f
    """
    home = tmp_path / "home of 100% & me"
    home.mkdir()
    venv = str(Path(sys.executable).parent.parent)
    env = sample.env | {"HOME": str(home), "UP42FS_VENV": venv}
    del env["XDG_CACHE_HOME"]
    done = run_apart(apart, script, INSTALL, env=env)
    assert done.returncode == 0, (done.stdout, done.stderr)
    unit = f"{home}/.local/bin/up42fs".replace("%", "%%")
    assert f'ExecStart="{unit}" mount' in done.stdout
    assert f"note: {home}/.local/bin is not in PATH" in done.stdout
    assert "assets" in done.stdout.split()
    assert f"mounts are running; first: up42fs unmount '{home}/my mnt'" in done.stderr
    for place in (".cache", ".config", ".local/state"):
        assert f"left: {home}/{place}/up42fs (" in done.stdout
        assert f"removed {home}/{place}/up42fs (" in done.stdout
    assert "--user --purge" in done.stdout
    after = done.stdout.partition("removed what was installed")[2]
    assert "Traceback" not in done.stderr
    assert not [path for path in home.rglob("*") if path.is_file()], after


@pytest.mark.parametrize("home", ["relative", "/a\nb", "/a:b", '/a"b', "/a$b"])
def test_the_installer_refuses_a_home_that_no_list_can_hold(home: str) -> None:
    done = run(INSTALL, "--user", "--purge", env={"HOME": home})
    assert done.returncode == 1
    assert done.stderr.startswith("up42fs: ")
    assert "Traceback" not in done.stderr


@IN_A_NAMESPACE
def test_the_installer_says_what_else_of_root_stays(apart: list[str], tmp_path: Path) -> None:
    script = """
    "$1" >/dev/null; up42fs --version
    mkdir -p /etc/up42fs; echo x >/etc/up42fs/config.toml
    "$1" --remove; test ! -e /sbin/mount.up42fs
    echo "still there:"; find /opt /usr/local ! -type d; cat /etc/up42fs/config.toml
    """
    env = {"UP42FS_VENV": str(Path(sys.executable).parent.parent), "HOME": str(tmp_path)}
    done = run_apart(apart, script, INSTALL, env=env)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "left: /etc/up42fs (" in done.stdout
    assert done.stdout.endswith("still there:\nx\n")


def test_the_installer_explains_itself() -> None:
    assert "--remove" in check(INSTALL, "--help")
    assert run(INSTALL, "--nonsense").returncode == 2


# manual pages and completions -------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("groff") is None, reason="no groff")
@pytest.mark.parametrize("page", ["man1/up42fs.1", "man8/mount.up42fs.8"])
def test_manual_pages_are_sound(installed: Path, page: str) -> None:
    done = run("groff", "-man", "-ww", "-Tascii", installed / "usr/local/share/man" / page)
    assert (done.returncode, done.stderr) == (0, "")
    shown = re.sub(r"\x1b\[\d+m|.\x08", "", done.stdout)
    for option in OPTIONS:
        name = option.name if page.startswith("man8") else "--" + option.name.replace("_", "-")
        is_there = re.search(rf"^ +{re.escape(name)}\b", shown, re.M) is not None
        # The emulator's accounts are no secret: its --password stands in up42fs(1).
        assert is_there == (not option.secret or page.startswith("man1")), name
    if page.startswith("man1"):
        for command in COMMANDS:
            assert f"up42fs {command}" in shown


def complete(installed: Path, *words: str) -> list[str]:
    script = installed / "usr/local/share/bash-completion/completions/up42fs"
    line = " ".join(words)
    program = (
        f'source "{script}"; COMP_WORDS=({line} ""); COMP_CWORD={len(words)}; '
        f'COMP_LINE="{line} "; COMP_POINT=${{#COMP_LINE}}; COMPREPLY=(); '
        '_shtab_up42fs; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    return check("bash", "-c", program).split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes_commands_and_options(installed: Path) -> None:
    assert set(COMMANDS) <= set(complete(installed, "up42fs"))
    assert {"eu", "sa"} <= set(complete(installed, "up42fs", "login", "--region"))


@pytest.mark.parametrize(
    ("shell", "path"),
    [
        ("zsh", "zsh/site-functions/_up42fs"),
        ("fish", "fish/vendor_completions.d/up42fs.fish"),
    ],
)
def test_other_shells_take_their_completions(installed: Path, shell: str, path: str) -> None:
    script = installed / "usr/local/share" / path
    text = script.read_text()
    assert all(command in text for command in COMMANDS)
    if shutil.which(shell):
        check(shell, "-n", script)


# systemd ----------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
@pytest.mark.parametrize(
    ("kind", "unit", "name"),
    [
        ("--system", "system/up42fs@.service", "up42fs@mnt-up42.service"),
        ("--user", "user/up42fs.service", "up42fs.service"),
    ],
)
def test_units_are_sound(installed: Path, tmp_path: Path, kind: str, unit: str, name: str) -> None:
    text = (installed / "usr/local/lib/systemd" / unit).read_text()
    text = text.replace("/usr/local/bin/up42fs", f"{installed}/usr/local/bin/up42fs")
    (tmp_path / name).write_text(text.replace("man:up42fs(1)", "https://example.com"))
    env = {"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)}
    done = run("systemd-analyze", "verify", kind, tmp_path / name, env=env)
    said = [line for line in done.stderr.splitlines() if "up42fs" in line]
    assert (done.returncode, said) == (0, []), done.stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
@pytest.mark.claim("S109")
def test_the_service_of_the_system_can_do_little_else(installed: Path, tmp_path: Path) -> None:
    unit = installed / "usr/local/lib/systemd/system/up42fs@.service"
    said = run("systemd-analyze", "security", "--offline=true", "--threshold=45", unit)
    assert said.returncode == 0, said.stdout
    # Each of these makes a mount namespace, and nobody outside it would see the mount.
    text = unit.read_text()
    for name in ("PrivateTmp", "PrivateDevices", "PrivateMounts", "ProtectSystem", "ProtectHome",
                 "ProtectProc", "ProtectKernel", "ProtectControlGroups", "ReadOnlyPaths",
                 "ReadWritePaths", "InaccessiblePaths", "MountFlags", "RootDirectory"):  # fmt: skip
        assert not re.search(rf"^{name}\w*=", text, re.MULTILINE), name


@IN_A_NAMESPACE
@pytest.mark.mount
@pytest.mark.claim("S109")
def test_a_mount_works_with_the_rights_of_the_service(
    sample: Emulator, installed: Path, tmp_path: Path
) -> None:
    unit = (installed / "usr/local/lib/systemd/system/up42fs@.service").read_text()
    wanted = re.search(r"^CapabilityBoundingSet=(.*)$", unit, re.MULTILINE)
    assert wanted is not None
    rights = ",".join("+" + name.removeprefix("CAP_").lower() for name in wanted[1].split())
    (tmp_path / "mnt").mkdir()
    dump = subprocess.Popen(
        ["setpriv", f"--bounding-set=-all,{rights}", "--no-new-privs", "--",
         "setpriv", "--dump"], stdout=subprocess.PIPE, text=True)  # fmt: skip
    assert "no_new_privs: 1" in dump.communicate(timeout=20)[0]
    process = subprocess.Popen(
        ["setpriv", f"--bounding-set=-all,{rights}", "--no-new-privs", "--", *UP42FS, "mount",
         "--foreground", "--cache-dir", str(tmp_path / "cache"), str(tmp_path / "mnt")],
        env=environ(sample.env), stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_until(lambda: os.path.isdir(tmp_path / "mnt/assets"), 20, "the mount answers")
        assert (tmp_path / "mnt/assets").is_dir()
        name = next(path for path in (tmp_path / "mnt/assets").iterdir() if path.is_file())
        assert name.read_bytes()
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
    assert mount_at(tmp_path / "mnt") is None


@pytest.mark.mount
def test_a_service_tells_when_it_is_ready(sample: Emulator, tmp_path: Path) -> None:
    """Type=notify: READY once the mount answers, STOPPING at its end."""
    (tmp_path / "mnt").mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        channel.settimeout(20)
        process = subprocess.Popen(
            [*UP42FS, "mount", "--foreground", "--cache-size", "0", str(tmp_path / "mnt")],
            env=environ(sample.env | {"NOTIFY_SOCKET": str(tmp_path / "notify")}),
            stderr=subprocess.DEVNULL,
        )
        try:
            assert b"READY=1" in channel.recv(4096).split(b"\n")
            assert "assets" in os.listdir(tmp_path / "mnt")
            process.terminate()
            assert channel.recv(4096) == b"STOPPING=1"
            assert process.wait(20) == 0
        finally:
            process.kill()
            process.wait()
    assert mount_at(tmp_path / "mnt") is None


FSTAB_OPTIONS = "umask=027,_netdev,nofail,x-systemd.automount"


@pytest.mark.skipif(not FSTAB_GENERATOR.exists(), reason="no systemd-fstab-generator")
def test_the_fstab_line_makes_an_automount(tmp_path: Path) -> None:
    fstab = tmp_path / "fstab"
    fstab.write_text(f"eu /mnt/up42 up42fs {FSTAB_OPTIONS} 0 0\n")
    units = tmp_path / "units"
    units.mkdir()
    check(FSTAB_GENERATOR, units, units, units, env={"SYSTEMD_FSTAB": str(fstab)})
    assert (units / "mnt-up42.automount").exists()
    mount = (units / "mnt-up42.mount").read_text()
    assert "Type=up42fs" in mount
    assert list(units.glob("remote-fs.target.*/mnt-up42.automount"))


# mount(8) ---------------------------------------------------------------------------------------


@pytest.fixture
def in_place(installed: Path, tmp_path: Path) -> list[str]:
    """A command that runs a script where /usr/sbin also has what was installed."""
    overlay = (
        f"mount -t overlay overlay -o lowerdir={installed}/sbin:/usr/sbin /usr/sbin && "
        f"mount --bind {installed}/usr/local/bin /usr/local/bin && "
        f"mount --bind {installed}/opt /opt && "
    )
    return ["unshare", "-m", "sh", "-c", overlay + 'exec sh -ec "$0" sh "$@"']


@IN_A_NAMESPACE
@pytest.mark.mount
@pytest.mark.skipif(not Path("/sbin").is_symlink(), reason="/sbin is no link to /usr/sbin")
def test_fstab_and_mount_8_through_the_helper(
    sample: Emulator, in_place: list[str], tmp_path: Path
) -> None:
    place = tmp_path / "mnt"
    place.mkdir()
    credentials = tmp_path / "credentials.json"
    account = {name: sample.ready[name] for name in ("username", "password")}
    credentials.write_text(json.dumps(account))
    credentials.chmod(0o600)
    fstab = tmp_path / "fstab"
    fstab.write_text(f"up42 {place} up42fs {FSTAB_OPTIONS},credentials={credentials} 0 0\n")
    servers = {k: v for k, v in sample.env.items() if k.endswith("_URL")}
    script = 'mount -T "$1" "$2" && findmnt -no FSTYPE "$2" && stat -c %a "$2/assets"; umount "$2"'
    said = check(*in_place, script, fstab, place, env={**servers, "HOME": str(tmp_path)})
    assert said.split() == ["fuse.up42fs", "750"]
    script = 'mount -t up42fs up42 "$2" -o credentials="$1" && ls "$2"; umount "$2"'
    said = check(*in_place, script, credentials, place, env={**servers, "HOME": str(tmp_path)})
    assert "assets" in said.split()


EVERY_OPTION = (
    "_netdev,nofail,owner,group,comment=for the GIS team,x-gvfs-show,strictatime,lazytime,"
    "nodev,nosuid,noexec"
)
_ALL_TWICE = """
umount -l -a -t fuse.up42fs || true
for place in "$3" "$4" "$3"; do
    cd "$place" && mount -a -v -T "$1"
    test "$(grep -c " $2 " /proc/self/mountinfo)" = 1
    findmnt -no SOURCE "$2"
done
umount "$2"
mount -f -T "$1" "$2"
! mountpoint -q "$2"
"""


@IN_A_NAMESPACE
@pytest.mark.mount
@pytest.mark.claim("S105")
@pytest.mark.skipif(not Path("/sbin").is_symlink(), reason="/sbin is no link to /usr/sbin")
@pytest.mark.parametrize("first", ["here", "beside"])
def test_mount_a_again_finds_it_mounted(
    sample: Emulator, in_place: list[str], tmp_path: Path, first: str
) -> None:
    """Status 0 each time, also where a directory is called as the source is."""
    for name in ("mnt", "here", "beside/eu"):
        (tmp_path / name).mkdir(parents=True)
    places = sorted((tmp_path / "here", tmp_path / "beside"), key=lambda path: path.name != first)
    credentials = tmp_path / "credentials.json"
    credentials.write_text(json.dumps({k: sample.ready[k] for k in ("username", "password")}))
    credentials.chmod(0o600)
    options = EVERY_OPTION.replace(" ", "\\040")
    fstab = tmp_path / "fstab"
    line = f"eu {tmp_path}/mnt up42fs {options},credentials={credentials},region=eu 0 0\n"
    fstab.write_text(line)
    servers = {k: v for k, v in sample.env.items() if k.endswith("_URL")}
    env = {**servers, "HOME": str(tmp_path)}
    said = check(*in_place, _ALL_TWICE, fstab, tmp_path / "mnt", *places, env=env)
    assert said.split().count("eu") == 3
    assert said.count("successfully mounted") + said.count("already mounted") == 3
    assert said.count("already mounted") == 1


# udev -------------------------------------------------------------------------------------------


def mountinfo(root: Path, *lines: str) -> None:
    (root / "proc/self").mkdir(parents=True, exist_ok=True)
    (root / "proc/self/mountinfo").write_text("\n".join(lines) + "\n")


OTHER = "30 1 0:50 / /x rw - fuse.rclone r rw,user_id=7,group_id=7"
OURS = "31 1 0:51 / /mnt/up42 rw,nosuid - fuse.up42fs up42:eu ro,user_id=4711,group_id=5"


_ON_DEMAND = """
set -e
{python} {script} "$1" {up42fs} mount "$1" --log-file "$2" --cache-dir "$3" -o refresh=3600
grep " $1 " /proc/self/mountinfo | sed 's/.* - //; s/ .*//'
{up42fs} unmount "$1"
grep " $1 " /proc/self/mountinfo | sed 's/.* - //; s/ .*//'
"""


@IN_A_NAMESPACE
def test_it_is_mounted_by_an_automounter_when_somebody_looks(
    sample: Emulator, tmp_path: Path
) -> None:
    """As by x-systemd.automount: until it is mounted all wait but the automounter's group."""
    (tmp_path / "mnt").mkdir()
    script = Path(__file__).with_name("automount_script.py")
    steps = _ON_DEMAND.format(python=sys.executable, script=script, up42fs=" ".join(UP42FS))
    places = [str(tmp_path / name) for name in ("mnt", "log", "cache")]
    done = run("unshare", "-m", "sh", "-c", steps, "sh", *places, env=sample.env)
    if done.returncode == 3:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, (done.stdout, done.stderr)
    *names, first, second, third = done.stdout.split()
    assert (first, second, third) == ("autofs", "fuse.up42fs", "autofs")
    # Views that need the assets may come a moment later.
    assert set(names) - {"jobs", "workspaces"} == {
        *("README.txt", "assets", "cnam", "orders", "search", "stac", "tags"),
    }


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_udev_gives_the_owner_the_read_ahead(tmp_path: Path) -> None:
    mountinfo(tmp_path, OTHER, OURS)
    for device in ("0:50", "0:51"):
        (tmp_path / f"sys/class/bdi/{device}").mkdir(parents=True)
        (tmp_path / f"sys/class/bdi/{device}/read_ahead_kb").write_text("128")
        check(READ_AHEAD, device, env={"UP42FS_ROOT": str(tmp_path)})
    assert (tmp_path / "sys/class/bdi/0:51/read_ahead_kb").stat().st_uid == 4711
    assert (tmp_path / "sys/class/bdi/0:50/read_ahead_kb").stat().st_uid == 0


@pytest.mark.mount
@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_read_ahead_is_set_when_it_becomes_possible(sample: Emulator, mount) -> None:
    there = mount(sample)
    mounted = mount_at(there.path)
    assert mounted is not None
    path = Path(f"/sys/class/bdi/{mounted.device}/read_ahead_kb")
    if not os.access(path, os.W_OK):
        pytest.skip("read-ahead cannot be set here")
    wait_until(lambda: path.read_text() == "1024\n", 10, "the read-ahead is raised")
    assert there.status()["kernel"]["read_ahead_kib"] == 1024

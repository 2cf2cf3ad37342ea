"""Titles and tags edited through real mounts: by shell tools and Python, under faults, undone."""

from __future__ import annotations

import errno
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness import (
    FORKED,
    IN_A_NAMESPACE,
    UP42FS,
    Emulator,
    Mount,
    as_nobody,
    check,
    emulator,
    interpreter_for_others,
    mount_lines,
    mounted,
    run,
    wait_until,
)

pytestmark = pytest.mark.mount

TITLE, TAGS = "user.up42.title", "user.up42.tags"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("edits")


@pytest.fixture(scope="module")
def service(home: Path) -> Iterator[Emulator]:
    """An emulator whose mounts keep journals below `home`."""
    with emulator() as running:
        running.env["XDG_STATE_HOME"] = str(home / "state")
        yield running


@pytest.fixture(scope="module")
def rw(service: Emulator, home: Path) -> Iterator[Mount]:
    # It looks for changes by itself only when asked: requests are counted.
    with mounted(service.env, "-o", "rw,refresh=3600", home=home) as mount:
        yield mount


@pytest.fixture
def asset(service: Emulator, rw: Mount) -> Iterator[str]:
    """The name of an asset with the title "First" and the tags one and two; all else untouched."""
    asset_id = service.asset("quicklook.png")
    rows = {row["id"]: row for row in service.remote.storage()["assets"]}
    service.remote.storage("set_metadata", id=asset_id, title="First", tags=["one", "two"])
    refreshed(rw, service)
    yield "quicklook.png"
    service.remote.faults(
        fail_status=None, fail_next=None, fail_applied=False, drop_request=False,
        reset_before_headers=False, fail_route=None, retry_after=None, fail_body=None,
        fail_object=None,
    )  # fmt: skip
    for row in service.remote.storage()["assets"]:
        was = rows[row["id"]]
        if (row["title"], row["tags"]) != (was["title"], was["tags"]):
            service.remote.storage(
                "set_metadata", id=row["id"], title=was["title"], tags=was["tags"]
            )
    refreshed(rw, service)
    for directory in (rw.path / "tags").iterdir():
        if not any(directory.iterdir()):
            directory.rmdir()


def agrees(mount: Mount, service: Emulator) -> bool:
    """Whether titles and tags that the mount shows are those that the service has."""
    for row in service.remote.storage()["assets"]:
        path = mount.path / "assets" / row["id"]
        title, tags = attribute(path, TITLE), attribute(path, TAGS)
        if (title, set(tags.split(",") if tags else [])) != (row["title"], set(row["tags"] or [])):
            return False
    return True


def attribute(path: Path, name: str) -> str | None:
    """The attribute's text; None without it (a refresh may take it away at any moment)."""
    try:
        return os.getxattr(path, name).decode()
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise
        return None


def refreshed(mount: Mount, service: Emulator) -> None:
    """The mount has seen what the service has."""
    os.kill(mount.pid, signal.SIGHUP)
    wait_until(lambda: agrees(mount, service), 20, "the mount shows what the service has")


def looked_again(mount: Mount) -> None:
    """The mount looked for changes and took over what it found."""

    def age_s() -> float:
        return float(mount.status()["catalogue"]["assets"]["seconds_since_refresh"])

    wait_until(lambda: age_s() > 0.4, 5, "a refresh that is told from the next one")
    born_s = time.monotonic() - age_s()
    os.kill(mount.pid, signal.SIGHUP)
    wait_until(lambda: time.monotonic() - age_s() > born_s + 0.2, 10, "a refresh")


def row(service: Emulator, name: str) -> tuple[str | None, list[str]]:
    """Title and tags that the service has."""
    found = next(row for row in service.remote.storage()["assets"] if row["name"] == name)
    return found["title"], found["tags"] or []


def shell(mount: Mount, script: str) -> str:
    return check("sh", "-euc", script, cwd=mount.path)


def edits_made(service: Emulator, since: int) -> dict[str, int]:
    """Requests of edits; a mount looks for changes, crawls and learns sizes whenever it likes."""
    routes = ("assets.metadata", "assets.update", "stac.update")
    return {route: n for route, n in service.requests(since).items() if route in routes}


@contextmanager
def requests(service: Emulator, count: int) -> Iterator[None]:
    """So many assets are read afresh and written, each once."""
    before = service.remote.position()
    yield
    expected = {"assets.metadata": count, "assets.update": count} if count else {}
    assert edits_made(service, before) == expected


# what the issue lists, from the shell and from Python


def test_attributes_from_the_shell(service: Emulator, rw: Mount, asset: str) -> None:
    path = f"assets/{asset}"
    before = os.stat(rw.path / path)
    with requests(service, 1):
        shell(rw, f"setfattr -n {TITLE} -v 'Vor dem Sturm, 3 °C' {path}")
    assert row(service, asset) == ("Vor dem Sturm, 3 °C", ["one", "two"])
    with requests(service, 1):
        shell(rw, f"setfattr -n user.xdg.tags -v one,new,with/slash {path}")  # as Dolphin does
    assert row(service, asset)[1] == ["one", "new", "with/slash"]
    assert os.getxattr(rw.path / path, "user.xdg.comment").decode() == "Vor dem Sturm, 3 °C"
    assert os.getxattr(rw.path / path, TAGS) == b"one,new,with/slash"
    after = os.stat(rw.path / path)
    assert after.st_ctime_ns > before.st_ctime_ns
    assert after.st_mtime_ns == before.st_mtime_ns
    assert after.st_nlink == before.st_nlink + 1
    assert {"one", "new", "with_slash"} <= set(os.listdir(rw.path / "tags"))
    assert "two" not in os.listdir(rw.path / "tags")
    shell(rw, f"setfattr -x {TITLE} {path}; setfattr -x user.xdg.tags {path}")
    assert row(service, asset) == (None, [])
    assert run("setfattr", "-x", TITLE, rw.path / path).returncode == 1


def test_attributes_under_every_name_and_on_files_of_an_asset(service, rw, asset) -> None:
    name = "elevation_berlin.tif"
    tag = next(tag for tag in os.listdir(rw.path / "tags") if tag.startswith("berlin"))
    files = next(p for p in (rw.path / "assets").iterdir() if p.name == "elevation_berlin")
    file = next(p for p in files.iterdir() if p.suffix != ".json")
    places = [
        rw.path / "assets" / name,
        rw.path / "tags" / tag / name,
        rw.path / "cnam/SUCCESSFUL" / name,
        rw.path / "assets" / service.asset(name),
        files,
        file,
    ]
    for number, place in enumerate(places):
        os.setxattr(place, "user.xdg.comment", f"title {number}".encode())
        assert row(service, name)[0] == f"title {number}"
        assert {os.getxattr(other, TITLE) for other in places} == {f"title {number}".encode()}
        properties = json.loads((files / "item.json").read_bytes())["properties"]
        assert properties["up42-user:title"] == f"title {number}"


def test_tags_as_directories_from_the_shell(service: Emulator, rw: Mount, asset: str) -> None:
    with requests(service, 0):
        shell(rw, "mkdir tags/berlin tags/hamburg && test -d tags/berlin")
    with requests(service, 2):
        shell(rw, f"ln assets/{asset} tags/berlin/ && cp -l assets/report.json tags/berlin/")
    assert row(service, asset)[1] == ["one", "two", "berlin"]
    assert row(service, "report.json")[1] == ["berlin"]
    assert shell(rw, "ls tags/berlin").split() == [asset, "report.json"]
    with requests(service, 1):
        shell(rw, "mv tags/berlin/report.json tags/hamburg/")
    assert row(service, "report.json")[1] == ["hamburg"]
    with requests(service, 1):
        shell(rw, "mv tags/berlin 'tags/Berlin 2026'")
    assert row(service, asset)[1] == ["one", "two", "Berlin 2026"]
    assert "berlin" not in os.listdir(rw.path / "tags")
    assert run("rmdir", rw.path / "tags/hamburg").stderr.endswith("Directory not empty\n")
    shell(rw, "rm -r 'tags/Berlin 2026' tags/hamburg")
    assert row(service, asset)[1] == ["one", "two"]
    assert row(service, "report.json")[1] == []
    assert not {"hamburg", "Berlin 2026"} & set(os.listdir(rw.path / "tags"))


def test_tags_as_directories_from_python(service: Emulator, rw: Mount, asset: str) -> None:
    tags, path = rw.path / "tags", rw.path / "assets" / asset
    os.mkdir(tags / "p")
    links = path.stat().st_nlink
    os.link(path, tags / "p" / asset)
    assert path.stat().st_nlink == links + 1
    assert (tags / "p" / asset).stat().st_ino == path.stat().st_ino
    os.mkdir(tags / "q")
    os.rename(tags / "p" / asset, tags / "q" / asset)
    assert (os.listdir(tags / "p"), os.listdir(tags / "q")) == ([], [asset])
    os.rmdir(tags / "p")
    os.rename(tags / "q", tags / "p")
    assert os.listdir(tags / "p") == [asset]
    os.unlink(tags / "p" / asset)
    assert path.stat().st_nlink == links
    os.rmdir(tags / "p")
    # Made again: the kernel does not take it for the dead one, also for who stands in it.
    for _ in range(3):
        os.mkdir(tags / "p")
        descriptor = os.open(tags / "p", os.O_RDONLY)
        os.link(path, tags / "p" / asset)
        assert os.listdir(tags / "p") == [asset]
        os.unlink(tags / "p" / asset)
        os.rmdir(tags / "p")
        os.close(descriptor)


def test_a_tag_is_renamed_on_many_assets_at_once(service: Emulator, rw: Mount, asset) -> None:
    names = sorted(os.listdir(rw.path / "tags/harbour"))
    zips = [name for name in names if name.endswith(".zip")]
    count = len(zips)
    assert count > 3
    with requests(service, count):
        os.rename(rw.path / "tags/harbour", rw.path / "tags/port")
    assert sorted(os.listdir(rw.path / "tags/port")) == names
    assert "harbour" not in os.listdir(rw.path / "tags")
    # One of them cannot: the rest is done, the error told, the tree is what the service has.
    missing = next(
        r["id"] for r in service.remote.storage()["assets"] if "port" in (r["tags"] or [])
    )
    service.remote.faults(fail_route="assets.update", fail_object=missing, fail_status=403)
    with pytest.raises(PermissionError):
        os.rename(rw.path / "tags/port", rw.path / "tags/quay")
    service.remote.faults(fail_object=None, fail_status=None)
    assert f"{count - 1} of {count} assets done" in rw.log.read_text()
    left = [name for name in os.listdir(rw.path / "tags/port") if name.endswith(".zip")]
    moved = [name for name in os.listdir(rw.path / "tags/quay") if name.endswith(".zip")]
    assert (len(left), len(moved)) == (1, count - 1)


def test_copying_onto_a_mount_that_matches_changes_nothing(service, rw, asset, tmp_path) -> None:
    order = rw.path / "orders/Naming oddities"
    check("rsync", "-aX", f"{order}/", tmp_path / "copy")
    check("cp", "-a", order, tmp_path / "cp")
    before = service.remote.position()
    assert check("rsync", "-aiX", "--ignore-times", "--size-only", f"{tmp_path}/copy/", order) == ""
    assert check("rsync", "-aiX", f"{tmp_path}/cp/", order) == ""
    assert edits_made(service, before) == {}
    # One title differs: it alone is set, though rsync sets every attribute of that file.
    name = next(path.name for path in sorted((tmp_path / "copy").iterdir()) if path.is_file())
    os.setxattr(tmp_path / "copy" / name, TITLE, b"from rsync")
    stale = ["--filter=-x user.up42.updated_at", "--filter=-x user.xdg.comment"]
    check("rsync", "-aX", *stale, f"{tmp_path}/copy/", order)
    assert os.getxattr(order / name, TITLE) == b"from rsync"
    assert service.requests(before)["assets.update"] == 1


def test_what_was_cached_shows_the_new_state_at_once(service, rw, asset, tmp_path) -> None:
    """Names, link counts and attributes that another process looked at a moment ago."""
    other = subprocess.Popen(
        [sys.executable, "-c", "import os\nwhile True: print(eval(input()), flush=True)"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=rw.path,
    )  # fmt: skip
    stdin, stdout = other.stdin, other.stdout
    assert stdin is not None
    assert stdout is not None

    def seen(expression: str) -> str:
        stdin.write(expression + "\n")
        stdin.flush()
        return stdout.readline().strip()

    with other:
        assert seen(f"os.path.exists('tags/new/{asset}'), os.listdir('search')") == "(False, [])"
        assert seen("os.listdir('search/tag=new')") == "[]"
        assert seen(f"os.path.exists('search/tag=new/{asset}')") == "False"
        links = int(seen(f"os.stat('assets/{asset}').st_nlink"))
        tags = int(seen("os.stat('tags').st_nlink"))
        os.setxattr(rw.path / "assets" / asset, TAGS, b"one,two,new")
        assert seen(f"os.path.exists('tags/new/{asset}')") == "True"
        assert seen(f"os.stat('assets/{asset}').st_nlink") == str(links + 1)
        assert seen("os.stat('tags').st_nlink") == str(tags + 1)
        assert seen("os.listdir('search/tag=new')") == f"['{asset}']"
        assert seen(f"os.path.exists('search/tag=new/{asset}')") == "True"
        assert seen(f"os.getxattr('tags/new/{asset}', '{TAGS}')") == "b'one,two,new'"
        document = f"__import__('json').loads(os.getxattr('assets/{asset}', 'user.up42.json'))"
        assert seen(document + "['tags']") == "['one', 'two', 'new']"
        # A name that is made of the title.
        titled = "Named by its title only.zip"
        found = next(n for n in os.listdir(rw.path / "assets") if n.startswith("Named by"))
        assert seen(f"os.path.exists('assets/{found}'), os.path.exists('assets/Other.zip')") == (
            "(True, False)"
        )
        os.setxattr(rw.path / "assets" / found, TITLE, b"Other")
        assert seen(f"os.path.exists('assets/{found}'), os.path.exists('assets/Other.zip')") == (
            "(False, True)"
        ), titled
        stdin.close()


def test_a_tag_added_in_the_console_a_moment_ago_survives(service, rw, asset) -> None:
    service.remote.storage("set_metadata", id=service.asset(asset), tags=["one", "two", "console"])
    os.setxattr(rw.path / "assets" / asset, TAGS, b"one,mine")
    assert set(row(service, asset)[1]) == {"one", "console", "mine"}
    assert os.path.exists(rw.path / "tags/console" / asset)


# what is refused


EXPECTED = {
    "setfattr -n user.up42.tags -v 'a#b' {}": "Invalid argument",
    "setfattr -n user.up42.title -v \"$(printf 'a\\nb')\" {}": "Invalid argument",
    "setfattr -n user.up42.id -v x {}": "Operation not permitted",
    "setfattr -n user.up42.stac.title -v x {}": "Operation not permitted",
    "setfattr -n user.mine -v x {}": "Operation not supported",
    # The kernel itself refuses those to everybody but root.
    "setfattr -n trusted.mine -v x {}": "Operation not "
    + ("supported" if os.getuid() == 0 else "permitted"),
    "setfattr -x user.up42.id {}": "Operation not permitted",
    "setfattr -x user.up42.nothing {}": "No such attribute",
    "mkdir 'tags/a,b'": "Invalid argument",
    "mkdir tags/one/sub": "Read-only file system",
    "mkdir assets/x": "Read-only file system",
    "rmdir orders/*": "Read-only file system",
    "ln assets/report.json tags/one/other.json": "Operation not permitted",
    "ln {} assets/other.png": "Read-only file system",
    "ln -s {} tags/one/x": "Read-only file system",
    "rm {}": "Read-only file system",
    "rm -r assets": "Read-only file system",
    "rm -r cnam/SUCCESSFUL": "Read-only file system",
    "mv assets/report.json tags/two/": "Read-only file system",
    "mv tags/one assets/": "Read-only file system",
    "mv tags/one/quicklook.png tags/one/x.png": "Operation not permitted",
    "cp {} tags/one/copy.png": "Read-only file system",
    "cp /bin/sh tags/one/": "Read-only file system",
    "cp /bin/sh {}": "Read-only file system",
    "touch {}": "Read-only file system",
    "touch tags/one/new": "Read-only file system",
    "chmod 600 {}": "Read-only file system",
    "truncate -s 0 {}": "Read-only file system",
    "echo x >> {}": "Read-only file system",
}


@pytest.mark.parametrize("command", EXPECTED)
def test_refused_from_the_shell(service: Emulator, rw: Mount, asset: str, command: str) -> None:
    before, read = service.remote.position(), rw.counters().get("store.bytes_delivered")
    done = run("sh", "-c", command.format(f"assets/{asset}"), cwd=rw.path)
    assert done.returncode != 0
    assert EXPECTED[command] in done.stderr
    # At once: no byte of data was read first. `rm -r` goes down into archives before it removes.
    if not command.startswith("rm -r"):
        assert rw.counters().get("store.bytes_delivered") == read
    assert edits_made(service, before) == {}
    assert row(service, asset) == ("First", ["one", "two"])


def test_a_read_only_attribute_is_told_in_the_log(rw: Mount, asset: str) -> None:
    run("setfattr", "-n", "user.up42.producer", "-v", "me", rw.path / "assets" / asset)
    assert "user.up42.producer of this asset is read-only" in rw.log.read_text()


def test_writing_calls_on_a_mount_without_rw(sample_mount: Mount, sample: Emulator) -> None:
    """Every call that writes, by its system call: see `syscalls_script.py`."""
    script = Path(__file__).with_name("syscalls_script.py")
    before = sample.remote.position()
    answers = json.loads(check(sys.executable, script, sample_mount.path))
    assert len(answers) > 50
    wrong = {call: name for call, name in answers.items() if name != "EROFS"}
    assert wrong == {}
    assert "assets.update" not in sample.requests(before)
    options = next(
        line.split()[3]
        for line in mount_lines("mounts")
        if line.split()[1] == str(sample_mount.path)
    )
    assert "ro" in options.split(",")


def test_writing_calls_for_data_on_a_mount_with_rw(rw: Mount, asset: str, service) -> None:
    script = Path(__file__).with_name("syscalls_script.py")
    before = service.remote.storage()["assets"]
    answers = json.loads(check(sys.executable, script, rw.path, "data"))
    assert len(answers) > 40
    wrong = {call: name for call, name in answers.items() if name != "EROFS"}
    # FUSE has no such call on this libfuse; nothing is made either way.
    assert {name for call, name in wrong.items() if "O_TMPFILE" in call} <= {"ENOTSUP"}
    # Nobody but root may give a file away: the kernel says so before it asks the mount.
    kernels = set() if os.getuid() == 0 else {"chown", "fchown", "lchown"}
    assert {name for call, name in wrong.items() if call in kernels} <= {"EPERM"}
    assert {call for call in wrong if "O_TMPFILE" not in call} == kernels
    assert service.remote.storage()["assets"] == before


# faults


OK = 0
FAULTS = [
    # faults on the write, errno, writes that reach the service, whether it is carried out
    ({"fail_status": 400}, errno.EINVAL, 1, False),
    ({"fail_status": 401, "fail_next": 1}, OK, 2, True),
    ({"fail_status": 401}, errno.EACCES, 2, False),
    ({"fail_status": 403}, errno.EACCES, 1, False),
    ({"fail_status": 404}, errno.ENOENT, 1, False),
    ({"fail_status": 409, "fail_next": 1}, OK, 2, True),
    ({"fail_status": 409, "fail_next": 1, "fail_applied": True}, OK, 1, True),
    ({"fail_status": 409}, errno.EBUSY, 5, False),
    ({"fail_status": 429, "fail_next": 2, "retry_after": "0"}, OK, 3, True),
    ({"fail_status": 500, "fail_next": 2}, OK, 3, True),
    ({"fail_status": 500, "fail_next": 1, "fail_applied": True}, OK, 1, True),
    ({"fail_status": 504, "fail_next": 1, "fail_applied": True}, OK, 1, True),
    ({"fail_status": 403, "fail_applied": True}, errno.EACCES, 1, True),
    ({"reset_before_headers": True, "fail_next": 1}, OK, 1, True),
    ({"drop_request": True, "fail_next": 1}, OK, 2, True),
    ({"fail_status": 502, "fail_next": 1, "fail_body": "html"}, OK, 2, True),
]


@pytest.mark.parametrize(("switches", "number", "writes", "done"), FAULTS, ids=lambda v: str(v))
def test_faults_on_the_write(service, rw, asset, switches, number, writes, done) -> None:
    path = rw.path / "assets" / asset
    journal = (rw.path / ".up42fs/changes").read_bytes().splitlines()
    before = service.remote.position()
    service.remote.faults(fail_route="assets.update", **switches)
    os.mkdir(rw.path / "tags/new")
    try:
        os.link(path, rw.path / "tags/new" / asset)
        found = OK
    except OSError as error:
        found = error.errno or -1
    assert found == number
    assert service.requests(before)["assets.update"] == writes
    expected = ["one", "two", "new"] if done else ["one", "two"]
    assert row(service, asset)[1] == expected
    if number == OK:
        assert os.getxattr(path, TAGS) == b"one,two,new"
        added = (rw.path / ".up42fs/changes").read_bytes().splitlines()[len(journal) :]
        assert [json.loads(line)["after"]["tags"] for line in added] == [expected]
        return
    added = (rw.path / ".up42fs/changes").read_bytes().splitlines()[len(journal) :]
    # What UP42 refused was not done; what it did not answer may have been, and can be undone.
    assert [json.loads(line)["uncertain"] for line in added] == [True] * (number == errno.EBUSY)
    said = json.loads(check(*FORKED, "explain", "--json", path))["edit_failed"]
    assert str(switches["fail_status"]) in said
    assert said in rw.log.read_text()
    # Whatever became of it shows at the next look, which has begun.
    service.remote.faults(fail_status=None)
    refreshed(rw, service)
    assert os.getxattr(path, TAGS).decode().split(",") == expected


@pytest.mark.parametrize(
    ("switches", "number"),
    [
        ({"fail_status": 403}, errno.EACCES),
        ({"fail_status": 404}, errno.ENOENT),
        ({"fail_status": 500, "fail_next": 2}, OK),
        ({"reset_before_headers": True, "fail_next": 1}, OK),
    ],
    ids=str,
)
def test_faults_on_the_reading_before(service, rw, asset, switches, number) -> None:
    before = service.remote.position()
    service.remote.faults(fail_route="assets.metadata", **switches)
    try:
        os.setxattr(rw.path / "assets" / asset, TITLE, b"new")
        found = OK
    except OSError as error:
        found = error.errno or -1
    assert found == number
    assert service.requests(before).get("assets.update", 0) == (number == OK)
    assert row(service, asset)[0] == ("new" if number == OK else "First")


# undoing


def test_edits_are_undone_also_by_a_later_mount(service: Emulator, home: Path, asset) -> None:
    mountpoint = home / "again"
    mountpoint.mkdir()
    options = ("-o", "rw,refresh=3600", "--log-file", home / "again.log", "--cache-dir", home / "c")
    path = mountpoint / "assets" / asset
    for turn in range(2):
        check(*UP42FS, "mount", mountpoint, *options, env=service.env)
        try:
            if turn == 0:
                os.setxattr(path, TITLE, b"mistake")
                os.mkdir(mountpoint / "tags/new")
                os.link(path, mountpoint / "tags/new" / asset)
                os.rename(mountpoint / "tags/harbour", mountpoint / "tags/port")
                continue
            shown = check(*FORKED, "undo", "--dry-run", mountpoint, "9")
            assert "renamed harbour to port" in shown.splitlines()[0]
            assert row(service, asset) == ("mistake", ["one", "two", "new"])
            check(*FORKED, "undo", mountpoint)
            assert "harbour" in os.listdir(mountpoint / "tags")
            assert "port" not in os.listdir(mountpoint / "tags")
            service.remote.storage(
                "set_metadata", id=service.asset(asset), tags=["one", "two", "new", "console"]
            )
            check(*FORKED, "undo", mountpoint, "2")
            assert row(service, asset) == ("First", ["one", "two", "console"])
            assert check(*FORKED, "undo", mountpoint) == "nothing to undo\n"
            lines = (mountpoint / ".up42fs/changes").read_text().splitlines()
            undone = [json.loads(line).get("undoes") for line in lines]
            assert [number for number in undone if number][-2:] == [2, 1]
        finally:
            check(*FORKED, "unmount", mountpoint, env=service.env)


def test_undo_says_why_not(service: Emulator, rw: Mount, asset: str, sample_mount: Mount) -> None:
    os.setxattr(rw.path / "assets" / asset, TITLE, b"mistake")
    service.remote.storage("set_metadata", id=service.asset(asset), title="by somebody")
    done = run(*FORKED, "undo", rw.path)
    assert done.returncode == 1
    assert "by somebody" in done.stderr
    assert "the last one failed on" in check(*FORKED, "status", rw.path)
    assert row(service, asset)[0] == "by somebody"
    assert "-o rw" in run(*FORKED, "undo", sample_mount.path).stderr
    assert run(*FORKED, "undo", rw.path, "0").returncode == 2
    done = run("setfattr", "-n", "user.up42.undo", "-v", "999", ".up42fs/changes", cwd=rw.path)
    assert "Invalid argument" in done.stderr


# accounts listed by STAC alone


def test_accounts_that_only_stac_lists(service: Emulator, home: Path, asset: str) -> None:
    name = "PHR1A_stereo_202602031015.zip"  # two items
    with emulator("--assets-gone", "404") as gone:
        gone.env |= service.env | gone.env
        with mounted(gone.env, "-o", "rw,refresh=3600", home=home) as mount:
            for target in (asset, name):
                path = mount.path / "assets" / target
                if not path.exists():  # STAC has no delivered name of it
                    id_ = gone.asset(target)
                    path = mount.path / "assets" / id_
                before = os.stat(path)
                tags = row(gone, target)[1]
                shell(mount, f"setfattr -n {TITLE} -v 'New title' {shlex.quote(str(path))}")
                assert row(gone, target) == ("New title", tags)
                os.mkdir(mount.path / "tags/new")
                os.link(path, mount.path / "tags/new" / path.name)
                assert row(gone, target) == ("New title", [*tags, "new"])
                after = os.stat(path)
                assert after.st_ctime_ns > before.st_ctime_ns
                assert after.st_mtime_ns == before.st_mtime_ns
                assert after.st_nlink == before.st_nlink + 1
                looked_again(mount)  # what STAC says next does not undo it
                assert os.stat(path).st_ctime_ns == after.st_ctime_ns
                assert os.getxattr(path, TITLE) == b"New title"
                gone.remote.faults(fail_route="stac.update", reset_before_headers=True, fail_next=1)
                shell(mount, f"rm -rf tags/new; setfattr -x {TITLE} {shlex.quote(str(path))}")
                assert row(gone, target) == (None, tags)
                gone.remote.faults(reset_before_headers=False, fail_next=None)
            for switches, number in (
                ({"fail_status": 400}, errno.EINVAL),
                ({"fail_status": 403}, errno.EACCES),
                ({"fail_status": 404}, errno.ENOENT),
                ({"fail_status": 401, "fail_next": 1}, OK),
                ({"fail_status": 409, "fail_next": 1}, OK),
                ({"fail_status": 429, "fail_next": 1}, OK),
                ({"fail_status": 500, "fail_next": 1, "fail_applied": True}, OK),
                ({"fail_status": None, "drop_request": True, "fail_next": 1}, OK),
            ):
                gone.remote.faults(**({"fail_next": None, "fail_applied": False} | switches))
                try:
                    os.setxattr(path, TITLE, json.dumps(switches).encode())
                    found = OK
                except OSError as error:
                    found = error.errno or -1
                assert found == number, switches
                assert row(gone, target)[0] == (json.dumps(switches) if number == OK else None)
                gone.remote.faults(fail_status=None, drop_request=False)
                if number == OK:
                    os.removexattr(path, TITLE)
            assert "assets.update" not in gone.requests()


# as usual users do


def test_who_mounts_may_edit_and_gets_erofs_for_the_rest(tmp_path: Path) -> None:
    """Also where the kernel checks modes and ownership: see the next test."""
    said = tmp_path / "said"
    script = f"""
        set -eu
        refused() {{ words=$1; shift; ! "$@" 2> {said}; grep -q "$words" {said}; }}
        a=$(find assets -type f | head -1); a=${{a#assets/}}
        mkdir tags/new
        ln "assets/$a" tags/new/
        mv tags/new tags/newer
        setfattr -n user.xdg.comment -v mine "assets/$a"
        test "$(getfattr --only-values -n {TITLE} "tags/newer/$a")" = mine
        refused "Read-only file system" rm -f "assets/$a"
        refused "Read-only file system" touch "assets/$a"
        refused "Read-only file system" cp /etc/hostname tags/newer/
        refused "Read-only file system" mkdir assets/x
        refused "not permitted" setfattr -n user.up42.id -v x "assets/$a"
        rm "tags/newer/$a"
        rmdir tags/newer
        {shlex.join(UP42FS)} undo . 4
        ! test -e tags/newer
        ! getfattr -n {TITLE} "assets/$a"
    """
    with emulator("--synthetic", "10") as running:
        env = running.env | {"HOME": str(tmp_path)}
        with mounted(env, "-o", "rw,refresh=3600", home=tmp_path) as mount:
            before = running.remote.storage()["assets"]
            shell(mount, script)
            after = running.remote.storage()["assets"]
    changing = ("updated_at", "tags", "title")
    for one, two in zip(before, after, strict=True):
        assert {k: v for k, v in one.items() if k not in changing} == {
            k: v for k, v in two.items() if k not in changing
        }
        assert (one["title"], one["tags"] or []) == (two["title"], two["tags"] or [])


@IN_A_NAMESPACE
@pytest.mark.skipif(interpreter_for_others() is None, reason="no Python that others may run")
def test_it_needs_no_root() -> None:
    assert "1 passed" in as_nobody(Path(__file__), "who_mounts_may_edit")

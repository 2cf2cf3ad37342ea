"""What a user sees in a real mount of the sample storage: names, links, times, df, xattrs."""

from __future__ import annotations

import errno
import json
import os
import urllib.request
from datetime import datetime
from pathlib import Path

import pytest
from harness import Emulator, Mount, check, run

pytestmark = pytest.mark.mount


def test_the_top_of_the_tree(sample_mount: Mount) -> None:
    assert sorted(os.listdir(sample_mount.path)) == [
        "README.txt",
        "assets",
        "cnam",
        "jobs",
        "orders",
        "search",
        "stac",
        "tags",
        "workspaces",
    ]
    assert sorted(os.listdir(sample_mount.path / "cnam")) == [
        "FAILED",
        "IN_PROGRESS",
        "NOT_PROCESSED",
        "SUCCESSFUL",
    ]
    assert sorted(os.listdir(sample_mount.path / ".up42fs")) == [
        "README",
        "log",
        "metrics",
        "refresh",
        "status.json",
    ]


@pytest.mark.claim("S365")
def test_the_text_at_the_top_fits_two_screens_and_costs_nothing(
    sample: Emulator, sample_mount: Mount
) -> None:
    sample_mount.rest()
    before = sum(sample.requests().values())
    path = sample_mount.path / "README.txt"
    lines = path.read_bytes().decode("ascii").split("\n")
    assert lines.pop() == ""
    assert len(lines) <= 48
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert sample.env["UP42_USERNAME"] in text
    assert str(sample_mount.path)[:50] in text
    assert path.stat().st_size == len(text) + 1
    assert check("cat", path) == text + "\n"
    assert check("getfattr", "-d", path, cwd=sample_mount.path) == ""
    with pytest.raises(OSError, match="Read-only"):
        path.write_text("x")
    top = sorted(name for name in os.listdir(sample_mount.path) if name != "README.txt")
    named = {line.split("/")[0].strip() for line in lines if line.startswith("  ")}
    assert set(top) - {"jobs", "workspaces"} <= named
    assert sum(sample.requests().values()) == before


def test_every_asset_is_listed_once_in_assets(sample: Emulator, sample_mount: Mount) -> None:
    known = {asset["id"] for asset in sample.remote.storage()["assets"]}
    names = [path.name for path in files_in(sample_mount.path / "assets")]
    assert len(names) == len(known) == len(set(names))
    ids = {os.getxattr(sample_mount.find(name), "user.up42.id").decode() for name in names}
    assert ids == known


def test_views_agree_with_the_api(sample: Emulator, sample_mount: Mount) -> None:
    assets = sample.remote.storage()["assets"]
    for status in os.listdir(sample_mount.path / "cnam"):
        expected = {a["id"] for a in assets if a["status"] == status}
        assert ids_in(sample_mount.path / "cnam" / status) == expected
    tags = {tag for asset in assets for tag in asset["tags"] or []}
    shown = {
        os.getxattr(entry.path, "user.up42.name").decode(): Path(entry.path)
        for entry in os.scandir(sample_mount.path / "tags")
    }
    assert shown.keys() == tags
    for tag, directory in shown.items():
        expected = {a["id"] for a in assets if tag in (a["tags"] or [])}
        assert ids_in(directory) == expected
    orders = {
        os.getxattr(entry.path, "user.up42.id").decode(): Path(entry.path)
        for entry in os.scandir(sample_mount.path / "orders")
    }
    assert orders.keys() == {a["order_id"] for a in assets if a["order_id"]}
    for order, directory in orders.items():
        assert ids_in(directory) == {a["id"] for a in assets if a["order_id"] == order}


def files_in(directory: Path) -> list[Path]:
    """The assets of a directory, without their own directories of files."""
    return [path for path in directory.iterdir() if path.is_file()]


def ids_in(directory: Path) -> set[str]:
    return {os.getxattr(path, "user.up42.id").decode() for path in files_in(directory)}


@pytest.mark.claim("S51")
def test_one_asset_is_one_inode_under_all_its_names(sample_mount: Mount) -> None:
    names: dict[int, int] = {}
    top = sample_mount.path
    views = ("orders", "tags", "cnam", "workspaces")
    groups = [group for view in views for group in (top / view).iterdir()]
    for directory in (top / "assets", *groups):
        for path in files_in(directory):
            inode = path.stat().st_ino
            names[inode] = names.get(inode, 0) + 1
            assert inode > 1
    assets = files_in(top / "assets")
    assert len(names) == len(assets)
    for path in assets:
        assert path.stat().st_nlink == names[path.stat().st_ino]


@pytest.mark.claim("S51")
def test_inodes_and_names_are_the_same_in_another_mount(sample, sample_mount, mount) -> None:
    other = mount(sample)
    for view in ("assets", "orders", "tags", "cnam/SUCCESSFUL"):
        first = {e.name: e.inode() for e in os.scandir(sample_mount.path / view)}
        second = {e.name: e.inode() for e in os.scandir(other.path / view)}
        assert first == second


@pytest.mark.claim("S29")
def test_names_are_safe(sample_mount: Mount) -> None:
    for _, directories, files in os.walk(sample_mount.path):
        for name in (*directories, *files):
            assert len(os.fsencode(name)) <= 200
            assert name.isprintable() or "\u200b" in name, ascii(name)
            assert name == name.strip()


@pytest.mark.claim("S34")
def test_ids_are_names_too_but_unlisted(sample: Emulator, sample_mount: Mount) -> None:
    asset = next(a for a in sample.remote.storage()["assets"] if a["order_id"] and a["name"])
    by_id = os.stat(sample_mount.path / "assets" / asset["id"])
    shouted = os.stat(sample_mount.path / "assets" / asset["id"].upper())
    assert by_id.st_ino == shouted.st_ino
    assert asset["id"] not in os.listdir(sample_mount.path / "assets")
    order = sample_mount.path / "orders" / asset["order_id"]
    assert asset["id"] in ids_in(order)
    assert os.stat(order / asset["id"]).st_ino == by_id.st_ino


@pytest.mark.claim("S53")
def test_times_modes_owner_and_blocks(sample_mount: Mount) -> None:
    for path in files_in(sample_mount.path / "assets"):
        found = path.stat()
        assert found.st_mode == 0o100644
        assert (found.st_uid, found.st_gid) == (os.getuid(), os.getgid())
        assert found.st_blocks == -(-found.st_size // 512)
        for moment_ns, name in (
            (found.st_mtime_ns, "created_at"),
            (found.st_ctime_ns, "updated_at"),
        ):
            stamp = os.getxattr(path, f"user.up42.{name}").decode()
            moment = datetime.fromisoformat(stamp)
            assert moment_ns == int(moment.timestamp()) * 10**9 + moment.microsecond * 1000
    assert os.stat(sample_mount.path / "orders").st_mode == 0o40755


@pytest.mark.claim("S53")
def test_owner_group_and_umask_are_settable(sample, mount) -> None:
    # The kernel goes by what is shown: a user's own mount must stay open to who is then another.
    umask, mode = ("077", 0o40700) if os.getuid() == 0 else ("022", 0o40755)
    other = mount(sample, "-o", f"uid=1234,gid=99,umask={umask}")
    found = os.stat(other.path / "assets")
    assert (found.st_uid, found.st_gid, found.st_mode) == (1234, 99, mode)


@pytest.mark.claim("S8")
def test_df_shows_the_sum_of_sizes(sample: Emulator, sample_mount: Mount) -> None:
    total = sum(a["size"] or 0 for a in sample.remote.storage()["assets"])
    found = os.statvfs(sample_mount.path)
    assert found.f_blocks == -(-total // 4096)
    assert (found.f_bfree, found.f_bavail) == (0, 0)
    assert found.f_files == len(sample.remote.storage()["assets"])


@pytest.mark.claim("S9")
def test_getfattr_shows_the_listed_names_and_asks_nothing(
    sample: Emulator, sample_mount: Mount
) -> None:
    assert os.listdir(sample_mount.path / "assets")
    before = sample.remote.position()
    shown = check("sh", "-c", "getfattr -d assets/* orders/* orders/*/*", cwd=sample_mount.path)
    assert "user.up42.cnam_status" in shown
    assert "user.up42.order_status" in shown
    assert "download_url" not in shown
    assert "user.up42.json" not in shown
    assert sample.remote.log(before) == []


def test_unlisted_attributes_are_readable(sample: Emulator, sample_mount: Mount) -> None:
    small = [p for p in files_in(sample_mount.path / "assets") if 0 < p.stat().st_size < 9000]
    path = small[0]
    asset_id = os.getxattr(path, "user.up42.id").decode()
    document = json.loads(os.getxattr(path, "user.up42.json"))
    assert document["id"] == asset_id
    assert "geospatialMetadataExtractionStatus" in document
    before = sample.remote.position()
    url = check(
        "getfattr", "--absolute-names", "-n", "user.up42.download_url", "--only-values", path
    )
    assert sample.requests(before) == {"assets.sign": 1}
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == path.read_bytes()
    assert int(os.getxattr(path, "user.up42.cached")) == path.stat().st_size
    order = sample_mount.path / "orders" / os.listdir(sample_mount.path / "orders")[0]
    order_id = os.getxattr(order, "user.up42.id").decode()
    assert json.loads(os.getxattr(order, "user.up42.json"))["id"] == order_id


@pytest.mark.parametrize("name", ["security.selinux", "system.posix_acl_access"])
@pytest.mark.claim("S12")
def test_foreign_attributes_are_not_supported(sample_mount: Mount, name: str) -> None:
    with pytest.raises(OSError) as caught:
        os.getxattr(sample_mount.path / "assets", name)
    assert caught.value.errno == errno.EOPNOTSUPP


@pytest.mark.parametrize("name", ["user.up42.nothing", "user.other"])
@pytest.mark.claim("S11")
def test_unknown_attributes_have_no_data(sample_mount: Mount, name: str) -> None:
    with pytest.raises(OSError) as caught:
        os.getxattr(sample_mount.path / "assets", name)
    assert caught.value.errno == errno.ENODATA


@pytest.mark.claim("S2")
def test_listing_everything_asks_nothing(sample: Emulator, sample_mount: Mount) -> None:
    os.listdir(sample_mount.path / "orders")
    before = sample.remote.position()
    check("sh", "-c", "ls -la . assets orders/* tags/* cnam/*", cwd=sample_mount.path)
    check("find", sample_mount.path / "assets", "-maxdepth", "1", "-size", "+1M")
    check("df", sample_mount.path)
    assert sample.remote.log(before) == []


@pytest.mark.claim("S1")
def test_missing_names_cost_nothing_and_are_remembered(sample: Emulator, sample_mount) -> None:
    path = sample_mount.path / "assets"
    os.listdir(path)
    before = sample.remote.position()
    for suffix in (".aux.xml", ".ovr", ".msk", ".tfw", "_RPC.TXT"):
        for name in os.listdir(path):
            assert not os.path.exists(path / (name[:150] + suffix))
    assert not os.path.exists(sample_mount.path / "no-such-view")
    assert sample.remote.log(before) == []


@pytest.mark.claim("S54")
def test_du_counts_an_asset_once(sample: Emulator, sample_mount: Mount) -> None:
    total = sum(a["size"] or 0 for a in sample.remote.storage()["assets"])
    script = "find assets orders/* tags/* cnam/* -maxdepth 1 -type f -print0 | "
    script += "du -c --apparent-size -B1 --files0-from=- | tail -1"
    assert int(check("sh", "-c", script, cwd=sample_mount.path).split()[0]) == total


def test_status_metrics_and_readme(sample: Emulator, sample_mount: Mount) -> None:
    status = sample_mount.status()
    assert status["assets"] == len(sample.remote.storage()["assets"])
    assert status["catalogue"]["assets"]["complete"] is True
    text = (sample_mount.path / ".up42fs/metrics").read_text()
    assert "up42fs_api_requests" in text
    assert "status.json" in (sample_mount.path / ".up42fs/README").read_text()
    for document in (json.dumps(status), text):
        assert sample.ready["password"] not in document.split()
        assert "Signature" not in document


def first_asset(mountpoint: Path) -> Path:
    return files_in(mountpoint / "assets")[0]


WRITES = {
    "write": lambda p: os.open(first_asset(p), os.O_WRONLY),
    "append": lambda p: os.open(first_asset(p), os.O_RDWR | os.O_APPEND),
    "truncate": lambda p: os.truncate(first_asset(p), 0),
    "create": lambda p: os.open(p / "assets/new", os.O_CREAT | os.O_WRONLY),
    "mknod": lambda p: os.mknod(p / "assets/node"),
    "mkdir": lambda p: os.mkdir(p / "tags/new"),
    "unlink": lambda p: os.unlink(first_asset(p)),
    "rmdir": lambda p: os.rmdir(p / "tags" / os.listdir(p / "tags")[0]),
    "rename": lambda p: os.rename(first_asset(p), p / "assets/x"),
    "link": lambda p: os.link(first_asset(p), p / "assets/x"),
    "symlink": lambda p: os.symlink("x", p / "assets/x"),
    "chmod": lambda p: os.chmod(p / "assets", 0o777),
    "chown": lambda p: os.chown(p / "assets", 1, 1),
    "utime": lambda p: os.utime(p / "assets", (0, 0)),
    "setxattr": lambda p: os.setxattr(p / "assets", "user.x", b"y"),
    "removexattr": lambda p: os.removexattr(p / "assets", "user.up42.title"),
}  # fmt: skip


@pytest.mark.parametrize("call", WRITES)
@pytest.mark.claim("S5")
def test_every_writing_call_is_refused(sample_mount: Mount, call: str) -> None:
    with pytest.raises(OSError) as caught:
        WRITES[call](sample_mount.path)
    assert caught.value.errno == errno.EROFS


def test_copying_out_with_attributes(sample_mount: Mount, tmp_path: Path) -> None:
    order = sample_mount.path / "orders/Naming oddities"
    check("rsync", "-aX", "--no-owner", "--no-group", f"{order}/", tmp_path / "rsync")
    check("cp", "-a", "--no-preserve=xattr", order, tmp_path / "cp")
    check("tar", "-C", order, "-cf", tmp_path / "all.tar", ".")
    for copy in ("rsync", "cp"):
        assert run("diff", "-r", order, tmp_path / copy).stdout == ""
    again = check("rsync", "-aniX", "--no-owner", "--no-group", f"{order}/", tmp_path / "rsync")
    assert again == ""


@pytest.mark.claim("S171")
@pytest.mark.parametrize("copier", ["cp -r", "cp -a", "rsync -a"])
@pytest.mark.parametrize("options", [(), ("-o", "rw"), ("-o", "sidecars")])
def test_copies_can_be_changed_and_deleted(
    sample: Emulator, mount, tmp_path: Path, copier: str, options: tuple[str, ...]
) -> None:
    """By their owner, who may be anybody: as nobody where the tests run as root."""
    there = mount(sample, *options)
    small = [path for path in files_in(there.path / "assets") if path.stat().st_size < 100_000]
    source = there.path / "cnam" / "FAILED"
    copy = Path("/var/tmp") / f"{tmp_path.name}-{copier[:2]}"
    check(*copier.split(), f"{source}/", copy)
    try:
        copied = [path for path in files_in(copy) if not path.is_symlink()]
        assert copied or small
        assert all(path.stat().st_mode == 0o100644 for path in copied)
        assert copy.stat().st_mode == 0o40755
        as_owner: tuple[str, ...] = ()
        if os.getuid() == 0:
            check("chown", "-R", "65534:65534", copy)
            as_owner = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
        check(*as_owner, "touch", copy / "scene.tif.aux.xml", *copied)
        check(*as_owner, "rm", "-r", *copied)
        check(*as_owner, "sh", "-c", 'rm -r "$1"/*', "sh", copy)
    finally:
        check("rm", "-rf", copy)
    for attempt in (
        lambda: (source / "new").mkdir(),
        lambda: (there.path / "assets" / small[0].name).unlink(),
        lambda: open(small[0], "r+b").close(),
        lambda: os.chmod(small[0], 0o600),
    ):
        with pytest.raises(OSError, match=os.strerror(errno.EROFS)):
            attempt()


@pytest.mark.parametrize("length", [256, 300, 1000])
@pytest.mark.claim("S139")
def test_names_that_are_too_long(sample_mount: Mount, length: int) -> None:
    for directory in ("", "assets", "orders", "tags", "search", "stac", ".up42fs"):
        for name in ("a" * length, "ö" * (length // 2)):
            with pytest.raises(OSError) as caught:
                os.stat(sample_mount.path / directory / name)
            assert caught.value.errno == errno.ENAMETOOLONG, directory
            with pytest.raises(OSError) as caught:
                os.mkdir(sample_mount.path / directory / name)
            assert caught.value.errno == errno.ENAMETOOLONG, directory
    with pytest.raises(FileNotFoundError):
        os.stat(sample_mount.path / "assets" / ("a" * 255))

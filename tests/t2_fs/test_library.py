"""`up42fs.FileSystem` against an emulator: bytes, requests, pickles, forks, other libraries."""

from __future__ import annotations

import asyncio
import io
import json
import os
import pickle
import random
import subprocess
import sys
import traceback
import zipfile
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import Emulator, become, emulator, environ

import up42fs
from up42fs.emulator.content import pattern_bytes

fsspec = pytest.importorskip("fsspec", reason="no fsspec: pip install 'up42fs[fsspec]'")

SIZE, SEED = 5_000_000, 7
#: What an import must not load.
HEAVY = {"trio", "httpx", "pycurl", "fsspec", "pyfuse3", "rich", "isal", "ssl", "sqlite3"}
TABLE = b"a,b\n1,2\n3,4\n"


@pytest.fixture(scope="module")
def store() -> Iterator[Emulator]:
    """35 pages of assets, and one file of ours in an order of its own."""
    with emulator("--synthetic", "3500,120,0,20") as running:
        order = running.remote.storage("add_order", display_name="Mine")["id"]
        running.remote.storage("add_asset", name="big.tif", size=SIZE, seed=SEED, order_id=order)
        running.remote.storage(
            "add_asset", name="table.csv", order_id=order, content_base64=b64encode(TABLE).decode()
        )
        yield running


@pytest.fixture
def fs(store: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    become(store, monkeypatch)
    return up42fs.FileSystem(cache_dir=str(tmp_path), mount="never")


@pytest.fixture
def bare(fs: Any) -> Any:
    """Without a disk cache, which a worker on this machine would share."""
    return up42fs.FileSystem(cache_size=0, memory=70, mount="never")


class Requests:
    def __init__(self, store: Emulator) -> None:
        self._store = store
        self._since = store.remote.position()

    def __call__(self) -> dict[str, int]:
        return self._store.requests(self._since)

    def of_api(self) -> int:
        return sum(n for route, n in self().items() if not route.startswith("store"))


def worker(store: Emulator, given: bytes, program: str) -> Any:
    """What `program` prints in another process, which gets `given` unpickled as `given`."""
    script = f"import sys, json, pickle\ngiven = pickle.load(sys.stdin.buffer)\n{program}"
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=given,
        env=environ(store.env),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


# laziness --------------------------------------------------------------------------------------


@pytest.mark.claim("S263")
def test_import_constructor_and_pickle_ask_nothing(fs: Any, store: Emulator) -> None:
    asked = Requests(store)
    again = pickle.loads(pickle.dumps(fs))
    assert isinstance(again, up42fs.FileSystem)
    assert repr(again)
    assert fs._strip_protocol("up42://orders/x/") == "orders/x"
    assert fsspec.core.url_to_fs("up42://orders/x")[1] == "orders/x"
    assert asked() == {}


def test_import_loads_little() -> None:
    script = (
        "import sys, up42fs\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}))\n"
        "print(sorted(name for name in sys.modules if name.startswith('up42fs')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    all_, ours = map(eval, done.stdout.splitlines())
    assert ours == ["up42fs"]
    assert not HEAVY & set(all_)


def test_a_file_system_is_made_and_pickled_without_the_engine() -> None:
    script = (
        "import sys, pickle, up42fs\n"
        "fs = pickle.loads(pickle.dumps(up42fs.FileSystem()))\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}))\n"
        "print(sorted(name for name in sys.modules if name.startswith('up42fs.')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    all_, ours = map(eval, done.stdout.splitlines())
    assert not (HEAVY - {"fsspec", "ssl", "isal"}) & set(all_)  # fsspec loads these itself
    assert len(ours) <= 12, ours


@pytest.mark.claim("S421")
def test_a_first_call_loads_the_engine_and_nothing_that_shows_it(tmp_path: Path) -> None:
    """Collections, which would find nothing, took a tenth of that time."""
    script = (
        "import gc, sys, up42fs\n"
        "fs = up42fs.FileSystem()\n"
        "class Watch:\n"
        "    seen = []\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        self.seen.append((name, gc.isenabled()))\n"
        "sys.meta_path.insert(0, Watch())\n"
        "try:\n"
        "    fs.ls('orders')\n"
        "except OSError:\n"
        "    pass\n"  # it has no login
        "print(sorted({name.partition('.')[0] for name in sys.modules}))\n"
        "print(sorted(name for name in sys.modules if name.startswith('up42fs.')))\n"
        "print([one for one in Watch.seen if one[0].startswith('up42fs.engine') and one[1]])\n"
        "print(gc.isenabled())"
    )
    env = {name: value for name, value in os.environ.items() if not name.startswith("UP42")}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=env | {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    all_, ours, collected, is_on = map(eval, done.stdout.splitlines())
    assert "up42fs.engine.engine" in ours
    assert not {"pyfuse3", "starlette", "hypercorn", "rich"} & set(all_)
    users = ("cli", "doctor", "emulator", "fuse", "mount", "serve", "setup")
    shown = {name for name in ours if name.split(".")[1] in users}
    assert shown <= {"up42fs.fuse", "up42fs.fuse.mount_table"}, "which mounts there are"
    assert collected == []
    assert is_on is True


def test_an_import_takes_a_part_of_the_engines_time() -> None:
    """Both in one process, by its processor time: the first one loads what both share."""
    script = (
        "import time\n"
        "began = time.process_time(); import up42fs.library.filesystem\n"
        "then = time.process_time(); import up42fs.engine\n"
        "print(then - began, time.process_time() - began)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    library_s, all_s = map(float, done.stdout.split())
    assert library_s <= 0.45 * all_s


def test_without_fsspec_the_cure_is_named() -> None:
    script = "import sys\nsys.modules['fsspec'] = None\nimport up42fs\nup42fs.FileSystem"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
    assert "pip install 'up42fs[fsspec]'" in done.stderr.splitlines()[-1]


# reading ---------------------------------------------------------------------------------------


def test_it_reads_what_is_there(fs: Any) -> None:
    data = pattern_bytes(SEED, 0, SIZE)
    assert fs.cat_file("orders/Mine/big.tif") == data
    assert fs.cat_file("up42://orders/Mine/big.tif", start=-5) == data[-5:]
    assert fs.cat_file("/orders/Mine/big.tif", 10, 20) == data[10:20]
    chance = random.Random(1)
    with fs.open("orders/Mine/big.tif") as file:
        assert file.size == SIZE
        for _ in range(300):
            at, size = chance.randrange(SIZE + 10), chance.choice((1, 100, 4096, 300_000))
            file.seek(at)
            assert file.read(size) == data[at : at + size]
        file.seek(0)
        assert file.read() == data
        assert file.read(5) == b""
    with pytest.raises(ValueError, match="closed"):
        file.read(1)


def test_info_ls_find_and_glob(fs: Any) -> None:
    info = fs.info("orders/Mine/big.tif")
    assert (info["size"], info["type"], info["up42.cnam_status"]) == (SIZE, "file", "NOT_PROCESSED")
    assert fs.ls("orders/Mine", detail=False) == ["orders/Mine/big.tif", "orders/Mine/table.csv"]
    assert fs.ls("orders/Mine/big.tif", detail=False) == ["orders/Mine/big.tif"]
    assert fs.glob("orders/M*/*.tif") == ["orders/Mine/big.tif"]
    assert set(fs.find("orders/Mine")) == {"orders/Mine/big.tif", "orders/Mine/table.csv"}
    assert list(fs.walk("orders/Mine")) == [("orders/Mine", [], ["big.tif", "table.csv"])]
    assert {"orders", "assets", "tags"} <= set(fs.ls("", detail=False))
    assert fs.isdir("orders/Mine")
    assert fs.isfile("orders/Mine/big.tif")
    assert not fs.exists("orders/Mine/absent")
    assert fs.exists("")
    assert fs.find("search/size>4M,size<6M") or fs.find("search/cloud<10") == []
    assert fs.sizes(["orders/Mine/big.tif"]) == [SIZE]
    assert fs.modified("orders/Mine/big.tif") >= fs.created("orders/Mine/big.tif")


def test_files_whose_size_is_not_told(fs: Any) -> None:
    (path,) = fs.glob("cnam/SUCCESSFUL/*/*.tiff")[:1]
    listed = {entry["name"]: entry["size"] for entry in fs.ls(path.rpartition("/")[0])}
    assert listed[path] is None
    assert fs.info(path)["size"] == 3 << 20
    assert len(fs.cat_file(path)) == 3 << 20
    by_id = f"id/{fs.info(path)['up42.id']}/any.tif"
    assert fs.cat_file(by_id, 0, 100) == fs.cat_file(path, 0, 100)
    assert fs.info(by_id)["size"] == 3 << 20


def test_keys_and_links(fs: Any) -> None:
    path = "orders/Mine/big.tif"
    assert fs.ukey(path) == fs.ukey("up42://" + path) != fs.ukey("orders/Mine/table.csv")
    link = fs.sign(path)
    from urllib.request import urlopen

    with urlopen(link) as answer:
        assert answer.read(10) == pattern_bytes(SEED, 0, 10)
    assert fs.sign(path) == link


def test_documents_are_files(fs: Any) -> None:
    directory = fs.ls("cnam/SUCCESSFUL", detail=False)
    path = next(path for path in directory if fs.isdir(path))
    with fs.open(f"{path}/item.json") as file:
        assert json.load(file)["type"] == "Feature"


def test_it_works_in_asyncio(fs: Any) -> None:
    async def work() -> tuple[Any, ...]:
        mine = up42fs.FileSystem(**{**fs.storage_options, "asynchronous": True})
        info, names, found = await asyncio.gather(
            mine._info("orders/Mine/big.tif"),
            mine._ls("orders/Mine", detail=False),
            mine._cat_ranges(["orders/Mine/big.tif"] * 2, [0, 1000], [10, 1010]),
        )
        return info["size"], names, found

    size, names, found = asyncio.run(work())
    assert size == SIZE
    assert names == ["orders/Mine/big.tif", "orders/Mine/table.csv"]
    assert found == [pattern_bytes(SEED, 0, 10), pattern_bytes(SEED, 1000, 10)]


@pytest.mark.claim("S265")
def test_ranges_are_exact_merged_and_parallel(fs: Any, store: Emulator) -> None:
    path = "orders/Mine/big.tif"
    fs.info(path)
    asked = store.remote.position()
    starts = [0, 5000, 1_000_000, 1_050_000, 4_000_000, 4_999_990]
    ends = [start + 1000 for start in starts]
    found = fs.cat_ranges([path] * 6, starts, ends)
    assert found == [
        pattern_bytes(SEED, a, min(b, SIZE) - a) for a, b in zip(starts, ends, strict=True)
    ]
    requests = store.remote.log(asked, plane="store")
    assert len(requests) == 4
    assert sum(request["bytes_sent"] for request in requests) <= 200_000
    assert fs.cat_ranges([path, "orders/Mine/absent"], [0, 0], [1, 1])[0] == pattern_bytes(
        SEED, 0, 1
    )
    with pytest.raises(FileNotFoundError):
        fs.cat_ranges(["orders/Mine/absent"], [0], [1], on_error="raise")


def test_small_reads_do_not_cross_threads(fs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with fs.open("orders/Mine/big.tif") as file:
        file.read(1 << 20)
        calls = []
        real = fs.read_by

        def counted(*arguments: Any) -> Any:
            calls.append(arguments)
            return real(*arguments)

        monkeypatch.setattr(fs, "read_by", counted)
        file.seek(0)
        for at in range(0, 1 << 20, 4096):
            assert file.read(4096) == pattern_bytes(SEED, at, 4096)
    assert len(calls) <= 8


def test_a_file_read_from_end_to_end_takes_few_requests(fs: Any, store: Emulator) -> None:
    fs.info("orders/Mine/big.tif")
    since = store.remote.position()
    with fs.open("orders/Mine/big.tif") as file:
        while file.read(4096):
            pass
    sent = store.remote.log(since, plane="store")
    assert len(sent) <= 10
    assert sum(request["bytes_sent"] for request in sent) <= SIZE + 1000


def test_one_read_may_be_long(bare: Any, store: Emulator) -> None:
    size = 20 << 20
    asset = store.remote.storage("add_asset", name="long.bin", size=size, seed=4)["id"]
    with bare.open(f"assets/{asset}") as file:
        file.seek(1000)
        assert file.read(17 << 20) == pattern_bytes(4, 1000, 17 << 20)
        assert file.read() == pattern_bytes(4, 1000 + (17 << 20), size - 1000 - (17 << 20))


def test_what_was_read_is_kept_by_a_process_that_ends_at_once(
    fs: Any, store: Emulator, tmp_path: Path
) -> None:
    asset = store.remote.storage("add_asset", name="kept.bin", size=3_000_000, seed=4)["id"]
    program = "fs, path = given\nprint(len(fs.cat_file(path)))"
    for _ in range(3):  # on a loaded machine a process may end before all is written
        given = pickle.dumps((fs, f"assets/{asset}"))
        asked = store.remote.position()
        assert worker(store, given, program) == 3_000_000
        if not store.remote.log(asked, plane="store"):
            break
    else:
        pytest.fail("nothing is kept")


def test_get_copies_whole_files_or_none(fs: Any, tmp_path: Path) -> None:
    fs.get_file("orders/Mine/big.tif", str(tmp_path / "a/big.tif"))
    assert (tmp_path / "a/big.tif").read_bytes() == pattern_bytes(SEED, 0, SIZE)
    fs.get("orders/Mine", str(tmp_path / "all"), recursive=True)
    assert {path.name for path in (tmp_path / "all").iterdir()} == {"big.tif", "table.csv"}
    with pytest.raises(FileNotFoundError):
        fs.get_file("orders/Mine/absent", str(tmp_path / "b/absent"))
    assert list((tmp_path / "b").iterdir()) == []
    into = io.BytesIO()
    fs.get_file("orders/Mine/table.csv", into)
    assert into.getvalue() == b"a,b\n1,2\n3,4\n"


# workers ---------------------------------------------------------------------------------------

READ = """
import fsspec, os
fs, path = given
names = [path.rpartition("/")[0] + "/" + name for name in (
    "big.tif.aux.xml", "big.aux.xml", "big.tif.ovr", "big.tif.msk", "BIG.TIF.OVR")]
probed = [fs.exists(name) for name in names]
with fs.open(path) as file:
    size, head = file.size, file.read(16)
print(json.dumps([size, head.hex(), probed]))
"""


@pytest.mark.claim("S264")
def test_a_worker_with_facts_asks_for_a_token_and_a_link(bare: Any, store: Emulator) -> None:
    path = "orders/Mine/big.tif"
    bare.ls("orders/Mine")
    given = pickle.dumps((bare, path))
    asked = Requests(store)
    size, head, probed = worker(store, given, READ)
    assert (size, bytes.fromhex(head), any(probed)) == (SIZE, pattern_bytes(SEED, 0, 16), False)
    assert asked() == {"auth.token": 1, "assets.sign": 1, "store.get": 1}


@pytest.mark.claim("S264")
@pytest.mark.parametrize(("path", "most"), [("orders/Mine/big.tif", 4), ("assets/{id}", 3)])
def test_a_worker_without_facts_asks_little(
    bare: Any, store: Emulator, path: str, most: int
) -> None:
    path = path.format(id=store.asset("big.tif"))
    asked = Requests(store)
    given = pickle.dumps((type(bare)(**bare.storage_options), path))
    program = "fs, path = given\nprint(len(fs.cat_file(path, 0, 10)))"
    assert worker(store, given, program) == 10
    assert asked.of_api() <= most, asked()


def test_an_open_file_is_pickled_with_its_facts_and_place(bare: Any, store: Emulator) -> None:
    with bare.open("orders/Mine/big.tif") as file:
        file.seek(100)
        head = file.read(10)
        given = pickle.dumps(file)
        asked = Requests(store)
        said = worker(store, given, "print(json.dumps([given.tell(), given.read(5).hex()]))")
    assert (head, said) == (
        pattern_bytes(SEED, 100, 10), [110, pattern_bytes(SEED, 110, 5).hex()]
    )  # fmt: skip
    assert asked.of_api() == 2, asked()


def test_old_facts_are_looked_up_again(bare: Any, store: Emulator) -> None:
    fs = bare
    asset = store.remote.storage("add_asset", name="moving.bin", size=1000, seed=1)["id"]
    path = f"assets/{asset}"
    assert fs.cat_file(path) == pattern_bytes(1, 0, 1000)
    fs.info(path)
    with fs.open(path) as file:
        file.read(10)
        given = pickle.dumps((fs, path))
        as_file = pickle.dumps(file)
    store.remote.storage("replace_object", id=asset, size=1000, seed=2)
    program = (
        "fs, path = given\nprint(json.dumps([fs.cat_file(path).hex(), fs.open(path).read().hex()]))"
    )
    assert worker(store, given, program) == [pattern_bytes(2, 0, 1000).hex()] * 2
    said = worker(store, as_file, "print(json.dumps(given.read(10).hex()))")
    assert said == pattern_bytes(2, 10, 10).hex()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_an_engine_of_its_own(fs: Any) -> None:
    file = fs.open("orders/Mine/big.tif")
    assert file.read(10) == pattern_bytes(SEED, 0, 10)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            file.seek(2_000_000)
            said = file.read(10) + fs.cat_file("orders/Mine/big.tif", 3_000_000, 3_000_010)
            said += fs.glob("orders/Mine/*.csv")[0].encode()
            os.write(writing, said)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    expected = pattern_bytes(SEED, 2_000_000, 10) + pattern_bytes(SEED, 3_000_000, 10)
    assert said == expected + b"orders/Mine/table.csv"
    assert file.read(10) == pattern_bytes(SEED, 10, 10)


# errors and secrets ----------------------------------------------------------------------------


@pytest.mark.claim("S266")
def test_writing_is_refused(fs: Any, tmp_path: Path) -> None:
    local = tmp_path / "x"
    local.write_bytes(b"x")
    for work in (
        lambda: fs.open("orders/Mine/new", "wb"),
        lambda: fs.open("orders/Mine/big.tif", "ab"),
        lambda: fs.open("orders/Mine/big.tif", "r+b"),
        lambda: fs.rm("orders/Mine/big.tif"),
        lambda: fs.rm_file("orders/Mine/big.tif"),
        lambda: fs.mkdir("new"),
        lambda: fs.makedirs("new/er"),
        lambda: fs.rmdir("orders/Mine"),
        lambda: fs.touch("new"),
        lambda: fs.pipe_file("new", b""),
        lambda: fs.pipe("new", b""),
        lambda: fs.put_file(str(local), "new"),
        lambda: fs.put(str(local), "new"),
        lambda: fs.cp_file("orders/Mine/big.tif", "new"),
        lambda: fs.mv("orders/Mine/big.tif", "new"),
    ):
        with pytest.raises(OSError, match="read-only") as caught:
            work()
        assert caught.value.errno == 30


@pytest.mark.claim("S266")
def test_errors_are_those_of_a_mount(fs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match="there is no absent"):
        fs.open("orders/Mine/absent")
    with pytest.raises(FileNotFoundError):
        fs.info("absent/x")
    with pytest.raises(FileNotFoundError):
        fs.ls("orders/absent")
    with pytest.raises(IsADirectoryError):
        fs.open("orders/Mine")
    with pytest.raises(IsADirectoryError):
        fs.cat_file("orders/Mine")
    with pytest.raises(OSError, match=r"\.\."):
        fs.info("orders/../x")
    monkeypatch.setenv("UP42_PASSWORD", "wrong")
    other = up42fs.FileSystem(cache_size=0, memory=65, mount="never")
    with pytest.raises(PermissionError):
        other.ls("orders")


@pytest.mark.claim("S267")
def test_no_secret_is_pickled_shown_or_raised(fs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    link = fs.sign("orders/Mine/big.tif")
    signature = link.partition("Signature=")[2].partition("&")[0]
    assert signature
    monkeypatch.setenv("UP42_PASSWORD", "hunter2-hunter2")
    other = up42fs.FileSystem(cache_size=0, memory=66, mount="never")
    told = ""
    for broken in (other, fs):
        try:
            broken.open("orders/Mine/absent")
        except OSError as error:
            told += "".join(traceback.format_exception(error)) + repr(error)
    with fs.open("orders/Mine/big.tif") as file:
        file.read(10)
        texts = [pickle.dumps(fs), pickle.dumps(file), told.encode()]
        texts += [
            repr(thing).encode() for thing in (fs, file, fs._facts, other, fs.info(file.path))
        ]
        texts += [fs.to_json().encode(), other.to_json().encode()]
    for text in texts:
        for secret in ("hunter2-hunter2", signature, "Signature=", "Bearer"):
            assert secret.encode() not in text
    with pytest.raises(TypeError, match="UP42_PASSWORD"):
        up42fs.FileSystem(credentials={"username": "me", "password": "x"})  # type: ignore[arg-type]


# other libraries -------------------------------------------------------------------------------


def test_zipfile_reads_it(fs: Any, store: Emulator) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("a.txt", "hello")
    packed = b64encode(content.getvalue()).decode()
    asset = store.remote.storage("add_asset", name="small.zip", content_base64=packed)["id"]
    with fs.open(f"assets/{asset}") as file, zipfile.ZipFile(file) as archive:
        assert archive.read("a.txt") == b"hello"
    path = "orders/Mine/table.csv"
    with fs.open(path, "rt") as file:
        assert file.readlines()[0] == "a,b\n"
    with fs.open(path) as file, pytest.raises(zipfile.BadZipFile):
        zipfile.ZipFile(file)


def test_pandas_reads_it(fs: Any) -> None:
    pandas = pytest.importorskip("pandas", reason="no pandas: pip install pandas")
    frame = pandas.read_csv("up42://orders/Mine/table.csv", storage_options=fs.storage_options)
    assert frame["b"].tolist() == [2, 4]


def test_pyarrow_reads_it(fs: Any) -> None:
    arrow = pytest.importorskip("pyarrow.fs", reason="no pyarrow: pip install pyarrow")
    csv = pytest.importorskip("pyarrow.csv", reason="no pyarrow: pip install pyarrow")
    system = arrow.PyFileSystem(arrow.FSSpecHandler(fs))
    info = system.get_file_info("orders/Mine/big.tif")
    assert (info.type, info.size) == (arrow.FileType.File, SIZE)
    assert system.get_file_info("orders/Mine/absent").type == arrow.FileType.NotFound
    found = system.get_file_info(arrow.FileSelector("orders/Mine"))
    assert {entry.base_name for entry in found} == {"big.tif", "table.csv"}
    with system.open_input_file("orders/Mine/table.csv") as file:
        assert csv.read_csv(file)["a"].to_pylist() == [1, 3]
    with system.open_input_stream("orders/Mine/big.tif") as stream:
        assert stream.read(10) == pattern_bytes(SEED, 0, 10)

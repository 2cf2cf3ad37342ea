"""Beyond one mount: no secret in anything that travels; graphs outlive links in every form."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from harness import Emulator, become, emulator, environ, run, served

import up42fs
from up42fs.emulator.content import pattern_bytes

pytest.importorskip("fsspec", reason="no fsspec: pip install 'up42fs[fsspec]'")

SIZE, SEED = 2_000_000, 7
TABLE = b"a,b\n1,2\n3,4\n"
PASSWORD = "hunter2-of-a-test"
LIFE_S = 3
LONG_S = 20


@pytest.fixture(scope="module")
def store() -> Iterator[Emulator]:
    """The demo's storage, with links that live 3 s and a password of ours."""
    from base64 import b64encode

    with emulator("--link-life-s", str(LIFE_S), "--password", PASSWORD) as running:
        order = running.remote.storage("add_order", display_name="Mine")["id"]
        running.remote.storage("add_asset", name="big.bin", size=SIZE, seed=SEED, order_id=order)
        for name in ("one.csv", "two.csv"):
            content = b64encode(TABLE).decode()
            running.remote.storage("add_asset", name=name, order_id=order, content_base64=content)
        yield running


@pytest.fixture
def fs(store: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    become(store, monkeypatch)
    return up42fs.FileSystem(cache_dir=str(tmp_path / "cache"), mount="never", memory=68)


# secrets ---------------------------------------------------------------------------------------


def secrets_of(link: str) -> list[bytes]:
    """What must stand nowhere: the password, a signature, the word before one, a token."""
    signature = link.partition("Signature=")[2].partition("&")[0]
    assert signature
    return [each.encode() for each in (PASSWORD, signature, "Signature=", "Bearer ey")]


def of_library(fs: Any) -> Iterator[tuple[str, bytes]]:
    with fs.open("orders/Mine/big.bin") as file:
        assert file.read(10) == pattern_bytes(SEED, 0, 10)
        fs.ls("orders/Mine")
        for name, thing in {"fs": fs, "file": file, "facts": fs._facts}.items():
            yield f"pickle of {name}", pickle.dumps(thing)
            yield f"repr of {name}", (repr(thing) + repr(vars(thing))).encode()
        yield "info", repr((fs.info(file.path), fs.to_json(), fs.storage_options)).encode()
    for path in ("orders/Mine/absent", "absent", "orders/Mine/big.bin/x"):
        with pytest.raises(OSError, match=r"there is no|file") as caught:
            fs.open(path)
        error = caught.value
        assert error.__traceback__ is not None
        error.__traceback__ = error.__traceback__.tb_next  # this test's own variables
        shown = traceback.TracebackException.from_exception(error, capture_locals=True)
        yield f"traceback of {path}", "".join(shown.format()).encode()


def of_graphs(fs: Any) -> Iterator[tuple[str, bytes]]:
    cloudpickle = pytest.importorskip("cloudpickle", reason="no Dask: its graphs are not looked at")
    dask = pytest.importorskip("dask", reason="no Dask: its graphs are not looked at")
    bag = pytest.importorskip("dask.bag", reason="no Dask: its graphs are not looked at")
    graph = dask.delayed(len)(dask.delayed(fs.cat_file)("orders/Mine/big.bin"))
    yield "graph of delayed", cloudpickle.dumps(graph)
    lines = bag.read_text("up42://orders/Mine/*.csv", storage_options=fs.storage_options)
    yield "graph of a bag", cloudpickle.dumps(lines) + repr(dict(lines.dask)).encode()


def of_server(store: Emulator, home: Path) -> Iterator[tuple[str, bytes]]:
    token_file = home / "token"
    arguments = ("--log-level", "debug", "--token-file", str(token_file))
    with served(store.env, *arguments, home=home) as server:
        token = token_file.read_text().strip()
        send = {"Authorization": f"Bearer {token}"}
        for page in (
            *("/", "/orders/Mine/", "/orders/Mine/?json", "/status.json", "/metrics", "/-/about"),
            *("/-/info/orders/Mine/big.bin", "/-/cached/orders/Mine", "/stac/catalog.json"),
            *("/absent", "/orders/Mine/big.bin?proxy", "/healthz", "/-/page.js"),
        ):
            answer = requests.get(server.url(page), headers=send, timeout=LONG_S)
            text = answer.content + repr(answer.headers).encode()
            assert token.encode() not in text, page
            yield f"page {page}", text
            yield f"page {page}, refused", requests.get(server.url(page), timeout=LONG_S).content
        requests.get(server.url("/orders/Mine/big.bin"), headers=send, timeout=LONG_S)
        assert token not in server.text()
        yield "log of the server", server.text().encode()


def of_commands(store: Emulator) -> Iterator[tuple[str, bytes]]:
    for words in (
        ("ls", "-l", "orders/Mine"),
        ("info", "--json", "orders/Mine/big.bin"),
        ("cat", "orders/Mine/absent"),
    ):
        done = run(sys.executable, "-m", "up42fs", *words, env=store.env)
        yield f"command {words[0]}", (done.stdout + done.stderr).encode()


@pytest.mark.claim("S296")
def test_nothing_that_travels_or_is_shown_holds_a_secret(
    store: Emulator, fs: Any, tmp_path: Path
) -> None:
    assert store.env["UP42_PASSWORD"] == PASSWORD
    secrets = secrets_of(fs.sign("orders/Mine/big.bin"))
    count = 0
    for told in (of_library(fs), of_server(store, tmp_path), of_commands(store), of_graphs(fs)):
        for name, text in told:
            count += 1
            for secret in secrets:
                assert secret not in text, (name, secret)
    assert count > 30


# engines ---------------------------------------------------------------------------------------


@pytest.mark.claim("S297")
def test_dask_reads_bags_and_dataframes(fs: Any) -> None:
    bag = pytest.importorskip("dask.bag", reason="no dask: pip install 'up42fs[recipes]'")
    frame = pytest.importorskip("dask.dataframe", reason="no dask: pip install 'up42fs[recipes]'")
    options = {"storage_options": fs.storage_options}
    lines = bag.read_text("up42://orders/Mine/*.csv", **options)
    assert sorted(lines.compute(scheduler="sync")) == sorted(
        line + "\n" for line in TABLE.decode().split() * 2
    )
    table = frame.read_csv("up42://orders/Mine/*.csv", **options)
    assert int(table["b"].sum().compute(scheduler="sync")) == 12


@pytest.mark.claim("S297")
def test_ray_reads_it(store: Emulator, fs: Any, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="no ray: pip install ray")
    program = """
import pickle, sys
import ray
fs = pickle.load(sys.stdin.buffer)
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, _temp_dir=sys.argv[1])
@ray.remote
def head(path):
    return fs.cat_file(path, 0, 10)
print(ray.get(head.remote("orders/Mine/big.bin")).hex())
"""
    place = Path("/tmp") / f"up42fs-ray-{os.getpid()}"  # its sockets need a short path
    try:
        done = subprocess.run(
            [sys.executable, "-c", program, str(place)],
            input=pickle.dumps(fs),
            env=environ(store.env) | {"HOME": str(tmp_path), "RAY_USAGE_STATS_ENABLED": "0"},
            capture_output=True,
            timeout=100,
            check=False,
        )
    finally:
        import shutil

        shutil.rmtree(place, ignore_errors=True)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    assert bytes.fromhex(done.stdout.decode().split()[-1]) == pattern_bytes(SEED, 0, 10)


@pytest.mark.claim("S297")
def test_spark_reads_it(store: Emulator, fs: Any, tmp_path: Path) -> None:
    pytest.importorskip("pyspark", reason="no pyspark: pip install pyspark")
    if run("java", "-version").returncode != 0:
        pytest.skip("no java: apt-get install default-jre-headless")
    program = """
import pickle, sys
from pyspark.sql import SparkSession
fs = pickle.load(sys.stdin.buffer)
spark = (SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
         .config("spark.driver.bindAddress", "127.0.0.1").config("spark.driver.host", "127.0.0.1")
         .getOrCreate())
paths = fs.glob("orders/Mine/*.csv")
read = lambda path: fs.cat_file(path).count(b"\\n")
print("sum", sum(spark.sparkContext.parallelize(paths, 1).map(read).collect()))
spark.stop()
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=pickle.dumps(fs),
        env=environ(store.env) | {"HOME": str(tmp_path), "PYSPARK_PYTHON": sys.executable},
        capture_output=True,
        timeout=100,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    assert "sum 6" in done.stdout.decode()

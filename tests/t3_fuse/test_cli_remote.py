"""ls, find, info, cat, cp and url: the storage without a mount, against an emulator."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from argparse import ArgumentTypeError
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from harness import (
    FORKED,
    REPOSITORY,
    UP42FS,
    Emulator,
    check,
    emulator,
    environ,
    run,
    served,
    wait_until,
)
from hypothesis import given
from hypothesis import strategies as st

from up42fs.cli.remote.find import size_test
from up42fs.cli.remote.session import byte_range, moment, span_of
from up42fs.cli.remote.targets import PART_SUFFIX, below, part_of
from up42fs.emulator.content import pattern_bytes
from up42fs.serve import records
from up42fs.types import Version

SIZE, SEED = 3_000_000, 11
ORDER = "Order 00001"


@pytest.fixture(scope="module")
def store() -> Iterator[Emulator]:
    with emulator("--synthetic", "12,3,2,4") as running:
        order = running.remote.storage("add_order", display_name="Köln [west]")["id"]
        for name, size, seed in (
            ("big.bin", SIZE, SEED),
            ("small.tif", 10, 2),
            ("empty.bin", 0, 3),
        ):
            running.remote.storage(
                "add_asset", name=name, size=size, seed=seed, order_id=order, tags=["köln"]
            )
        yield running


@pytest.fixture(scope="module")
def large() -> Iterator[Emulator]:
    """35 pages of assets, and two of orders."""
    with emulator("--synthetic", "3500,120,0") as running:
        yield running


def up42fs(store: Emulator, *arguments: str | Path, cache: Path | None = None, **kw: Any):
    env = store.env | ({"XDG_CACHE_HOME": str(cache)} if cache else {})
    return run(*(UP42FS if kw else FORKED), *arguments, env=env, **kw)


def lines(store: Emulator, *arguments: str | Path, **kw: Any) -> list[str]:
    done = up42fs(store, *arguments, **kw)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return str(done.stdout).splitlines()


def rows(store: Emulator, *arguments: str | Path) -> list[dict]:
    return [json.loads(line) for line in lines(store, *arguments)]


# ls --------------------------------------------------------------------------------------------


def test_ls_lists_names(store: Emulator) -> None:
    assert {"orders/", "assets/", "tags/"} <= set(lines(store, "ls"))
    assert lines(store, "ls", "/orders/Köln [west]/") == ["big.bin", "small.tif", "empty.bin"]
    assert lines(store, "ls", "tags/köln/big.bin") == ["tags/köln/big.bin"]
    assert lines(store, "ls", "-d", "orders") == ["orders/"]


def test_ls_tells_sizes_and_times(store: Emulator) -> None:
    long = lines(store, "ls", "-l", "tags/köln")
    assert [line.split()[0] for line in long] == [str(SIZE), "10", "0"]
    listed = rows(store, "ls", "--json", "tags/köln")
    assert [(row["path"], row["size"], row["type"]) for row in listed] == [
        ("big.bin", SIZE, "file"),
        ("small.tif", 10, "file"),
        ("empty.bin", 0, "file"),
    ]
    assert long[0].split()[1] == listed[0]["modified"]


def test_ls_learns_sizes_that_up42_does_not_tell(store: Emulator) -> None:
    assert {line.split()[0] for line in lines(store, "ls", "-l", "cnam/SUCCESSFUL/*/*.tiff")} == {
        str(3 << 20)
    }


def test_quoted_patterns_are_resolved(store: Emulator) -> None:
    assert lines(store, "ls", "orders/K*/*.bin") == [
        "orders/Köln [west]/big.bin",
        "orders/Köln [west]/empty.bin",
    ]
    # A name that holds brackets means itself where it is there.
    assert len(lines(store, "ls", "orders/Köln [west]")) == 3
    assert lines(store, "ls", "-d", "tags/k[oö]ln/[bs]*") == [
        "tags/köln/big.bin",
        "tags/köln/small.tif",
    ]


def test_ls_of_all_that_is_below(store: Emulator) -> None:
    found = set(lines(store, "ls", "--recursive", "orders"))
    assert {"Köln [west]/", "Köln [west]/big.bin", f"{ORDER}/"} <= found


@pytest.mark.claim("S260")
def test_ls_of_one_order_costs_three_requests(large: Emulator, tmp_path: Path) -> None:
    since = large.remote.position()
    assert lines(large, "ls", "orders/Order 00007", cache=tmp_path)
    assert large.requests(since) == {"auth.token": 1, "orders.list": 1, "assets.list": 1}
    since = large.remote.position()
    assert lines(large, "ls", "-l", "orders/Order 00007", cache=tmp_path)
    assert sum(large.requests(since).values()) <= 3


# completion ------------------------------------------------------------------------------------


def test_remote_paths_are_completed(store: Emulator, tmp_path: Path) -> None:
    def completed(typed: str) -> list[str]:
        return lines(store, "__complete", typed)

    assert completed("ord") == ["orders/"]
    assert completed("tags/köln/") == [
        f"tags/köln/{n}" for n in ("big.bin", "small.tif", "empty.bin")
    ]
    assert completed("orders/Order\\ 00001") == [f"{ORDER}/".join(("orders/", ""))]
    assert completed('"orders/Order 00002') == ["orders/Order 00002/"]
    assert completed("absent/x") == []
    since = store.remote.position()
    assert completed("t") == ["tags/"]
    assert store.requests(since) == {}, "the storage was listed before"
    # Where UP42 does not answer, the top level is what it always has.
    env = store.env | {"UP42_API_URL": "http://127.0.0.1:9", "XDG_CACHE_HOME": str(tmp_path)}
    assert check(*UP42FS, "__complete", "ta", env=env).split() == ["tags/"]
    nobody = run(*UP42FS, "__complete", "ord", env={"HOME": str(tmp_path)})
    assert (nobody.returncode, nobody.stdout, nobody.stderr) == (0, "", "")


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_asks_for_remote_paths(store: Emulator, tmp_path: Path) -> None:
    script = check(sys.executable, REPOSITORY / "contrib/completions.py", "bash")
    (tmp_path / "completions").write_text(script)
    (tmp_path / "up42fs").write_text(f'#!/bin/sh\nexec {" ".join(UP42FS)} "$@"\n')
    (tmp_path / "up42fs").chmod(0o755)
    program = (
        f'PATH={tmp_path}:$PATH; source {tmp_path}/completions; COMP_WORDS=(up42fs ls "tags/k"); '
        'COMP_CWORD=2; _shtab_up42fs; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    assert check("bash", "-c", program, env=store.env).splitlines() == ["tags/köln/"]


#: Types each word and Tab in an interactive shell, and then keys that write the line to a file.
ZSH = r"""
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "fpath=($1 \$fpath); autoload -Uz compinit; compinit -u -d $1/dump; PATH=$1:\$PATH"
zpty -w shell "shown() { print -r -- \"\$BUFFER\" >>$1/shown; BUFFER= }; zle -N shown"
zpty -w shell "bindkey -e; bindkey '^X^P' shown"
for word in "${@[2,-1]}"; do
  zpty -n -w shell "up42fs ls $word"$'\t\x18\x10'
done
for turn in {1..600}; do
  while zpty -r -t shell out; do :; done
  [[ -e $1/shown && $(wc -l <$1/shown) -ge $(( $# - 1 )) ]] && break
  sleep 0.1
done
cat $1/shown
"""
FISH = """
set -gx PATH $argv[1] $PATH
source $argv[1]/up42fs.fish
for word in $argv[2..-1]; complete -C "up42fs ls $word"; end
"""


@pytest.mark.claim("S294")
@pytest.mark.parametrize(("shell", "name"), [("zsh", "_up42fs"), ("fish", "up42fs.fish")])
def test_other_shells_complete_remote_paths(
    store: Emulator, tmp_path: Path, shell: str, name: str
) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell}: apt-get install {shell}")
    script = check(sys.executable, REPOSITORY / "contrib/completions.py", shell)
    (tmp_path / name).write_text(script)
    (tmp_path / "up42fs").write_text(f'#!/bin/sh\nexec {" ".join(UP42FS)} "$@"\n')
    (tmp_path / "up42fs").chmod(0o755)
    words = ["tags/k", "orders/K", r"orders/Köln\ \[west\]/b"]
    options, program = ("-f", ZSH) if shell == "zsh" else ("--no-config", FISH)
    zeroth = (shell,) if shell == "zsh" else ()
    env = store.env | {"HOME": str(tmp_path), "LANG": "C.UTF-8", "TERM": "xterm"}
    told = check(shell, options, "-c", program, *zeroth, tmp_path, *words, env=env, timeout_s=100)
    if shell == "zsh":
        found = [line.removeprefix("up42fs ls ").rstrip() for line in told.splitlines()]
        expected = ["tags/köln/", r"orders/Köln\ \[west\]/", r"orders/Köln\ \[west\]/big.bin"]
    else:
        found = [line.partition("\t")[0] for line in told.splitlines()]
        expected = ["tags/köln/", "orders/Köln [west]/", "orders/Köln [west]/big.bin"]
    assert found == expected


def test_members_of_archives_are_found_and_not_walked_into(store: Emulator, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("deep/a.txt", "hello")
    order = store.remote.storage("add_order", display_name="Zipped")["id"]
    store.remote.storage(
        "add_asset",
        name="delivery.zip",
        order_id=order,
        content_base64=b64encode(packed.getvalue()).decode(),
    )
    assert lines(store, "cat", "orders/Zipped/delivery/deep/a.txt") == ["hello"]
    assert lines(store, "ls", "orders/Zipped/delivery") == ["deep/"]
    assert lines(store, "find", "orders/Zipped", "-type", "f") == ["orders/Zipped/delivery.zip"]
    everything = lines(store, "find", "orders/Zipped", "-type", "f", "--archives", "on")
    assert "orders/Zipped/delivery/deep/a.txt" in everything
    assert lines(store, "cp", "-r", "orders/Zipped", tmp_path / "z") == []
    assert [path.name for path in (tmp_path / "z").iterdir()] == ["delivery.zip"]


# what goes wrong -------------------------------------------------------------------------------


@pytest.mark.claim("S392")
def test_what_is_no_query_says_which_fields_there_are(store: Emulator) -> None:
    done = up42fs(store, "ls", "search/clowd<3")
    assert done.returncode == 1
    assert "/search/clowd<3: there is no field 'clowd'; did you mean cloud?" in done.stderr
    assert "order_status" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["ls", "find", "info", "cat", "url"])
def test_a_path_that_is_not_there_fails_and_the_others_go_on(store: Emulator, command: str) -> None:
    done = up42fs(store, command, "tags/köln/absent", "tags/köln/small.tif")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "/tags/köln/absent: there is no absent" in done.stderr
    assert done.stderr.endswith("; to see what is there: up42fs ls 'tags/köln'\n")
    assert done.stdout


@pytest.mark.parametrize(
    ("path", "lacks", "cure"),
    [
        ("/home/me/up42/orders", "home", "up42fs ls"),
        ("tags/köln/absent/below/it", "absent", "up42fs ls 'tags/köln'"),
        ("tags/köln/köln", "köln", "up42fs ls 'tags/köln'"),
    ],
)
def test_the_cure_names_a_place_that_is_there(
    store: Emulator, path: str, lacks: str, cure: str
) -> None:
    done = up42fs(store, "ls", path)
    assert done.returncode == 1
    assert done.stderr.endswith(f"there is no {lacks}; to see what is there: {cure}\n")


@pytest.mark.claim("S147")
def test_a_home_that_cannot_be_written_is_one_line(store: Emulator, tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    home = {name: str(in_the_way) for name in ("XDG_CACHE_HOME", "XDG_STATE_HOME")}
    done = run(*UP42FS, "cat", "tags/köln/small.tif", env=store.env | home, errors="replace")
    assert done.returncode == 0
    assert done.stdout
    said = f"the stored catalogue and the disk cache are not kept: {in_the_way}/up42fs: "
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_pattern_without_matches_fails(store: Emulator) -> None:
    done = up42fs(store, "ls", "assets/*.absent")
    assert (done.returncode, done.stdout) == (1, "")
    assert "nothing matches" in done.stderr


@pytest.mark.claim("S262")
def test_a_reader_that_leaves_ends_it_silently(store: Emulator) -> None:
    for command in ("ls -R /", "find", "cat assets/big.bin", "info --json assets/*"):
        done = subprocess.run(
            ["sh", "-c", f"{' '.join(UP42FS)} {command} | head -c 10 >/dev/null; echo done"],
            env=environ(store.env),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.stdout, done.stderr) == ("done\n", ""), command


def test_without_an_account_nothing_is_asked_of_the_user(store: Emulator, tmp_path: Path) -> None:
    env = {"HOME": str(tmp_path), "UP42_API_URL": store.env["UP42_API_URL"]}
    done = run(*UP42FS, "ls", env=env, stdin=subprocess.DEVNULL)
    assert done.returncode == 1
    assert "up42fs login" in done.stderr


def test_a_wrong_password_says_so_once(store: Emulator, tmp_path: Path) -> None:
    env = store.env | {"UP42_PASSWORD": "hunter2", "XDG_CACHE_HOME": str(tmp_path)}
    done = run(*UP42FS, "ls", "orders", env=env)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "hunter2" not in done.stderr
    assert "UP42 refused" in done.stderr or "refused" in done.stderr


# find, info, url -------------------------------------------------------------------------------


def test_find_tests_what_it_finds(store: Emulator, tmp_path: Path) -> None:
    assert lines(store, "find", "tags/köln", "-name", "*.bin") == [
        "tags/köln/big.bin",
        "tags/köln/empty.bin",
    ]
    assert lines(store, "find", "orders", "-maxdepth", "0") == ["orders"]
    orders = lines(store, "find", "orders", "-mindepth", "1", "-maxdepth", "1")
    assert {name.count("/") for name in orders} == {1}
    assert {"orders/Order 00000", "orders/Köln [west]"} <= set(orders)
    assert lines(store, "find", "tags/köln", "-size", "+1M") == ["tags/köln/big.bin"]
    assert lines(store, "find", "tags/köln", "-size", "-2c", "-type", "f") == [
        "tags/köln/empty.bin"
    ]
    assert lines(store, "find", "tags/köln", "-type", "d") == ["tags/köln"]
    assert lines(store, "find", "tags/köln", "-newermt", "2999-01-01") == []
    old = tmp_path / "old"
    old.touch()
    os.utime(old, (0, 0))
    assert len(lines(store, "find", "tags/köln", "-type", "f", "-newer", old)) == 3
    assert up42fs(store, "find", "tags/köln", "-name", "s*", "-print0").stdout == (
        "tags/köln/small.tif\0"
    )


@given(st.integers(0, 1 << 40), st.integers(0, 1 << 12), st.sampled_from("cwbkMGT"))
def test_sizes_are_rounded_up_as_find_does(size: int, count: int, unit: str) -> None:
    more, less, same = (size_test(f"{sign}{count}{unit}")(size) for sign in ("+", "-", ""))
    assert [more, less, same].count(True) == 1
    bytes_each = {"c": 1, "w": 2, "b": 512, "k": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
    assert same == ((count - 1) * bytes_each[unit] < size <= count * bytes_each[unit])


def test_info_tells_what_attributes_tell(store: Emulator) -> None:
    (document,) = rows(store, "info", "--json", "tags/köln/big.bin")
    assert document["size"] == SIZE
    assert document["attributes"]["id"] == store.asset("big.bin")
    assert document["attributes"]["tags"] == "köln"
    text = "\n".join(lines(store, "info", "tags/köln/big.bin", "orders/Köln [west]"))
    assert f"  id               {store.asset('big.bin')}" in text
    assert "  kind             order" in text


def test_url_is_a_link_that_works(store: Emulator) -> None:
    (link,) = lines(store, "url", "tags/köln/small.tif")
    with urlopen(link) as answer:
        assert answer.read() == pattern_bytes(2, 0, 10)
    done = up42fs(store, "url", "orders")
    assert done.returncode == 1
    assert "only delivered files" in done.stderr


@pytest.mark.claim("S291")
def test_url_is_the_address_of_a_running_server(store: Emulator, tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    with served(store.env, home=tmp_path) as server:
        (address,) = lines(store, "url", "orders/Köln [west]/small.tif")
        assert address == f"{server.address}orders/K%C3%B6ln%20%5Bwest%5D/small.tif"
        with urlopen(address) as answer:
            assert answer.read() == pattern_bytes(2, 0, 10)
        (row,) = rows(store, "url", "--json", "orders")
        assert row == {
            "path": "orders",
            "url": f"{server.address}orders/",
            "server": server.address.rstrip("/"),
        }
        (link,) = lines(store, "url", "--presigned", "tags/köln/small.tif")
        assert "Signature=" in link
        done = up42fs(store, "url", "orders/absent")
        assert done.returncode == 1
        # Another account is not served there.
        other = store.env | {"UP42_WORKSPACE": "00000000-0000-4000-8000-000000000000"}
        done = run(*UP42FS, "url", "assets/small.tif", env=other)
        assert server.address not in done.stdout
        with served(store.env, "--token-file", str(token_file), home=tmp_path) as newer:
            done = up42fs(store, "url", "tags/köln/small.tif")
            assert done.stdout.startswith(newer.address)
            assert f"the token in {token_file}" in done.stderr
            assert token_file.read_text().strip() not in done.stdout + done.stderr
    (link,) = lines(store, "url", "tags/köln/small.tif")
    assert "Signature=" in link


@pytest.mark.claim("S291")
def test_a_server_that_was_killed_is_not_named(tmp_path: Path) -> None:
    script = (
        "import pathlib, sys, time\n"
        "from up42fs.serve.records import ServerRecord, kept\n"
        "with kept(ServerRecord('http://127.0.0.1:1', 'api', 'me'), pathlib.Path(sys.argv[1])):\n"
        "    print(flush=True)\n"
        "    time.sleep(60)\n"
    )
    place = tmp_path / "records"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(place)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        (record,) = records.running(place)
        assert record.is_of("api", "ME", None)
        assert not record.is_of("api", "me", "workspace")
        assert not record.is_of("other", "me", None)
        assert place.stat().st_mode & 0o077 == 0
        process.kill()
    assert records.running(place) == []
    assert list(place.iterdir()) == []
    (place / "serve-1.json").write_text("nonsense")
    assert records.running(place) == []


# cat -------------------------------------------------------------------------------------------


def test_cat_writes_files_and_ranges(store: Emulator) -> None:
    def cat(*arguments: str) -> bytes:
        command = [*UP42FS, "cat", *arguments]
        return subprocess.run(
            command, env=environ(store.env), capture_output=True, check=True, timeout=60
        ).stdout

    data = pattern_bytes(SEED, 0, SIZE)
    assert cat("tags/köln/big.bin") == data
    assert cat("tags/köln/small.tif", "tags/köln/small.tif") == 2 * pattern_bytes(2, 0, 10)
    for text, expected in (
        ("0-9", data[:10]),
        ("2999990-", data[-10:]),
        ("-7", data[-7:]),
        ("10-99999999", data[10:]),
    ):
        assert cat("--range", text, "tags/köln/big.bin") == expected
    done = up42fs(store, "cat", "--range", "3000000-", "tags/köln/big.bin")
    assert done.returncode == 1
    assert "3000000 bytes" in done.stderr
    assert up42fs(store, "cat", "--range", "9-1", "x").returncode == 2


def test_a_range_fetches_itself(store: Emulator, tmp_path: Path) -> None:
    since = store.remote.position()
    check(*UP42FS, "cat", "-r", "1000-1999", f"assets/{store.asset('big.bin')}", env=store.env | {
        "XDG_CACHE_HOME": str(tmp_path)})  # fmt: skip
    (request,) = store.remote.log(since, plane="store")
    assert request["bytes_sent"] <= 128 << 10


@given(st.integers(0, 99), st.integers(0, 99), st.integers(1, 99))
def test_ranges_mean_what_http_means(first: int, last: int, size: int) -> None:
    data = bytes(range(100))[:size]
    if first <= last:
        wanted = byte_range(f"{first}-{last}")
        if first < size:
            start, stop = span_of(wanted, size)
            assert data[start:stop] == data[first : last + 1]
    else:
        with pytest.raises(ArgumentTypeError):
            byte_range(f"{first}-{last}")
    start, stop = span_of(byte_range(f"-{last}"), size)
    assert data[start:stop] == (data[-last:] if last else b"")


# cp --------------------------------------------------------------------------------------------


def parts(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.name.endswith(PART_SUFFIX)]


@pytest.mark.claim("S261")
def test_cp_copies_files_and_directories(store: Emulator, tmp_path: Path) -> None:
    assert lines(store, "cp", "tags/köln/big.bin", tmp_path / "here.bin") == []
    assert (tmp_path / "here.bin").read_bytes() == pattern_bytes(SEED, 0, SIZE)
    assert lines(store, "cp", "-r", "orders/Köln [west]", tmp_path / "order") == []
    assert lines(store, "cp", "-r", "orders/Köln [west]", f"{tmp_path}/into/") == []
    for place in ("order", "into/Köln [west]"):
        copied = {path.name: path.stat().st_size for path in (tmp_path / place).iterdir()}
        assert copied == {"big.bin": SIZE, "small.tif": 10, "empty.bin": 0}
    (info,) = rows(store, "ls", "--json", "-d", "tags/köln/big.bin")
    changed_s = (tmp_path / "order/big.bin").stat().st_mtime
    assert time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(changed_s)) == info["modified"]
    assert parts(tmp_path) == []


def test_cp_leaves_what_is_here_already(store: Emulator, tmp_path: Path) -> None:
    def done(*options: str) -> list[str]:
        found = rows(store, "cp", "--json", "-r", "tags/köln", f"{tmp_path}/", *options)
        return [row["done"] for row in found]

    assert done() == ["copied"] * 3
    since = store.remote.position()
    assert done() == ["kept"] * 3
    assert store.remote.log(since, plane="store") == []
    (tmp_path / "köln/big.bin").write_bytes(b"mine")
    assert done("-n") == ["kept"] * 3
    assert sorted(done()) == ["copied", "kept", "kept"]
    assert (tmp_path / "köln/big.bin").stat().st_size == SIZE
    assert done("-f") == ["copied"] * 3


def test_cp_refuses_what_cp_refuses(store: Emulator, tmp_path: Path) -> None:
    done = up42fs(store, "cp", "tags/köln", tmp_path)
    assert done.returncode == 1
    assert "up42fs cp -r" in done.stderr
    done = up42fs(store, "cp", "tags/köln/*.bin", tmp_path / "absent")
    assert done.returncode == 2
    assert "is no directory" in done.stderr
    assert up42fs(store, "cp", "tags/köln/big.bin", "-").returncode == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.claim("S261")
def test_a_stopped_copy_goes_on_and_is_never_taken_for_whole(tmp_path: Path) -> None:
    size = 24 << 20
    with emulator("--synthetic", "2,1,0") as store:
        store.remote.storage("add_asset", name="scene.tif", size=size, seed=5)
        store.remote.faults(bandwidth_bytes_s=2e6)
        copying = subprocess.Popen(
            [*UP42FS, "cp", "--cache-size", "0", "assets/scene.tif", str(tmp_path)],
            env=environ(store.env),
        )
        wait_until(
            lambda: any(path.stat().st_size > 6 << 20 for path in parts(tmp_path)),
            60,
            "some megabytes are copied",
        )
        copying.send_signal(signal.SIGKILL)
        copying.wait(30)
        assert list(tmp_path.glob("*.tif")) == []
        begun = parts(tmp_path)[0].stat().st_size
        store.remote.faults(bandwidth_bytes_s=None)
        since = store.remote.position()
        (row,) = rows(
            store, "cp", "--json", "--cache-size", "0", "assets/scene.tif", f"{tmp_path}/"
        )
        assert begun - (1 << 20) <= row["resumed_at"] <= begun
        sent = sum(request["bytes_sent"] for request in store.remote.log(since, plane="store"))
        assert sent <= size - row["resumed_at"] + (1 << 20)
        assert (tmp_path / "scene.tif").read_bytes() == pattern_bytes(5, 0, size)
        assert parts(tmp_path) == []


def test_a_replaced_file_is_copied_from_its_start(tmp_path: Path) -> None:
    with emulator("--synthetic", "2,1,0") as store:
        asset = store.remote.storage("add_asset", name="scene.tif", size=SIZE, seed=5)["id"]
        stale = part_of(tmp_path / "scene.tif", SIZE, Version(SIZE, '"another"'))
        stale.write_bytes(bytes(SIZE - 10))
        (row,) = rows(store, "cp", "--json", f"assets/{asset}", f"{tmp_path}/scene.tif")
        assert row["resumed_at"] == 0
        assert (tmp_path / "scene.tif").read_bytes() == pattern_bytes(5, 0, SIZE)
        assert parts(tmp_path) == []


def test_a_full_disk_is_named(store: Emulator, tmp_path: Path) -> None:
    done = run(
        *("prlimit", "--fsize=1000000", *UP42FS),
        *("cp", "--cache-size", "0", "tags/köln/big.bin", tmp_path / "x.bin"),
        env=store.env,
    )
    assert done.returncode == 1
    assert "x.bin: File too large; run it again to go on" in done.stderr
    assert not (tmp_path / "x.bin").exists()


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=4), st.integers(0, 3))
def test_copies_lie_below_their_target(names: list[str], depth: int) -> None:
    path = "/" + "/".join(names)
    top = "/" + "/".join(names[:depth])
    local = below(top, path, Path("/target"))
    assert local == Path("/target", *names[depth:])


@given(st.integers(0, 99), st.integers(0, 99), st.text(max_size=3), st.text(max_size=3))
def test_partial_files_of_two_versions_have_two_names(a: int, b: int, x: str, y: str) -> None:
    first, second = (part_of(Path("/d/f"), n, Version(n, tag)) for n, tag in ((a, x), (b, y)))
    assert (first == second) == ((a, x) == (b, y))
    assert first.name.startswith(".f.")


@pytest.mark.parametrize(
    ("time_s", "told"),
    [
        (-62135596800, "0001-01-01T00:00:00Z"),
        (-1, "1969-12-31T23:59:59Z"),
        (253402300799, "9999-12-31T23:59:59Z"),
    ],
)
def test_times_have_four_digits_for_the_year(time_s: int, told: str) -> None:
    assert moment(time_s * 10**9) == told

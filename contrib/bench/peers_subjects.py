"""The ways to the same files that `peers.py` compares: fresh mounts, links, a local disk.

Knows how each is started and ended; nothing of what is read, timed or counted.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from up42fs.fuse.mounts import mount_at

UP42FS = (sys.executable, "-m", "up42fs")
GDAL_TUNED = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
    "CPL_VSIL_CURL_CHUNK_SIZE": "131072",
    "CPL_VSIL_CURL_CACHE_SIZE": "134217728",
    "VSI_CACHE": "TRUE",
    "VSI_CACHE_SIZE": "100000000",
}


#: Name of the method, and of the column.
SUBJECTS = {
    "disk": "local disk",
    "up42fs": "up42fs",
    "vsicurl": "/vsicurl/",
    "vsicurl_tuned": "/vsicurl/ tuned",
    "rclone": "rclone",
    "rclone_full": "rclone, full cache",
    "rclone_streams": "rclone, 16 streams",
}


@dataclass(frozen=True)
class Job:
    """How one subject reaches the files: their paths and its environment."""

    paths: list[str]
    env: dict[str, str]


def clean_environ() -> dict[str, str]:
    prefixes = ("UP42_", "GDAL_", "CPL_", "VSI_", "RCLONE_", "XDG_")
    return {k: v for k, v in os.environ.items() if not k.startswith(prefixes)}


def rclone_program() -> str | None:
    """Where rclone is, if anywhere."""
    return shutil.which("rclone") or shutil.which("rclone", path=str(Path(sys.executable).parent))


class Subjects:
    """One method a subject: a context in which the files can be read."""

    def __init__(self, env: dict[str, str], mount_options: str = "") -> None:
        self.env = clean_environ() | env
        self._mount_options = ["-o", mount_options] if mount_options else []
        self._links: dict[str, str] = {}

    def learn_links(self, files: list[Path]) -> None:
        """Ask UP42 for a link to each file, once and for all."""
        with self.up42fs(files) as mounted:
            for path in mounted.paths:
                link = os.getxattr(path, "user.up42.download_url")
                self._links[Path(path).name] = link.decode()

    @contextmanager
    def disk(self, files: list[Path]) -> Iterator[Job]:
        yield Job([str(path) for path in files], {})

    @contextmanager
    def vsicurl(self, files: list[Path]) -> Iterator[Job]:
        yield Job([f"/vsicurl/{self._links[path.name]}" for path in files], {})

    @contextmanager
    def vsicurl_tuned(self, files: list[Path]) -> Iterator[Job]:
        with self.vsicurl(files) as job:
            yield Job(job.paths, GDAL_TUNED)

    @contextmanager
    def up42fs(self, files: list[Path]) -> Iterator[Job]:
        with tempfile.TemporaryDirectory(prefix="peers-") as home:
            mountpoint = Path(home, "mnt")
            mountpoint.mkdir()
            options = ["--cache-dir", f"{home}/cache", "--log-file", f"{home}/log"]
            options += self._mount_options
            subprocess.run([*UP42FS, "mount", str(mountpoint), *options], env=self.env, check=True)
            try:
                assets = mountpoint / "assets"
                subprocess.run(["ls", "-l", assets], stdout=subprocess.DEVNULL, check=True)
                paths = [str(assets / path.name) for path in files]
                yield Job(paths, {})
            finally:
                subprocess.run([*UP42FS, "unmount", str(mountpoint)], check=False)

    @contextmanager
    def rclone(self, files: list[Path], *options: str) -> Iterator[Job]:
        with tempfile.TemporaryDirectory(prefix="peers-") as home, self._index(files) as url:
            mountpoint = Path(home, "mnt")
            mountpoint.mkdir()
            process = subprocess.Popen(
                [
                    *(
                        rclone_program() or "rclone",
                        "mount",
                        ":http:",
                        str(mountpoint),
                        "--http-url",
                        url,
                    ),
                    *("--read-only", "--dir-cache-time", "1h", "--cache-dir", f"{home}/cache"),
                    *("--config", "", "--log-level", "ERROR", *options),
                ],
                env=clean_environ(),
            )
            try:
                while mount_at(mountpoint) is None:
                    if process.poll() is not None:
                        raise RuntimeError(f"rclone ended with status {process.returncode}")
                    time.sleep(0.05)
                subprocess.run(["ls", "-l", mountpoint], stdout=subprocess.DEVNULL, check=True)
                yield Job([str(mountpoint / path.name) for path in files], {})
            finally:
                subprocess.run(["fusermount3", "-u", mountpoint], check=False)
                process.terminate()
                process.wait(10)

    @contextmanager
    def rclone_full(self, files: list[Path]) -> Iterator[Job]:
        with self.rclone(files, "--vfs-cache-mode", "full") as job:
            yield job

    @contextmanager
    def rclone_streams(self, files: list[Path]) -> Iterator[Job]:
        """Several connections for one file."""
        options = ("--vfs-read-chunk-streams", "16", "--vfs-read-chunk-size", "4M")
        with self.rclone(files, *options) as job:
            yield job

    @contextmanager
    def _index(self, files: list[Path]) -> Iterator[str]:
        """A listing of `files`, each a redirect to its link: rclone takes no signed links."""
        links = {path.name: self._links[path.name] for path in files}

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                link = links.get(self.path[1:])
                page = "".join(f'<a href="{name}">{name}</a>\n' for name in links)
                body = b"" if link else page.encode()
                self.send_response(302 if link else 200)
                if link:
                    self.send_header("Location", link)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            server.server_close()

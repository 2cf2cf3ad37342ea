"""`up42fs demo`: mounts the emulator's sample storage, or runs one command inside it."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from up42fs.cli import respawn
from up42fs.cli.options import Subparsers, add_command, path_argument
from up42fs.cli.terminal import say
from up42fs.cli.unmount import unmount
from up42fs.errors import Unavailable, Up42fsError
from up42fs.fuse.mount_table import mount_at, ours

_HINTS = """\
UP42 sample storage is mounted at {mountpoint}. Try in another shell:

  cd {quoted}
  ls -l orders/*
  getfattr -d "$(find assets -name '*.zip' | head -1)"
  gdalinfo "$(find assets \\( -name '*.tif' -o -name '*.tiff' \\) | head -1)"
  cat .up42fs/status.json

Ctrl-C unmounts and ends the emulator."""


def add_parser(commands: Subparsers[argparse.ArgumentParser]) -> None:
    parser = add_command(
        commands,
        "demo",
        "Start the emulator with sample storage and mount it. With a COMMAND: run it\n"
        "with the mount as working directory, unmount, exit with its status.",
        "up42fs demo",
        "up42fs demo -- ls -l orders",
        "up42fs demo --data ~/imagery ~/mnt",
        usage="up42fs demo [-h] [--data DIR] [MOUNTPOINT] [-- COMMAND…]",
    )
    parser.add_argument("mountpoint", nargs="?", type=path_argument, metavar="MOUNTPOINT")
    parser.add_argument(
        "--data", type=path_argument, metavar="DIR", help="serve the files below DIR instead"
    )
    parser.set_defaults(command=main)


def main(options: argparse.Namespace) -> int:
    """Run the demo; return the exit status of COMMAND, or 0 without one."""
    # Set the handlers explicitly: a script's background jobs are started with SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with _temporary() as temporary, ExitStack() as stack:
        directory = _directory(options.mountpoint, Path(temporary))
        environ = stack.enter_context(_emulator(options.data, temporary))
        _mount(directory, environ, Path(temporary) / "log")
        try:
            if options.run:
                return _run(options.run, directory, environ)
            _wait_for_interrupt(directory)
            return 0
        finally:
            _unmount(directory)


@contextmanager
def _temporary() -> Iterator[str]:
    """A directory that is deleted afterwards, unless something is still mounted in it."""
    path = tempfile.mkdtemp(prefix="up42fs-demo-")
    try:
        yield path
    finally:
        mounted = [mount.mountpoint for mount in ours() if mount.mountpoint.startswith(f"{path}/")]
        if mounted:  # deleting would go through what is mounted
            say(f"up42fs: {mounted[0]} is still mounted; {path} stays", to_error=True)
        else:
            shutil.rmtree(path, ignore_errors=True)


def _directory(mountpoint: str | None, temporary: Path) -> Path:
    """Return the mount point: the one given, otherwise a directory below `temporary`."""
    directory = temporary / "up42" if mountpoint is None else Path(os.path.realpath(mountpoint))
    directory.mkdir(parents=True, exist_ok=True)
    return directory


@contextmanager
def _emulator(data: str | None, temporary: str) -> Iterator[dict[str, str]]:
    """Run the emulator; yield the environment variables that point at it."""
    arguments = ["--data", str(Path(data).absolute())] if data else []
    if not data:
        say("up42fs: starting the emulator (the first start makes sample data)", to_error=True)
    process = subprocess.Popen(
        respawn.command("emulator", "--die-with-parent", *arguments),
        # Without a home, the emulator makes its sample in a temporary directory; this one is
        # deleted when the demo ends.
        env=respawn.environment({**os.environ, "TMPDIR": temporary}),
        cwd=respawn.DIRECTORY,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise Unavailable("the emulator did not start; its reason stands above")
        environ: dict[str, str] = json.loads(line)["env"]
        yield environ
    finally:
        process.terminate()
        process.wait()


def _mount(directory: Path, environ: dict[str, str], log_file: Path) -> None:
    done = subprocess.run(
        respawn.command(
            *("mount", str(directory), "--log-file", str(log_file)),
            *("--cache-dir", str(log_file.parent / "cache")),  # sample data is not worth keeping
        ),
        env=respawn.environment({**os.environ, **environ}),
        cwd=respawn.DIRECTORY,
        check=False,
    )
    if done.returncode != 0:
        raise Unavailable("the demo storage was not mounted; the reason stands above")


def _run(command: Sequence[str], directory: Path, environ: Mapping[str, str]) -> int:
    """Run the command with the demo's account in its environment, so that up42fs works in it."""
    try:
        status = subprocess.run(
            command, cwd=directory, env={**os.environ, **environ}, check=False
        ).returncode
    except OSError as error:
        say(f"up42fs: {command[0]}: {error.strerror}", to_error=True)
        return 127
    return status if status >= 0 else 128 - status


def _wait_for_interrupt(directory: Path) -> None:
    with suppress(KeyboardInterrupt):
        hints = _HINTS.format(mountpoint=directory, quoted=shlex.quote(str(directory)))
        say(*hints.split("\n"), flush=True)
        while True:
            signal.pause()


def _unmount(directory: Path) -> None:
    if mount_at(directory) is None:
        return
    try:
        unmount(directory)
    except Up42fsError as error:
        say(f"up42fs: {error}; detaching it", to_error=True)
        with suppress(Up42fsError):
            unmount(directory, lazy=True)

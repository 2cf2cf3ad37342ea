"""Puts the planned files, keeps a list of them, and removes what the list names."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from contextlib import suppress
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from up42fs.fuse.mount_table import ours
from up42fs.setup.plan import MARKER, InstallPaths, Planned, SetupError, planned

_SHARED = files("up42fs.setup") / "share"


def shared(name: str) -> str:
    """The text of a file that up42fs carries for its installations."""
    return (_SHARED / name).read_text(encoding="utf-8")


class Installation:
    """An installation at `places`, below `root` (of a package that is being made, or `/`)."""

    def __init__(self, places: InstallPaths, root: str = "") -> None:
        self.places = places
        self._root = root

    def at(self, path: Path) -> Path:
        """Where a path of the installed system lies now."""
        return Path(f"{self._root}{path}")

    def put(self, python: str) -> None:
        """Put every file, in place of an older installation's. `python` starts up42fs.

        Raises SetupError or OSError.
        """
        own = set(self.installed())
        command = self.places.command
        keeps = command not in own and self._is_started_by(self.at(command), python)
        if self.at(command).exists() and command not in own and not keeps:
            raise SetupError(f"{command} is not of this installer; move it away")
        if self.places.is_system and not self._root:
            refuse_foreign_code(python)
        plan = [
            one
            for one in planned(self.places, python, shared, draws=has_decoder())
            if not (keeps and one.path == command)
        ]
        self.remove_files()
        made = [directory for file in plan for directory in self._write(file)]
        made += self._make_parents(self.places.list)
        record = "".join(f"{file.path}\n" for file in plan) + "".join(f"{one}/\n" for one in made)
        self._write(Planned(self.places.list, 0o644, record))

    def installed(self) -> list[Path]:
        """The files that were put; empty if nothing was."""
        return [Path(line) for line in self._record() if not line.endswith("/")]

    def remove_files(self) -> None:
        """Remove what was put, and directories that were made for it and hold nothing else."""
        files = self.installed()
        made = [Path(line) for line in self._record() if line.endswith("/")]
        for path in [*files, self.places.list]:
            self.at(path).unlink(missing_ok=True)
        for directory in reversed(made):
            with suppress(OSError):
                self.at(directory).rmdir()

    def _record(self) -> list[str]:
        try:
            lines = self.at(self.places.list).read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        return [line for line in lines if line.startswith("/")]

    def remove_code(self) -> None:
        """Remove the environment, if `contrib/install` made it."""
        code = self.at(self.places.code)
        if (code / MARKER).exists():
            shutil.rmtree(code)
        if self._root or code.parent.name == "up42fs":
            with suppress(OSError):
                code.parent.rmdir()

    def _write(self, file: Planned) -> list[Path]:
        """Write a file anew; return the directories that were made for it, outermost first."""
        path = self.at(file.path)
        made = self._make_parents(file.path)
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, file.mode)
        with open(descriptor, "w", encoding="utf-8") as stream:  # noqa: PTH123
            stream.write(file.text)
            os.fchmod(descriptor, file.mode)
        return made

    def _make_parents(self, path: Path) -> list[Path]:
        lacking = [parent for parent in path.parents if not self.at(parent).exists()]
        self.at(path.parent).mkdir(mode=0o755, parents=True, exist_ok=True)
        return lacking[::-1]

    def _is_started_by(self, command: Path, python: str) -> bool:
        """Whether pip or pipx put the command there for the same interpreter."""
        if str(command.resolve()).startswith(f"{Path(python).parent}/"):
            return True
        try:
            with command.open("rb") as file:
                first = file.readline(4096)
        except OSError:
            return False
        return first.rstrip() == b"#!" + os.fsencode(python)


def has_decoder() -> bool:
    """Whether this environment can make thumbnails of images (`cli.thumbnail`)."""
    return find_spec("rasterio") is not None


def refuse_foreign_code(python: str) -> None:
    """Raise SetupError if others than root may change what root would run."""
    import up42fs

    for start in (Path(python), Path(python).resolve(), Path(up42fs.__file__)):
        for path in (start, *start.parents):
            found = path.lstat()
            loose = found.st_mode & 0o022 and not stat.S_ISLNK(found.st_mode)
            # In a sticky directory only its owner may move what lies there.
            if found.st_uid or (loose and not (path.is_dir() and found.st_mode & stat.S_ISVTX)):
                raise SetupError(
                    f"{path} may be changed by others than root, and root would run it; for all "
                    "users: sudo python3 -m venv /opt/up42fs && sudo /opt/up42fs/bin/pip install "
                    "'up42fs[mount]' && sudo /opt/up42fs/bin/up42fs setup"
                )


def reload_services(places: InstallPaths) -> None:
    """Tell systemd and udev what is new, where they run; their failures change nothing."""
    if not Path("/run/systemd/system").is_dir():
        return
    if places.is_system:
        commands = [["systemctl", "daemon-reload"], ["udevadm", "control", "--reload"]]
    else:
        commands = [["systemctl", "--user", "daemon-reload"]]
    for command in commands:
        if shutil.which(command[0]):
            subprocess.run(command, check=False, capture_output=True, timeout=30, cwd="/")


def mounts_of(uid: int | None) -> list[str]:
    """Where mounts of up42fs are; those of one user unless `uid` is None."""
    return [mount.mountpoint for mount in ours() if uid is None or mount.owner == uid]

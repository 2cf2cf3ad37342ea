"""The files that outlive an installation: caches, settings, logs, sidecars, passwords."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from up42fs.setup.plan import InstallPaths

#: What services of the system keep.
_OF_SYSTEM = (Path("/var/cache/up42fs"), Path("/var/lib/up42fs"), Path("/etc/up42fs"))


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody whose data an uninstallation is about."""

    name: str
    uid: int
    home: Path

    def kept(self, environ: dict[str, str]) -> tuple[Path, ...]:
        """Directories that hold what up42fs keeps for this person; `environ` is that person's."""
        bases = [
            Path(environ.get(name) or self.home / usual)
            for name, usual in (
                ("XDG_CACHE_HOME", ".cache"),
                ("XDG_CONFIG_HOME", ".config"),
                ("XDG_STATE_HOME", ".local/state"),
            )
        ]
        data = Path(environ.get("XDG_DATA_HOME") or self.home / ".local/share")
        return (*(base / "up42fs" for base in bases), data / "up42fs/sidecars")

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command as this person, with the session's keyring where there is one."""
        if self.uid != os.geteuid():
            runtime = f"/run/user/{self.uid}"
            session = [
                f"XDG_RUNTIME_DIR={runtime}",
                f"DBUS_SESSION_BUS_ADDRESS=unix:path={runtime}/bus",
            ]
            become = ["runuser", "-u", self.name, "--", "env", f"HOME={self.home}", *session]
            command = (*become, *command)
        return subprocess.run(command, check=False, capture_output=True, text=True, cwd="/")


def people(places: InstallPaths, environ: dict[str, str]) -> list[Person]:
    """This user; for all users root, and who called sudo."""
    if not places.is_system:
        found = pwd.getpwuid(os.geteuid())
        return [Person(found.pw_name, found.pw_uid, Path(environ["HOME"]))]
    names = dict.fromkeys(("root", environ.get("SUDO_USER") or "root"))
    entries = (pwd.getpwnam(name) for name in names)
    return [Person(entry.pw_name, entry.pw_uid, Path(entry.pw_dir)) for entry in entries]


def leftovers(places: InstallPaths, environ: dict[str, str]) -> Iterator[tuple[Person, Path, str]]:
    """Yield who keeps what, and its size as people read it."""
    everybody = people(places, environ)
    kept = [(everybody[0], path) for path in _OF_SYSTEM] if places.is_system else []
    for person in everybody:
        # The places by the XDG variables only where they are that person's.
        own = environ if not places.is_system else {}
        kept += [(person, path) for path in person.kept(own)]
    for person, path in kept:
        if person.run("test", "-e", str(path)).returncode == 0:
            size = person.run("du", "-sh", str(path)).stdout.split("\t")[0]
            yield person, path, size


def remove(person: Person, path: Path) -> bool:
    """Remove what `person` keeps at `path`; return whether it is gone."""
    return person.run("rm", "-rf", str(path)).returncode == 0


def forget_passwords(
    places: InstallPaths, environ: dict[str, str], say: Callable[[str], None]
) -> None:
    """Sign everybody out; `say` receives what could not be done."""
    for person in people(places, environ):
        own = environ if not places.is_system else {}
        logins = person.kept(own)[1] / "logins.json"
        if person.run("test", "-e", str(logins)).returncode != 0:
            continue
        done = person.run(sys.executable, "-I", "-m", "up42fs", "logout", "--all")
        if done.returncode != 0:
            keyring = "secret-tool clear service up42fs" if shutil.which("secret-tool") else ""
            cure = f"; there: {keyring}" if keyring else ""
            say(f"the password of {person.name} may still be in the keyring{cure}")

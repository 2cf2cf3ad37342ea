"""Which files are put where, with which contents. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

#: A path must fit into PATH, into the lines of scripts, and into the list of what is installed.
_UNFIT = re.compile(r'[:"$`\\\n]')
MARKER = ".installed-by-up42fs"


class SetupError(Exception):
    """Nothing was changed, or what is said was; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class InstallPaths:
    """The place of an installation.

    `prefix` is the directory of `bin`, `share` and `lib`; `code` is the environment that
    `contrib/install` makes. `is_system`: for all users, with what mount(8) and udev look for.
    """

    prefix: Path
    code: Path
    is_system: bool

    @classmethod
    def of(cls, *, is_system: bool, prefix: str | None, home: str) -> InstallPaths:
        """The places of an installation for all users, or for the one whose home is `home`.

        Raises SetupError if no script can name them.
        """
        if prefix is not None:
            base, code = Path(prefix), Path(prefix, "lib/up42fs/venv")
        elif is_system:
            base, code = Path("/usr/local"), Path("/opt/up42fs")
        else:
            base, code = Path(home, ".local"), Path(home, ".local/share/up42fs/venv")
        if _UNFIT.search(str(base)):
            raise SetupError(
                f"no program can be installed in {str(base)!r}: colons, quotes, dollars and line "
                "breaks mean something else in PATH and in scripts"
            )
        if not base.is_absolute():
            raise SetupError(f"{str(base)!r} is no absolute path; set HOME or --prefix")
        return cls(base, code, is_system)

    @property
    def command(self) -> Path:
        """The command that people type."""
        return self.prefix / "bin/up42fs"

    @property
    def list(self) -> Path:
        """The file that names every file that was put."""
        return self.prefix / "share/up42fs/installed"


@dataclass(frozen=True, slots=True)
class Planned:
    """A file to put: its path, permission bits, and contents."""

    path: Path
    mode: int
    text: str


def planned(
    places: InstallPaths, python: str, shared: Callable[[str], str], *, draws: bool = True
) -> Iterator[Planned]:
    """Every file of an installation whose interpreter is `python`.

    `shared` returns the text of a file that up42fs carries, by its name. Only an installation that
    `draws`, because it has a decoder, offers itself to file managers: others do what they can.
    """

    def filled(name: str) -> str:
        at = str(places.prefix)
        if name.endswith((".service", ".desktop", ".thumbnailer")):
            at = at.replace("%", "%%")
        text = shared(name).replace("@bindir@", f"{at}/bin")
        return text.replace("@libdir@", f"{at}/lib/up42fs")

    share, lib = places.prefix / "share", places.prefix / "lib"
    # Isolated: no variable and no directory that somebody else controls adds modules.
    yield Planned(places.command, 0o755, f'#!/bin/sh\nexec "{python}" -I -m up42fs "$@"\n')
    for name, path in (
        ("up42fs.1", "man/man1/up42fs.1"),
        ("up42fs.bash", "bash-completion/completions/up42fs"),
        ("up42fs.zsh", "zsh/site-functions/_up42fs"),
        ("up42fs.fish", "fish/vendor_completions.d/up42fs.fish"),
        ("up42fs.desktop", "applications/up42fs.desktop"),
    ):
        yield Planned(share / path, 0o644, filled(name))
    if draws:
        entry = share / "thumbnailers/up42fs.thumbnailer"
        yield Planned(entry, 0o644, filled("up42fs.thumbnailer"))
    units = (lib if places.is_system else share) / "systemd"
    yield Planned(units / "user/up42fs.service", 0o644, filled("up42fs.service"))
    if not places.is_system:
        return
    yield Planned(units / "system/up42fs@.service", 0o644, filled("up42fs@.service"))
    yield Planned(share / "man/man8/mount.up42fs.8", 0o644, filled("mount.up42fs.8"))
    # Where mount(8) looks, and nowhere else.
    yield Planned(Path("/sbin/mount.up42fs"), 0o755, filled("mount.up42fs"))
    yield Planned(lib / "up42fs/up42fs-read-ahead", 0o755, filled("up42fs-read-ahead"))
    rules = Path("/etc/udev/rules.d/99-up42fs.rules")
    yield Planned(rules, 0o644, filled("99-up42fs.rules"))

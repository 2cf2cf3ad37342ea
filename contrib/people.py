"""Does what the pages of a person say, as a new user of a bare root; contrib/test-people calls it.

    python contrib/people.py ROOT WORK [PERSON...]

WORK holds the package and a wheel. Commands are blocks ```sh of the pages that are run, and those
whose comment names contrib/test-people. The page is all that the person knows.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from doc_console import blocks

sys.path.insert(0, str(Path(__file__).with_name("bench")))
from mounts import emulator

ROOT = Path(__file__).resolve().parent.parent
ME = "contrib/test-people"
#: The longest that anybody may take, seconds; most of it goes to packages.
MOST_S = 2400


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody of docs/index.md: the pages, what the desk has, and how a window shows itself."""

    pages: tuple[str, ...]
    proof: str
    desk: str = ""


_WINDOW = 'test "$(gdalinfo ~/window.tif | grep "^Size is")" = "Size is 256, 256"'
PEOPLE = {
    "analyst": Person(
        ("getting-started.md", "qgis.md"),
        f"{_WINDOW}; test $(stat -c %s ~/map.png) -gt 20000",
        "xvfb xauth",
    ),
    "gis-technician": Person(
        ("getting-started.md", "recipes.md"), f"{_WINDOW}; gdalinfo small.tif"
    ),
    "data-scientist": Person(("python.md",), "test -s ~/window.txt"),
    "administrator": Person(
        ("getting-started.md", "boot.md"),
        "gdal_translate -q -srcwin 0 0 99 99 /mnt/up42/assets/elevation_berlin.tif ~/w.tif",
    ),
    "script-author": Person(("getting-started.md", "scripts.md"), f"{_WINDOW}; test -s ~/new.txt"),
}

#: What any installed Debian or Ubuntu has, and debootstrap's smallest root has not.
_MACHINE = """
set -eu
unset SSL_CERT_FILE SSL_CERT_DIR
export DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
apt-get update -q >/dev/null
apt-get install -q -y --no-install-recommends sudo ca-certificates {desk} >/log 2>&1 ||
    {{ tail -n 20 /log; exit 1; }}
ln -sf /proc/self/mounts /etc/mtab
echo 'APT::Get::Assume-Yes "true";' >/etc/apt/apt.conf.d/90yes
useradd --create-home --shell /bin/bash newcomer
echo 'newcomer ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/newcomer
echo 'Defaults env_keep += "UP42_API_URL UP42_AUTH_URL UP42_USERNAME DEBIAN_FRONTEND"' \
    >>/etc/sudoers.d/newcomer
cp /shared/*.deb /home/newcomer/
cp /shared/authorities.pem /etc/ssl/certs/ca-certificates.crt
cd /home/newcomer
echo "127.0.1.1 $(hostname)" >>/etc/hosts
runuser -u newcomer -- env -i {env} {under} bash -euo pipefail /shared/page \
    </dev/null >/log 2>&1 ||
    {{ tail -n 40 /log; exit 1; }}
tail -n 3 /log
"""


def commands_of(page: str) -> list[str]:
    """The blocks of a page that a person can run on a bare machine."""
    return [b.text for b in blocks(page) if b.kind == "sh" and (not b.why or ME in b.why)]


def script_of(person: Person) -> str:
    """All that the person types, and the proof at the end."""
    parts = ["set -x"]
    for name in person.pages:
        page = (ROOT / "docs" / name).read_text(encoding="utf-8")
        commands = "".join(f"cd ~\n{block}" for block in commands_of(page))
        first = commands.find("~/up42/")
        # Pages about work with a mount say that it is there; the first page unmounted it.
        if name != person.pages[0] and "~/up42" in page:
            parts.append("cd ~; test -e ~/up42/assets || up42fs mount ~/up42")
        elif first >= 0 and "up42fs mount" not in commands[:first]:
            raise SystemExit(f"{name} uses a mount before it says how to make one")
        # `… | head` ends its left side early on purpose.
        commands = re.sub(r"^(.*\| head\b.*)$", r"{ \1; } || test $? = 141", commands, flags=re.M)
        # The one command that prompts.
        login = r"^((?:sudo )?up42fs login.*)$"
        parts.append(re.sub(login, r"\1 </shared/password", commands, flags=re.M))
    return "\n".join(
        [*parts, f"cd ~; {person.proof}", "up42fs unmount ~/up42 2>/dev/null || true", ""]
    )


def follow(name: str, root: Path, work: Path, env: Mapping[str, str]) -> bool:
    """Whether the person's pages lead to a window; prints the end of what was said."""
    person = PEOPLE[name]
    password = env["UP42_PASSWORD"]
    told = {k: v for k, v in env.items() if k != "UP42_PASSWORD"} | {
        "HOME": "/home/newcomer",
        "USER": "newcomer",
        "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "LC_ALL": "C.UTF-8",
        "DEBIAN_FRONTEND": "noninteractive",
        "PIP_CERT": "/etc/ssl/certs/ca-certificates.crt",
        "PIP_FIND_LINKS": "/shared/wheels",
    }
    given = " ".join(f"{k}={quote(v)}" for k, v in told.items())
    under = "xvfb-run -a" if person.desk else ""
    (work / "page").write_text(script_of(person), encoding="utf-8")
    (work / "password").write_text(f"{password}\n", encoding="utf-8")
    (work / "try").write_text(_MACHINE.format(desk=person.desk, env=given, under=under))
    shell = f'. "{ROOT}/contrib/bare-root.sh"; in_bare_root "$1" "$2"'
    began = time.monotonic()
    done = subprocess.run(
        ["sh", "-euc", shell, "sh", str(root), str(work)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=MOST_S,
        check=False,
    )
    print(done.stdout, end="")
    result = "reached a window" if done.returncode == 0 else "did not get there"
    print(f"{name}: {result} after {time.monotonic() - began:.0f} s", flush=True)
    return done.returncode == 0


def main() -> int:
    """Follow the pages of those who are named, or of everybody."""
    root, work, *names = sys.argv[1:]
    with emulator(synthetic=None) as ready:
        done = [follow(name, Path(root), Path(work), ready["env"]) for name in names or PEOPLE]
    return int(not all(done))


if __name__ == "__main__":
    sys.exit(main())

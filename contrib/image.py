"""Runs the steps of contrib/Dockerfile in bare roots; contrib/test-image calls it.

    python contrib/image.py ROOT WORK

WORK/context is the context of the build. Known are FROM, ARG, RUN, COPY, USER and WORKDIR.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from shlex import quote, split

sys.path.insert(0, str(Path(__file__).with_name("bench")))
from mounts import emulator

ROOT = Path(__file__).resolve().parent.parent
#: What a container of the image has beside its files.
_BEGIN = """set -eu
unset SSL_CERT_FILE SSL_CERT_DIR
export DEBIAN_FRONTEND=noninteractive
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mkdir -p /etc/ssl/certs && cp /shared/authorities.pem /etc/ssl/certs/own.pem
# pip in a build of its own reads the second.
export PIP_CERT=/etc/ssl/certs/own.pem REQUESTS_CA_BUNDLE=/etc/ssl/certs/own.pem
ln -sf /proc/self/mounts /etc/mtab
"""
_PROOF = """
chmod 666 /dev/fuse
cat >/window <<'END'
up42fs mount /mnt/up42
test "$(id -u)" = 1000
gdal_translate -q -srcwin 64 64 256 256 /mnt/up42/assets/elevation_berlin.tif w.tif
gdalinfo w.tif | grep '^Size is 256, 256'
up42fs unmount /mnt/up42
END
runuser -u {user} -- env HOME=/home/{user} {env} sh -euc 'cd {place} && . /window'
"""


def stages(text: str) -> list[list[tuple[str, str]]]:
    """The instructions of each stage, as (word, rest)."""
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    found: list[list[tuple[str, str]]] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            found.append([])
        elif word not in ("ARG", "RUN", "COPY", "USER", "WORKDIR"):
            raise SystemExit(f"image: {word} is not known")
        else:
            found[-1].append((word, rest.strip()))
    return found


def script_of(steps: list[tuple[str, str]]) -> str:
    """The steps that run as root, as a shell script."""
    lines = [_BEGIN]
    for word, rest in steps:
        if word == "ARG":
            lines.append(rest)
        elif word == "RUN":
            lines.append(f"( {rest} ) >/log 2>&1 || {{ tail -n 20 /log; exit 1; }}")
        elif word == "COPY":
            *sources, target = [part for part in split(rest) if not part.startswith("--")]
            base = "/shared/build" if "--from" in rest else "/shared/context/"
            if target.endswith("/"):
                lines.append(f"mkdir -p {quote(target)}")
            lines += [f"cp -a {base}{source} {quote(target)}" for source in sources]
    return "\n".join(lines) + "\n"


def run(root: str, work: Path, script: str) -> None:
    """Run a script in a fresh overlay of the root."""
    (work / "try").write_text(script, encoding="utf-8")
    shell = f'. "{ROOT}/contrib/bare-root.sh"; in_bare_root "$1" "$2"'
    subprocess.run(["sh", "-euc", shell, "sh", root, str(work)], check=True, timeout=1800)


def main() -> None:
    """Build both stages, and read a window as the user of the last."""
    root, work = sys.argv[1], Path(sys.argv[2])
    build, final = stages((ROOT / "contrib/Dockerfile").read_text(encoding="utf-8"))
    taken = [split(rest)[1] for word, rest in final if word == "COPY" and "--from" in rest]
    keep = "".join(
        f"mkdir -p /shared/build{Path(path).parent} && cp -a {path} /shared/build{path}\n"
        for path in taken
    )
    run(root, work, script_of(build) + keep)
    settled = dict(final)
    with emulator(synthetic=None) as ready:
        env = " ".join(f"{name}={quote(value)}" for name, value in ready["env"].items())
        proof = _PROOF.format(user=settled["USER"], place=settled["WORKDIR"], env=env)
        run(root, work, script_of(final) + proof)
    print("the image's user mounted, and read a window")


if __name__ == "__main__":
    main()

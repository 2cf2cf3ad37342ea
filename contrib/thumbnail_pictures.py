"""Makes the picture of docs/views.md: Thunar with thumbnails of an order, in a virtual screen.

    python contrib/thumbnail_pictures.py      writes thumbnails.png to docs/pictures

Needs Debian's packages thunar, tumbler, xvfb, dbus, xdotool and imagemagick. The order is made of
the sample images that `up42fs demo` made; the thumbnails are made for real, by `up42fs thumbnail`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).with_name("bench")))
from mounts import emulator, mounted

PICTURES = Path(__file__).resolve().parent.parent / "docs" / "pictures"
COMMAND = (sys.executable, "-P", "-m", "up42fs")
ORDER = "Brandenburg in April"
#: Sample images, and their names in the order.
FILES = {
    "visual.tiff": "tempelhof_visual.tif",
    "b04.tiff": "sentinel2_b04.tif",
    "scl.tiff": "sentinel2_scl.tif",
    "stored.zip": "delivery.zip",
    "preview.jpg": "delivery.preview.jpg",
}
SCREEN = "760x420"
#: A session that shows the directory until thumbnails have come, and takes the picture.
SESSION = """
thunar --daemon & thunar_pid=$!
sleep 2
thunar "$1" &
sleep 25
window=$(xdotool search --onlyvisible --class thunar | tail -1)
xdotool windowmove $window 0 0 windowsize $window 760 420 mousemove 750 410
sleep 3
import -window root "$2"
kill $thunar_pid
"""


def storage(sample: Path, place: Path) -> None:
    """An order of some of the sample's files."""
    order = place / ORDER
    order.mkdir(parents=True)
    for name, shown in FILES.items():
        shutil.copy(next(sample.rglob(name)), order / shown)


def await_items(order: Path) -> None:
    """Return once each file's STAC item is known: the picture of an archive is found by it."""
    for _ in range(600):
        files = [path for path in order.iterdir() if path.is_file()]
        if files and all("user.up42.stac.item_id" in os.listxattr(path) for path in files):
            return
        time.sleep(0.1)
    raise SystemExit("the items are not known after a minute")


@contextmanager
def directory() -> Iterator[str]:
    """A directory of one name, which the picture shows; raises FileExistsError."""
    made = Path(tempfile.gettempdir(), "up42fs-pictures")
    made.mkdir(mode=0o700)
    try:
        yield str(made)
    finally:
        shutil.rmtree(made)


def main() -> None:
    """Draw the picture."""
    with directory() as made:
        home, place = Path(made, "home"), Path(made, "up42")
        for each in (home, place):
            each.mkdir()
        storage(Path.home() / ".cache/up42fs", Path(made, "data"))
        env = {"HOME": str(home), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
        subprocess.run(
            [*COMMAND, "setup", "--user"], env=env, check=True, stdout=subprocess.DEVNULL
        )
        with emulator(None, "--data", str(Path(made, "data"))) as ready:
            at_home = ready["env"] | {"HOME": str(home), "UP42FS_CRAWL_AFTER_S": "0"}
            with mounted(at_home, place, home):
                await_items(place / "orders" / ORDER)
                target = PICTURES / "thumbnails.png"
                command = ["dbus-run-session", "--", "sh", "-c", SESSION, "sh"]
                subprocess.run(
                    ["xvfb-run", "-a", "-s", f"-screen 0 {SCREEN}x24", *command,
                     str(place / "orders" / ORDER), str(target)],
                    env=env, check=True, timeout=120,
                )  # fmt: skip


if __name__ == "__main__":
    main()

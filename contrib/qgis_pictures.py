"""Makes the picture of docs/qgis.md: an order on the map of QGIS, in a virtual screen.

    python contrib/qgis_pictures.py      writes qgis.png to docs/pictures

Needs Debian's packages qgis, python3-qgis, openbox, xvfb and gdal-bin. The order is made of a
sample image that `up42fs demo` made. QGIS opens the order's `layers.qlr`, as it does for a user who
drags it into the window, and draws what it reads from the mount.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).with_name("bench")))
from mounts import clean_environment, emulator, mounted

PICTURES = Path(__file__).resolve().parent.parent / "docs" / "pictures"
ORDER = "Brandenburg in April"
#: Windows of the sample's image of three bands, in pixels.
FILES = {"west.tif": ("0", "0", "1100", "1500"), "east.tif": ("948", "400", "1100", "1648")}
SCREEN = "1100x700"
#: The longest that QGIS may take, seconds.
MOST_S = 120
#: Run by QGIS in its window.
IN_QGIS = """
import os
from qgis.core import QgsLayerDefinition, QgsProject
from qgis.PyQt.QtCore import QTimer
from qgis.PyQt.QtWidgets import QApplication, QDockWidget, QToolBar
from qgis.utils import iface

window, canvas = iface.mainWindow(), iface.mapCanvas()
window.setWindowTitle("UP42 - QGIS")
window.showNormal()
window.setGeometry(0, 0, 1100, 700)
for dock in window.findChildren(QDockWidget):
    dock.setVisible(dock.objectName() == "Layers")
for bar in window.findChildren(QToolBar):
    bar.setVisible(bar.objectName() in ("mFileToolBar", "mMapNavToolBar", "mAttributesToolBar"))
root = QgsProject.instance().layerTreeRoot()
project = QgsProject.instance()
ok, error = QgsLayerDefinition.loadLayerDefinition(os.environ["LAYERS"], project, root)
assert ok, error

drawn = []

def grab():
    window.grab().save(os.environ["PICTURE"])
    os._exit(0)

def refreshed():
    drawn.append(1)
    if len(drawn) == 1:
        canvas.zoomToFullExtent()
        canvas.zoomByFactor(1.1)
        QTimer.singleShot(15000, grab)

canvas.mapCanvasRefreshed.connect(refreshed)
canvas.zoomToFullExtent()
canvas.refresh()
"""
SESSION = """
openbox & wm=$!
qgis --nologo --noversioncheck --noplugins --profiles-path "$HOME" --code "$1"
kill $wm
"""


def main() -> None:
    """Make the order, and draw it."""
    with tempfile.TemporaryDirectory() as made:
        data = Path(made, "data", ORDER)
        data.mkdir(parents=True)
        source = next((Path.home() / ".cache/up42fs").rglob("visual.tiff"))
        for name, window in FILES.items():
            cut = ["gdal_translate", "-q", "-co", "TILED=YES", "-srcwin", *window]
            subprocess.run([*cut, str(source), str(data / name)], check=True)
        with emulator(None, "--data", str(data.parent)) as ready:
            draw(Path(made), ready["env"])


def draw(made: Path, account: dict[str, str]) -> None:
    """Draw the order of a storage."""
    home, place, target = Path(made, "home"), Path(made, "up42"), PICTURES / "qgis.png"
    home.mkdir()
    place.mkdir()
    code = Path(made, "code.py")
    code.write_text(IN_QGIS, encoding="utf-8")
    env = account | {"HOME": str(home)}
    with mounted(env, place, home):
        inside = clean_environment(env) | {
            "LC_ALL": "C.UTF-8",
            "LAYERS": str(place / "orders" / ORDER / "layers.qlr"),
            "PICTURE": str(target),
            "XDG_RUNTIME_DIR": str(made),
            "PATH": "/usr/bin:/bin",  # QGIS looks there for its Python
        }
        before = target.stat().st_mtime_ns if target.exists() else 0
        subprocess.run(
            ["xvfb-run", "-a", "-s", f"-screen 0 {SCREEN}x24", "sh", "-c", SESSION, "sh",
             str(code)],
            env=inside, check=False, timeout=MOST_S,
        )  # fmt: skip
    if not target.exists() or target.stat().st_mtime_ns == before:
        raise SystemExit("QGIS drew nothing: run its command in a screen of your own")


if __name__ == "__main__":
    main()

"""What a person does with an image in QGIS, by QGIS itself; prints one JSON line.

/usr/bin/python3 qgis_script.py IMAGE
"""

import hashlib
import json
import sys

from qgis.core import (
    QgsApplication,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsPointXY,
    QgsRaster,
    QgsRasterBandStats,
    QgsRasterLayer,
    QgsRectangle,
)
from qgis.PyQt.QtCore import QSize


def rendered(layer, extent):
    settings = QgsMapSettings()
    settings.setLayers([layer])
    settings.setDestinationCrs(layer.crs())
    settings.setExtent(extent)
    settings.setOutputSize(QSize(400, 400))
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    image = job.renderedImage()
    pixels = image.constBits().asstring(image.sizeInBytes())
    return hashlib.sha256(pixels).hexdigest(), len(set(pixels))


def main(path):
    application = QgsApplication([], False)
    application.initQgis()
    layer = QgsRasterLayer(path, "image")
    assert layer.isValid(), layer.error().message()
    whole = layer.extent()
    width = layer.rasterUnitsPerPixelX() * 400
    centre = whole.center()
    window = QgsRectangle(
        centre.x() - width / 2,
        centre.y() - width / 2,
        centre.x() + width / 2,
        centre.y() + width / 2,
    )
    overview, colours = rendered(layer, whole)
    full, _ = rendered(layer, window)
    provider = layer.dataProvider()
    found = provider.identify(QgsPointXY(centre), QgsRaster.IdentifyFormatValue)
    stats = provider.bandStatistics(
        1, QgsRasterBandStats.Min | QgsRasterBandStats.Max | QgsRasterBandStats.Mean, whole, 10_000
    )
    answer = {
        "size": [layer.width(), layer.height()],
        "bands": layer.bandCount(),
        "crs": layer.crs().authid(),
        "overview": overview,
        "colours": colours,
        "window": full,
        "identified": {str(band): value for band, value in found.results().items()},
        "statistics": [stats.minimumValue, stats.maximumValue, stats.mean],
    }
    print(json.dumps(answer))
    del layer
    application.exitQgis()


main(sys.argv[1])

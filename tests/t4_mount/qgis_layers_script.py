"""Load a layer definition into a QGIS project; print what became of its layers as one JSON line.

/usr/bin/python3 qgis_layers_script.py LAYERS.qlr
"""

import json
import sys

from qgis.core import QgsApplication, QgsLayerDefinition, QgsProject


def main(path):
    application = QgsApplication([], False)
    application.initQgis()
    project = QgsProject.instance()
    done = QgsLayerDefinition.loadLayerDefinition(path, project, project.layerTreeRoot())
    assert done[0] if isinstance(done, tuple) else done, done
    rows = []
    for node in project.layerTreeRoot().findLayers():
        layer = node.layer()
        rows.append(
            {
                "name": node.name(),
                "valid": layer is not None and layer.isValid(),
                "crs": layer.crs().authid() if layer is not None else None,
                "fill": layer.renderer().symbol().symbolLayer(0).properties().get("style")
                if layer is not None and hasattr(layer, "featureCount")
                else None,
                "bands": getattr(layer, "bandCount", lambda: None)(),
                "count": getattr(layer, "featureCount", lambda: None)(),
            }
        )
    print(json.dumps(rows))
    project.clear()
    application.exitQgis()


main(sys.argv[1])

"""Sidecars (`-o sidecars`): files that GDAL and QGIS write beside images, kept on this machine."""

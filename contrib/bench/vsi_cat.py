"""`cat` of a file by GDAL's own reader, for `/vsicurl/`; needs the system's Python with GDAL."""

import sys

from osgeo import gdal

file = gdal.VSIFOpenL(sys.argv[1], "rb")
if file is None:
    sys.exit(f"cannot open {sys.argv[1].partition('?')[0]}")
while piece := gdal.VSIFReadL(1, 1 << 20, file):
    sys.stdout.buffer.write(piece)

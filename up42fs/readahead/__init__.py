"""Which bytes to fetch for a handle's reads, and which to prefetch.

Pure: a plan takes reads and returns ranges. It knows runs, tiles of TIFF, members of zips and JPEG
2000, and neither clocks nor networks nor inodes. Start reading at `plan`.
"""

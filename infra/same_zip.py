"""Writes a zip again so that it depends on its files' names and contents only: entries in order, one time, one mode each.

    python3 same_zip.py ZIP
"""

import os
import sys
import zipfile

path = sys.argv[1]
# The first time that a zip can hold.
TIME = (1980, 1, 1, 0, 0, 0)
with zipfile.ZipFile(path) as archive:
    files = {entry.filename: archive.read(entry) for entry in archive.infolist() if not entry.is_dir()}
with zipfile.ZipFile(path + ".new", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
    for name in sorted(files):
        entry = zipfile.ZipInfo(name, TIME)
        entry.create_system = 3
        entry.compress_type = zipfile.ZIP_DEFLATED
        # Lambda runs what may be run, and reads what all may read.
        entry.external_attr = (0o100755 if name == "bootstrap" else 0o100644) << 16
        archive.writestr(entry, files[name])
os.replace(path + ".new", path)

"""Packs the SDK that lies here into a folder, as an upload to PyPI does, and tells the files of each package.

    python packages.py FOLDER
"""

import json
import sys
import tarfile
import zipfile
from pathlib import Path

from flit_core import buildapi

folder = Path(sys.argv[1])
wheel, source = (folder / build(str(folder)) for build in (buildapi.build_wheel, buildapi.build_sdist))
with zipfile.ZipFile(wheel) as packed, tarfile.open(source) as sources:
    # A source package has all in one folder.
    below = [name.partition("/")[2] for name in sources.getnames()]
    print(json.dumps({"path": str(wheel), "wheel": packed.namelist(), "source": below}))

"""`python -m benchmarks.store FOLDER NAME`: put an artifact into the store of BENTOML_HOME, print its tag."""

from __future__ import annotations

import sys
from pathlib import Path

from artifact.store import put

if __name__ == "__main__":
    print(put(Path(sys.argv[1]), name=sys.argv[2], version="1"))

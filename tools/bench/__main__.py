"""Start the bench, as `python -m tools.bench` or `python tools/bench`."""

import sys
from pathlib import Path

if not __package__:
    # Run as a folder, Python puts the folder itself in front, where its modules would hide others of their name.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from tools.bench.command import main

main()

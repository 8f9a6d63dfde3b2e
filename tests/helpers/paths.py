"""Where things lie."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HELPERS = Path(__file__).resolve().parent
#: Real skeletons; tests that want them skip where the folder is not there.
SHARED = ROOT.parent / 'shared' / 'data'

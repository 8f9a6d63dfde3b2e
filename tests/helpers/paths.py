"""Where things lie."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HELPERS = Path(__file__).resolve().parent
#: Real skeletons; tests that want them skip where the folder is not there.
SHARED = ROOT.parent / 'shared' / 'data'

_spec = importlib.util.spec_from_file_location('tool_options', ROOT / 'tools' / 'options.py')
#: tools/options.py, which is no module of a package.
tool_options = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tool_options)

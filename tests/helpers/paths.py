"""Where things lie."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
HELPERS = Path(__file__).resolve().parent
#: Real skeletons; tests that want them skip where the folder is not there.
SHARED = ROOT.parent / 'shared' / 'data'


def load_tool(name: str) -> ModuleType:
    """A file of tools/ as a module; it is no module of a package."""
    spec = importlib.util.spec_from_file_location(f'tool_{name}', ROOT / 'tools' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


#: What the tools import by this name.
tool_options = sys.modules['options'] = load_tool('options')

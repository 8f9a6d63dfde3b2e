"""Micro-gesture plug-ins: importing this mends MMAction2 and registers everything with it.

Without OpenMMLab nothing is registered, and the fusion and the kernels work with torch alone.
"""

import sys
import warnings
from pathlib import Path

from mg_plugins.openmmlab import compat

__version__ = '0.1.0'

# In a checkout the kernels lie beside this package; an installed one has them within.
_CHECKOUT = Path(__file__).resolve().parents[1]
if (_CHECKOUT / 'setup.py').is_file() and (_CHECKOUT / 'kernels' / '__init__.py').is_file():
    __path__.append(str(_CHECKOUT))

compat.apply()
if compat.openmmlab_problem() is None:
    from mg_plugins.openmmlab import mm  # noqa: F401
elif 'mmengine' in sys.modules:
    # A config that imports this package would only say later that some type is not registered.
    warnings.warn(f'mg_plugins has registered nothing: {compat.openmmlab_problem()}', stacklevel=2)

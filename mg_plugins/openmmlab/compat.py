"""Keep MMAction2 1.2 and MMEngine 0.10 working on today's PyTorch, numpy and setuptools.

Their last releases, of 2023 and 2025, break on what pip installs now. Each fix is one function that
says what is broken and why its remedy is safe; it does nothing where upstream is whole, and nothing
the second time. Fixes wait for the module they mend: whether ``mg_plugins`` is imported before or
after it makes no difference, and waiting costs no import. This module needs numpy only.
"""

import copyreg
import importlib
import importlib.util
import inspect
import re
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from mg_plugins.errors import UserError
from mg_plugins.openmmlab import checkpoints, in_place_of


def apply() -> None:
    """Put every fix in place, now or as soon as the module that it mends is imported."""
    supply_drn()
    if not any(isinstance(finder, _AfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterImport())
    for name in _MENDS:
        if sys.modules.get(name) is not None:
            _mend(sys.modules[name])


#: What MMAction2 1.2 and this package accept, by import name.
_ACCEPTED = {
    'mmengine': '>=0.7.1,<1.0.0',
    'mmcv': '>=2.0.0rc4,<2.2.0',
    'mmaction': '>=1.0.0,<2.0.0',
}
#: What else has to be there: why, and the requirement that brings it.
_NEEDED = {
    'importlib_metadata': ('MMAction2 imports without requiring it', 'importlib_metadata'),
    'pkg_resources': ('MMEngine imports and setuptools 81 dropped', '"setuptools<81"'),
}
# What the extra [openmmlab] brings, without mmcv-lite for those who have an mmcv: one installed
# over the other breaks both.
_EXTRA = (
    'pip install "mmengine>=0.10.4,<0.11" "mmaction2==1.2.0" importlib_metadata "setuptools<81"'
)
_LITE = ' "mmcv-lite>=2.0.0,<2.2.0"'


def openmmlab_problem() -> str | None:
    """Why MMEngine, mmcv and MMAction2 cannot be used together, and the command that mends it.

    They are not imported for it; where all is well it is None.
    """
    missing = [name for name in _ACCEPTED if _folder(name) is None]
    if missing:
        lite = 'mmcv' in missing or _mmcv_package() == 'mmcv-lite'
        verb = 'is' if len(missing) == 1 else 'are'
        return f'{" and ".join(missing)} {verb} not installed: run {_EXTRA}{_LITE * lite}'
    # mmcv requires packaging, numpy and torch do not: it may be missing until mmcv is there.
    from packaging.specifiers import SpecifierSet

    for name, accepted in _ACCEPTED.items():
        # As the package itself states it, which is what MMAction2 compares.
        path = _folder(name) / 'version.py'
        text = path.read_text(encoding='utf-8') if path.is_file() else ''
        found = re.search(r"""^__version__ = ['"]([^'"]+)['"]""", text, flags=re.MULTILINE)
        if found and not SpecifierSet(accepted).contains(found[1], prereleases=True):
            return (
                f'{name} {found[1]} is installed, but MMAction2 1.2.0 and mg_plugins need '
                f'{name} {accepted}: run {_replace(name, accepted)}'
            )
    for name, (why, requirement) in _NEEDED.items():
        if _folder(name) is None:
            return f'{name} is not installed, which {why}: run pip install {requirement}'
    return None


class OpenMMLabMissing(UserError, ImportError):
    """MMEngine, mmcv and MMAction2 cannot be used; the message says why and what mends it."""


def require_openmmlab() -> None:
    """Go on where MMEngine, mmcv and MMAction2 can be used, or raise `OpenMMLabMissing`."""
    if problem := openmmlab_problem():
        raise OpenMMLabMissing(problem)


def _folder(name: str) -> Path | None:
    """Folder of an installed top-level package; None where there is none."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    # A folder without __init__.py, as a removed package leaves behind, has no origin.
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def _mmcv_package() -> str | None:
    """Name of the distribution that the installed mmcv came in; None for a source tree."""
    for name in ('mmcv', 'mmcv-full', 'mmcv-lite'):
        with suppress(metadata.PackageNotFoundError):
            metadata.distribution(name)
            return name
    return None


def _replace(name: str, accepted: str) -> str:
    """Command that brings a package into a range; a full mmcv stays a full one."""
    installed = {'mmcv': _mmcv_package() or 'mmcv', 'mmaction': 'mmaction2'}.get(name, name)
    if installed == 'mmcv-full':
        return f'pip uninstall -y mmcv-full && pip install "mmcv{accepted}"'
    return f'pip install "{installed}{accepted}"'


class _AfterImport(MetaPathFinder):
    """Finds what Python's own finder finds, and mends the module right after it has run."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name not in _MENDS:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_and_mend(module: ModuleType) -> None:
                with warnings.catch_warnings():
                    # mmcv-lite lacks an operator, which no skeleton model uses.
                    warnings.filterwarnings('ignore', 'Fail to import ``MultiScaleDeformable')
                    run(module)
                _mend(module)

            spec.loader.exec_module = run_and_mend
        return spec


def _mend(module: ModuleType) -> None:
    for mend in _MENDS[module.__name__]:
        mend(module)


class DRN:
    """Stand-in for MMAction2's video localizer of this name, which its PyPI release lacks."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise ImportError(
            "PyPI's mmaction2 1.2.0 lacks the folder mmaction/models/localizers/drn that holds "
            'DRN; to use DRN install MMAction2 from its repository: '
            'pip install git+https://github.com/open-mmlab/mmaction2'
        )


def supply_drn() -> None:
    """Let ``import mmaction.models`` pass where ``mmaction/models/localizers/drn`` is missing.

    PyPI's mmaction2 1.2.0 was built without that folder (open-mmlab/mmaction2 issue 2714). The
    stand-in holds only the name that is imported from there, and is not registered, so that a DRN
    of the user's own can be.
    """
    home = _folder('mmaction')
    if home is None or (home / 'models/localizers/drn').is_dir():
        return
    for name in ('mmaction.models.localizers.drn', 'mmaction.models.localizers.drn.drn'):
        sys.modules.setdefault(name, ModuleType(name)).DRN = DRN


def restore_inf(module: ModuleType) -> None:
    """Give one module a copy of numpy's namespace that still has ``np.Inf``.

    ``PoseCompact``, ``MMCompact`` and ``frame_extract`` use the name, which numpy 2.0 removed;
    numpy itself stays as it is for everybody else. A dataloader worker that is spawned, not forked,
    imports these classes afresh: they travel with a reference to this module, which mends it there.
    """
    if hasattr(getattr(module, 'np', np), 'Inf') or 'np.Inf' not in inspect.getsource(module):
        return
    view = ModuleType('numpy', np.__doc__)
    view.__dict__.update(np.__dict__)
    view.Inf = np.inf
    module.np = view
    for name in ('PoseCompact', 'MMCompact'):
        if hasattr(module, name):
            copyreg.pickle(getattr(module, name), lambda it: (_revive, (type(it),), it.__dict__))


def _revive(kind: type) -> Any:
    # To find this function a process imports mg_plugins, and so mends the module of `kind`.
    return kind.__new__(kind)


def score_in_float32(module: ModuleType) -> None:
    """Let heads take bfloat16 scores, as autocast gives them; in float32 the loss is more exact.

    ``BaseHead.loss_by_feat`` makes a numpy array of them, and numpy has no bfloat16.
    """

    @in_place_of(module.BaseHead, 'loss_by_feat')
    def loss_by_feat(plain: Callable, self: Any, cls_scores: Any, *args: Any, **kwargs: Any):
        return plain(self, cls_scores.float(), *args, **kwargs)


# What MMAction2's VindLU imports and today's releases may lack, the quickest to fail first.
_VINDLU_NEEDS = (
    ('timm.models.layers', 'DropPath'),
    ('transformers.modeling_utils', 'apply_chunking_to_forward'),
    ('transformers.models.beit.modeling_beit', 'BeitDropPath'),
)


def offer_multimodal_where_it_can_be(module: ModuleType) -> None:
    """Import MMAction2 without its language models where they cannot be imported.

    It imports VindLU wherever transformers is installed, which imports timm too (which may want
    torchvision) and names that transformers 5 dropped: the import of every model died of it. The
    placeholders that stand in for VindLU without transformers say what to install.
    """
    if not module.WITH_MULTIMODAL:
        return
    for name, needed in _VINDLU_NEEDS:
        try:
            there = hasattr(importlib.import_module(name), needed)
        except (ImportError, RuntimeError):
            there = False
        if not there:
            module.WITH_MULTIMODAL = False
            return


# Module to be mended, and the fixes that wait for it, in this order; they may be called again.
_MENDS = {
    'mmaction.utils.dependency': (offer_multimodal_where_it_can_be,),
    'mmaction.datasets.transforms.pose_transforms': (restore_inf,),
    'mmaction.utils.misc': (restore_inf,),
    'mmcv.cnn.bricks.transformer': (),
    'mmengine.runner.checkpoint': (
        checkpoints.allow_what_mmengine_saves,
        checkpoints.keep_weights_only_for_urls,
        checkpoints.load_safely,
    ),
    'mmengine.runner.runner': (checkpoints.explain_resume,),
    'mmaction.models.heads.base': (score_in_float32,),
}

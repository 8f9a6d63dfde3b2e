"""The fixes of openmmlab.compat and openmmlab.checkpoints, on the real packages.

What depends on the order of imports, and what kills or spawns, runs in processes of its own.
"""

import contextlib
import io
import itertools
import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import mg_plugins
from mg_plugins.openmmlab import checkpoints, compat

pytest.importorskip('mmaction', reason='MMAction2 is not installed')

import mmaction
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as mmengine_checkpoint

import malicious_checkpoints
from paths import HELPERS as HERE

TOOLS = Path(mmaction.__file__).parent / '.mim' / 'tools'
CONFIG = HERE / 'toy_gcn_config.py'


def run(*command, check=True, **environment):
    """Run Python on a command line; returns the process with everything that it printed."""
    paths = [str(HERE), str(Path(mg_plugins.__file__).parents[1])]
    process = subprocess.run(
        [sys.executable, *map(str, command)],
        env={**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': os.pathsep.join(paths)}
        | {name: str(value) for name, value in environment.items()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert not check or process.returncode == 0, process.stdout
    return process


def run_code(code, *arguments, options=(), **environment):
    """Run Python code; returns what its last line printed, read as JSON."""
    process = run(*options, '-c', code, *arguments, **environment)
    return json.loads(process.stdout.splitlines()[-1])


def saved_and_loaded(content):
    """What `torch.load` makes of something, with its own defaults."""
    file = io.BytesIO()
    torch.save(content, file)
    file.seek(0)
    return torch.load(file)


@contextlib.contextmanager
def allowing(entries):
    """Only these global names are allowed to `torch.load`, beside those of torch."""
    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        torch.serialization.add_safe_globals(entries)
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


# --- imports -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_failed_import_of_mmaction_is_mended_afterwards():
    code = """
import json
import mmaction.datasets, mmengine.runner
found = {}
try:
    import mmaction.models
except ModuleNotFoundError as error:
    found['missing'] = error.name
resume = mmengine.runner.Runner.resume
import mg_plugins
import mg_plugins.openmmlab.compat as compat
import mmaction.models, numpy
from mmaction.datasets.transforms import pose_transforms
from mmaction.models.localizers import DRN
compat.apply()
try:
    DRN()
except ImportError as error:
    found['DRN'] = str(error)
found['registered'] = mmaction.models.STGCN is mmaction.registry.MODELS.get('STGCN')
found['DRN registered'] = mmaction.registry.MODELS.get('DRN') is not None
found['Inf'] = pose_transforms.np.Inf
found['numpy'] = hasattr(numpy, 'Inf')
found['resume'] = mmengine.runner.Runner.resume.__wrapped__ is resume
print(json.dumps(found))
"""
    found = run_code(code)
    assert found['registered'] and found['resume'] and found['Inf'] == float('inf')
    assert found['numpy'] == hasattr(np, 'Inf')
    if 'missing' in found:
        assert found['missing'] == 'mmaction.models.localizers.drn'
        assert 'pip install git+' in found['DRN']
        assert not found['DRN registered']


@pytest.mark.slow
def test_compact_transforms_run_here_and_in_a_spawned_process():
    process = run(HERE / 'spawned_compact.py')
    assert json.loads(process.stdout.splitlines()[-1]) == [[39, 38]] * 3


# --- what is installed -------------------------------------------------------------------------

PROBLEMS = """
import json, sys
from pathlib import Path
import packaging.version
sys.modules['mmengine'] = None
import mg_plugins
from mg_plugins.openmmlab.compat import openmmlab_problem
del sys.modules['mmengine']

PYTHON = [entry for entry in sys.path if not (Path(entry) / 'mmcv').exists()]
GOOD = {'mmengine': '0.10.7', 'mmcv': '2.1.0', 'mmaction': '1.2.0'}
GOOD |= {'importlib_metadata': '8.0', 'pkg_resources': '80'}

def install(name, packages, distributions):
    folder = Path(sys.argv[1]) / name.replace(' ', '_')
    for package, version in packages.items():
        (folder / package).mkdir(parents=True)
        (folder / package / '__init__.py').touch()
        (folder / package / 'version.py').write_text(f"__version__ = '{version}'\\n")
    for distribution, version in distributions.items():
        information = folder / f'{distribution}-{version}.dist-info'
        information.mkdir()
        (information / 'METADATA').write_text(f'Name: {distribution}\\nVersion: {version}\\n')
    return str(folder)

def problem(name, distributions, absent=(), **versions):
    packages = {k: v for k, v in (GOOD | versions).items() if k not in absent}
    sys.path = [install(name, packages, distributions), *PYTHON]
    return openmmlab_problem()

lite, full = {'mmcv_lite': '2.1.0'}, {'mmcv': '2.1.0'}
print(json.dumps({
    'whole': problem('whole', lite),
    'nothing': problem('nothing', {}, absent=('mmengine', 'mmcv', 'mmaction')),
    'no mmcv': problem('no mmcv', {}, absent=('mmcv',)),
    'lite only': problem('lite only', lite, absent=('mmaction',)),
    'full only': problem('full only', full, absent=('mmaction', 'mmengine')),
    'new mmcv': problem('new mmcv', {'mmcv': '2.2.0'}, mmcv='2.2.0'),
    'new mmcv-lite': problem('new lite', {'mmcv_lite': '2.2.0'}, mmcv='2.2.0'),
    'old mmcv': problem('old mmcv', {'mmcv_full': '1.7.2'}, mmcv='1.7.2'),
    'old mmaction': problem('old mmaction', full, mmaction='0.24.1'),
    'no importlib_metadata': problem('no im', lite, absent=('importlib_metadata',)),
    'no pkg_resources': problem('no pr', lite, absent=('pkg_resources',)),
}))
"""


@pytest.fixture(scope='module')
def problems(tmp_path_factory):
    return run_code(PROBLEMS, tmp_path_factory.mktemp('installed'))


@pytest.mark.parametrize(
    ('situation', 'names', 'command'),
    [
        ('nothing', 'mmengine and mmcv and mmaction', '"mmcv-lite>=2.0.0,<2.2.0"'),
        ('no mmcv', 'mmcv is not installed', '"mmcv-lite>=2.0.0,<2.2.0"'),
        ('lite only', 'mmaction is not installed', '"mmcv-lite>=2.0.0,<2.2.0"'),
        ('full only', 'mmengine and mmaction are', '"mmaction2==1.2.0"'),
        ('new mmcv', 'mmcv 2.2.0', 'pip install "mmcv>=2.0.0rc4,<2.2.0"'),
        ('new mmcv-lite', 'mmcv 2.2.0', 'pip install "mmcv-lite>=2.0.0rc4,<2.2.0"'),
        ('old mmcv', 'mmcv 1.7.2', 'pip uninstall -y mmcv-full && pip install "mmcv>='),
        ('old mmaction', 'mmaction 0.24.1', 'pip install "mmaction2>=1.0.0,<2.0.0"'),
        ('no importlib_metadata', 'importlib_metadata', 'pip install importlib_metadata'),
        ('no pkg_resources', 'pkg_resources', 'pip install "setuptools<81"'),
    ],
)
def test_a_problem_is_named_with_the_command_that_mends_it(problems, situation, names, command):
    assert names in problems[situation]
    assert command in problems[situation]
    assert '\n' not in problems[situation]
    if situation in ('full only', 'new mmcv', 'old mmcv', 'old mmaction'):
        assert 'lite' not in problems[situation] and 'openmmlab' not in problems[situation]


def test_a_whole_installation_has_no_problem(problems):
    assert problems['whole'] is None
    assert compat.openmmlab_problem() is None
    compat.require_openmmlab()


def test_our_code_imports_without_a_warning_where_openmmlab_is_missing():
    code = """
import json, sys
sys.modules['mmaction'] = None
from mg_plugins import compat
try:
    compat.require_openmmlab()
except ImportError as error:
    print(json.dumps(str(error)))
"""
    assert 'mmaction is not installed' in run_code(code, options=['-W', 'error'])


WHOLE = {
    '__init__.py': '',
    'version.py': "__version__ = '0.0.0'",  # keeps mg_plugins from registering with it
    'models/__init__.py': 'from .localizers import DRN',
    'models/localizers/__init__.py': 'from .drn.drn import DRN',
    'models/localizers/drn/__init__.py': '',
    'models/localizers/drn/drn.py': 'class DRN:\n    whole = True',
    'datasets/__init__.py': '',
    'datasets/transforms/__init__.py': '',
    'datasets/transforms/pose_transforms.py': 'import numpy as np\nclass PoseCompact:\n    pass',
    'utils/__init__.py': '',
    'utils/misc.py': 'import numpy as np\ndef side():\n    return np.Inf',
}


@pytest.mark.parametrize('drn', ['whole', 'missing', 'half'])
def test_what_is_whole_upstream_is_left_alone(tmp_path, drn):
    for name, text in WHOLE.items():
        if drn == 'missing' and '/drn/' in name or drn == 'half' and name.endswith('drn.py'):
            continue
        path = tmp_path / 'mmaction' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    code = """
import json, sys
sys.path.insert(0, sys.argv[1])
import copyreg, numpy, mg_plugins
from mmaction.datasets.transforms import pose_transforms
from mmaction.utils import misc
found = {'same numpy': pose_transforms.np is numpy, 'Inf': misc.side(), 'half': None}
found['reduced'] = pose_transforms.PoseCompact in copyreg.dispatch_table
try:
    from mmaction.models import DRN
    found['whole'] = hasattr(DRN, 'whole')
except ModuleNotFoundError as error:
    found['half'] = error.name
print(json.dumps(found))
"""
    found = run_code(code, tmp_path)
    assert found['same numpy'] and not found['reduced'] and found['Inf'] == float('inf')
    if drn == 'half':
        assert found['half'] == 'mmaction.models.localizers.drn.drn'
    else:
        assert found['whole'] == (drn == 'whole')


def write_timm(folder, layers):
    (folder / 'timm/models').mkdir(parents=True)
    for name in ('timm/__init__.py', 'timm/models/__init__.py'):
        (folder / name).touch()
    (folder / 'timm/models/layers.py').write_text(layers)


@pytest.mark.parametrize('layers', [None, 'import torchvision_that_is_not_there'])
def test_without_timm_there_are_no_language_models(layers, tmp_path, monkeypatch):
    for name in ('timm', 'timm.models', 'timm.models.layers'):
        monkeypatch.delitem(sys.modules, name, raising=False)
    if layers is None:
        monkeypatch.setitem(sys.modules, 'timm', None)
    else:
        write_timm(tmp_path, layers)
        monkeypatch.syspath_prepend(tmp_path)
    module = SimpleNamespace(WITH_MULTIMODAL=True)
    compat.offer_multimodal_where_it_can_be(module)
    assert not module.WITH_MULTIMODAL


@pytest.mark.slow
def test_transformers_alone_do_not_stop_the_import_of_models(tmp_path):
    """MMAction2 imports VindLU where transformers is; these transformers lack what VindLU needs."""
    pytest.importorskip('transformers', reason='transformers is not installed')
    write_timm(tmp_path, 'DropPath = 1')
    code = """
import json, sys
sys.path.insert(0, sys.argv[1])
import mg_plugins
from mmaction.registry import MODELS
from mmaction.models import STGCN
try:
    MODELS.get('VindLUVQA')()
except ImportError as error:
    print(json.dumps(str(error)))
"""
    assert 'mmaction2[multimodal]' in run_code(code, tmp_path)


# --- the main job ------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Folder of a training that was killed in its second epoch of two and resumed; what it said."""
    folder = tmp_path_factory.mktemp('toy')
    rng = np.random.default_rng(0)
    clips = [
        {
            'frame_dir': f'clip{i}',
            'label': i % 3,
            'img_shape': (100, 100),
            'original_shape': (100, 100),
            'total_frames': 12,
            'keypoint': rng.uniform(1, 99, size=(1, 12, 17, 2)).astype(np.float32),
            'keypoint_score': np.ones((1, 12, 17), np.float32),
        }
        for i in range(12)
    ]
    content = {'split': {'all': [clip['frame_dir'] for clip in clips]}, 'annotations': clips}
    (folder / 'clips.pkl').write_bytes(pickle.dumps(content))
    command = [TOOLS / 'train.py', CONFIG, '--work-dir', folder / 'run']
    killed = run(*command, check=False, TOY_FOLDER=folder, TOY_KILL_AT=9)
    assert killed.returncode == -signal.SIGKILL, killed.stdout
    assert (folder / 'run' / 'last_checkpoint').read_text().endswith('epoch_1.pth')
    resumed = run(*command, '--resume', TOY_FOLDER=folder)
    return folder, resumed.stdout


@pytest.mark.slow
def test_a_killed_training_resumes_and_ends_with_its_full_epoch_count(trained):
    folder, said = trained
    assert 'resumed epoch: 1, iter: 6' in said
    saved = torch.load(folder / 'run' / 'epoch_2.pth')
    assert (saved['meta']['epoch'], saved['meta']['iter']) == (2, 12)
    losses = saved['message_hub']['log_scalars']['train/loss']
    # six iterations before the kill and after the resume; the three between are done again
    assert type(losses) is HistoryBuffer and len(losses.data[0]) == 12
    assert 'ema_state_dict' in saved and len(saved['param_schedulers']) == 2
    assert 'Fail to import' not in said


@pytest.mark.slow
def test_the_installed_test_tool_reads_the_checkpoint(trained):
    folder, _ = trained
    command = [TOOLS / 'test.py', CONFIG, folder / 'run' / 'epoch_2.pth']
    tested = run(*command, '--work-dir', folder / 'test', TOY_FOLDER=folder)
    assert 'acc/top1' in tested.stdout


@pytest.mark.slow
def test_a_plain_checkpoint_is_loaded_by_a_fused_model_and_not_resumed(trained):
    folder, _ = trained
    plain = folder / 'run' / 'epoch_2.pth'
    crafted = torch.load(plain)
    crafted['meta']['config'] = f"open({str(folder / 'marker')!r}, 'w').close()"
    torch.save(crafted, folder / 'crafted.pth')
    code = """
import json, sys
from mmengine.config import Config
from mmengine.runner import Runner
cfg = Config.fromfile(sys.argv[1])
import mg_plugins.autofuse
import torch
cfg.work_dir, cfg.load_from, cfg.resume = sys.argv[2], sys.argv[3], True
try:
    Runner.from_cfg(cfg).train()
except ValueError as error:
    said = str(error)
cfg.experiment_name, cfg.resume, cfg.custom_hooks = 'from plain weights', False, []
runner = Runner.from_cfg(cfg)
runner.load_or_resume()
saved = torch.load(sys.argv[3])['state_dict']
own = runner.model.state_dict()
same = all(torch.equal(own[name], saved[name]) for name in saved)
parameters = len(list(runner.model.parameters()))
print(json.dumps([said, same, parameters, len(own) > len(saved)]))
"""
    said, same, parameters, fused = run_code(
        code, CONFIG, folder / 'fused', folder / 'crafted.pth', TOY_FOLDER=folder
    )
    assert same and fused
    saved = sum(len(group['params']) for group in crafted['optimizer']['param_groups'])
    assert f'{saved} parameters' in said and f'model {parameters}' in said
    assert f'--cfg-options load_from={folder / "crafted.pth"}' in said
    assert not (folder / 'marker').exists()


# --- checkpoints -------------------------------------------------------------------------------


def message() -> dict:
    """What MMEngine saves of a run, by kind."""
    from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler

    return {
        'loss': HistoryBuffer([0.5, 0.25], [1, 1]),
        'empty': HistoryBuffer(),
        'best': np.float64(0.75),
        'step': np.int64(3),
        'arrays': [np.arange(6).astype(code).reshape(2, 3) for code in ('f4', 'i1', 'u2', '?')],
        'columns': np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        'long': np.arange(500.0),
        'anneal': OneCycleParamScheduler._annealing_cos,
    }


def check_message(loaded: dict) -> None:
    assert type(loaded['loss']) is HistoryBuffer and type(loaded['loss'].data[0]) is np.ndarray
    assert loaded['loss'].statistics('mean') == 0.375 and loaded['loss'].statistics('min') == 0.25
    loaded['loss'].update(0.1)
    assert len(loaded['empty'].data[0]) == 0
    wanted = message()
    assert loaded['best'] == 0.75 and type(loaded['best']) is np.float64
    assert loaded['step'] == 3 and type(loaded['step']) is np.int64
    for name in ('columns', 'long'):
        assert np.array_equal(loaded[name], wanted[name])
    for array, expected in zip(loaded['arrays'], wanted['arrays'], strict=True):
        assert np.array_equal(array, expected) and array.dtype == expected.dtype
    assert loaded['anneal'] is wanted['anneal']


def test_what_mmengine_saves_is_loaded_and_saved_again(monkeypatch):
    content = message()
    monkeypatch.setattr(HistoryBuffer, '_statistics_methods', {})  # as in a new process
    loaded = saved_and_loaded(content)
    check_message(loaded)
    again = saved_and_loaded(loaded)
    assert len(again['loss'].data[0]) == 3
    # a plain pickle of what was loaded needs nothing of ours
    assert b'mg_plugins' not in pickle.dumps(loaded)


@pytest.mark.parametrize('theirs', list(itertools.product([False, True], repeat=4)))
def test_real_numpy_types_that_others_allow_do_no_harm(theirs):
    ours = checkpoints._stand_ins()
    names = [('numpy.dtype', np.dtype), ('numpy.ndarray', np.ndarray)]
    names += [('_reconstruct', malicious_checkpoints.RECONSTRUCT)]
    names += [('scalar', malicious_checkpoints.SCALAR)]
    for (name, real), take in zip(names, theirs, strict=True):
        if take:
            ours |= {key: real for key in ours if key.endswith(name)}
    with allowing([(what, name) for name, what in ours.items()]):
        check_message(saved_and_loaded(message()))


def test_names_that_mmengine_or_the_user_allowed_stay_theirs():
    with allowing([HistoryBuffer, (dict, 'builtins.getattr')]):
        checkpoints.allow_what_mmengine_saves()
        checkpoints.allow_what_mmengine_saves()
        allowed = torch.serialization.get_safe_globals()
    names = [entry[1] for entry in allowed if isinstance(entry, tuple)]
    assert (dict, 'builtins.getattr') in allowed and len(names) == len(set(names))
    assert 'mmengine.logging.history_buffer.HistoryBuffer' not in names
    assert 'numpy.dtype' in names


def test_only_numbers_of_mmengine_can_come_in():
    entries = torch.serialization.get_safe_globals()
    allowed = {entry[0] if isinstance(entry, tuple) else entry for entry in entries}
    assert not allowed & {getattr, np.ndarray, np.dtype, HistoryBuffer, bytes}
    assert not allowed & {malicious_checkpoints.RECONSTRUCT, malicious_checkpoints.SCALAR}


ATTACKS = malicious_checkpoints.attacks(Path('marker'))


@pytest.mark.parametrize('name', ATTACKS)
def test_a_malicious_checkpoint_is_refused_and_leaves_no_trace(name, tmp_path):
    content = malicious_checkpoints.attacks(tmp_path / 'marker')[name]
    HistoryBuffer()
    before = malicious_checkpoints.state_of_process()
    torch.save(content, tmp_path / 'checkpoint.pth')
    with pytest.raises(pickle.UnpicklingError):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'checkpoint.pth'))
    assert not (tmp_path / 'marker').exists()
    assert malicious_checkpoints.state_of_process() == before


@pytest.mark.slow
def test_the_malicious_checkpoints_are_real(tmp_path):
    process = run(HERE / 'malicious_checkpoints.py', tmp_path)
    traces = json.loads(process.stdout.splitlines()[-1])
    assert [name for name, trace in traces.items() if trace == ['code']] == [
        'runs a command',
        'runs eval',
        'runs exec from a module',
    ]
    assert traces['writes into a module'] == ['module']
    statistics = ['writes into a class', 'adds a statistic', 'replaces a statistic']
    assert all(traces[name] == ['statistics'] for name in statistics)


@pytest.mark.parametrize(
    ('dtype', 'order'), [(checkpoints._dtype, '='), (np.dtype, '>')], ids=['ours', 'real']
)
def test_forged_flags_of_a_type_are_ignored(dtype, order):
    flags = (3, '>', None, None, None, -1, -1, 63)
    forged = malicious_checkpoints.Call(np.dtype, 'f8', False, True, state=flags)
    array = malicious_checkpoints.Call(
        malicious_checkpoints.RECONSTRUCT,
        np.ndarray,
        (0,),
        b'b',
        state=(1, (1,), forged, False, np.array(2, f'{order}f8').tobytes()),
    )
    ours = checkpoints._stand_ins() | {'numpy.dtype': dtype}
    with allowing([(what, name) for name, what in ours.items()]):
        loaded = saved_and_loaded(array)
    assert loaded.dtype.flags == np.dtype('f8').flags == 0 and not loaded.dtype.hasobject
    assert loaded[0] == 2


@pytest.mark.parametrize('name', ['mean', malicious_checkpoints.Text('mean'), '__init__', 0])
def test_the_restricted_getattr_knows_four_functions(name):
    if name == 'mean' and type(name) is str:
        assert checkpoints._getattr(HistoryBuffer, name) is HistoryBuffer.mean
    else:
        with pytest.raises(pickle.UnpicklingError, match='refused'):
            checkpoints._getattr(HistoryBuffer, name)
    with pytest.raises(pickle.UnpicklingError, match='refused'):
        checkpoints._getattr(np, 'mean')
    with pytest.raises(pickle.UnpicklingError, match='refused'):
        checkpoints._getattr(type('Sub', (HistoryBuffer,), {}), 'mean')


def test_weights_only_stays_on_for_files_and_turns_on_for_urls(tmp_path, monkeypatch):
    monkeypatch.delenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', raising=False)
    torch.save(ATTACKS['runs eval'], tmp_path / 'checkpoint.pth')
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / 'checkpoint.pth')
    url = (tmp_path / 'checkpoint.pth').as_uri()
    with pytest.raises(pickle.UnpicklingError):
        mmengine_checkpoint.load_url(url, model_dir=str(tmp_path / 'hub'))

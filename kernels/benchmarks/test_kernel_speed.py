"""``pytest kernels/benchmarks``: what the kernels take, beside eager PyTorch and torch.compile.

On CUDA at the shapes of ST-GCN on NTU and on iMiGUE and along T and V; on a CPU at small shapes.
Nothing here fails by its time. The table is printed at the end and saved as JSON (see
``docs/KERNELS.md``); the parts that matter most come first, and what the budget does not reach is
named.
"""

import os
import sys

import pytest
import torch

from mg_plugins import kernels
from mg_plugins.kernels.benchmarks import clock, roofline, stgcn
from mg_plugins.kernels.benchmarks.cases import COMPILERS
from mg_plugins.kernels.benchmarks.session import OUT, SEED, Session
from mg_plugins.kernels.setups import IMIGUE, NTU, OVER_FRAMES, OVER_JOINTS, SMALL

pytest.importorskip('pytest_benchmark', reason='pip install "mg-plugins[test]"')

# pytest is about to import this folder's parent, as a package of its own name; its operators must
# not be registered twice.
sys.modules.setdefault('kernels', kernels)

CUDA = torch.cuda.is_available()
WATCH = clock.Stopwatch(torch.device('cuda' if CUDA else 'cpu'))
LISTED = [*NTU, *IMIGUE] if CUDA else SMALL
# One point of each curve is a listed shape and measured there.
FRAMES, JOINTS = ([s for s in curve if s not in LISTED] for curve in (OVER_FRAMES, OVER_JOINTS))
FULL, HALF, LOW = torch.float32, torch.bfloat16, torch.float16
BOTH_WAYS = ('forward', 'forward+backward')
COMPILED = dict.fromkeys(COMPILERS, roofline.DIRECTIONS)

pytestmark = pytest.mark.benchmark(timer=WATCH.now)


class Run:
    """The session of this run, once a benchmark has asked for it, and what has run in it."""

    session: Session | None = None
    ran: set[str] = set()

    @staticmethod
    def pytest_terminal_summary(terminalreporter):
        """Print the table and save the record."""
        stats = terminalreporter.stats
        names = {name for name in globals() if name.startswith('test_')}
        whole = names == Run.ran and not any(
            stats.get(k) for k in ('failed', 'error', 'deselected')
        )
        terminalreporter.section('speed of the kernels')
        terminalreporter.write(Run.session.finish(whole))


@pytest.fixture
def timed(benchmark, request):
    """The session and pytest-benchmark's fixture; skips where no time is left.

    No record is kept where pytest-benchmark is switched off, as it is under xdist.
    """
    if Run.session is None:
        Run.session = Session(WATCH, record=benchmark.enabled)
        if benchmark.enabled:
            request.config.pluginmanager.register(Run, 'mg-kernel-speed')
    session = Run.session
    Run.ran.add(request.node.originalname)
    benchmark.group = request.node.originalname
    if session.recording and session.left() <= 0:
        session.leave_out(request.node.name, f'the {session.budget:.0f} s were over')
        pytest.skip('the time for benchmarks is over')
    yield session, benchmark
    if session.recording and os.environ.get(OUT):
        session.save()  # what was measured survives if the run is stopped


def cases(shapes, dtypes, directions=roofline.DIRECTIONS):
    """Parameters, types outermost, directions innermost: a case is compiled once."""
    return [
        pytest.param(shape, dtype, direction, id=f'{shape} {dtype} {direction}'.replace(' ', '-'))
        for dtype in dtypes
        for shape in shapes
        for direction in directions
    ]


def compare(timed, work, shape, dtype, direction, compiled=None):
    session, benchmark = timed
    compiled = (compiled or {}) if session.recording else {}
    case = session.get(work, shape, dtype, compiled)
    session.compare(benchmark, case, direction)


@pytest.mark.parametrize(
    'shape, dtype, direction', cases(NTU, [HALF]) if CUDA else cases(SMALL[1:], [FULL])
)
def test_both_kernels(timed, shape, dtype, direction):
    compare(timed, 'pool+mix', shape, dtype, direction, COMPILED if CUDA else None)


@pytest.mark.parametrize('dtype', [HALF, FULL] if CUDA else [FULL], ids=str)
def test_train_step(timed, dtype):
    session, benchmark = timed
    sizes = stgcn.NTU_STEP if CUDA else stgcn.SMALL_STEP
    found, failed = stgcn.contenders(sizes, dtype, WATCH.device, SEED)
    session.record['failed'] += [f'step, {name}: {why}' for name, why in failed.items()]
    about = dict(
        work='step',
        direction=f'ST-GCN of {stgcn.model_name()}',
        shape={k: getattr(sizes, k) for k in ('clips', 'persons', 'frames', 'joints')},
        dtype=str(dtype).removeprefix('torch.'),
    )
    session.take_turns(benchmark, found, 'fused', about, None)


@pytest.mark.parametrize(
    'shape, dtype, direction',
    [*cases(LISTED, [HALF, LOW, FULL], ('forward',)), *cases(NTU, [HALF], ('backward',))]
    if CUDA
    else cases(SMALL, [FULL], ('forward',)),
)
@pytest.mark.parametrize('work', ['mix', 'pool'])
def test_one_kernel(timed, work, shape, dtype, direction):
    compare(timed, work, shape, dtype, direction)


if CUDA:

    @pytest.mark.parametrize(
        'shape, dtype, direction',
        cases([*FRAMES, *JOINTS], [HALF, LOW, FULL], ('forward',)),
    )
    def test_growth_of_mix(timed, shape, dtype, direction):
        compare(timed, 'mix', shape, dtype, direction)

    @pytest.mark.parametrize(
        'shape, dtype, direction', [*cases(IMIGUE, [HALF]), *cases(LISTED, [FULL])]
    )
    def test_both_kernels_at_the_other_shapes(timed, shape, dtype, direction):
        compare(timed, 'pool+mix', shape, dtype, direction, COMPILED)

    @pytest.mark.parametrize('shape, dtype, direction', cases(FRAMES, [HALF, FULL], BOTH_WAYS))
    def test_growth_over_frames(timed, shape, dtype, direction):
        # Only the forward is compiled here: a backward takes inductor too long for so many points.
        compiled = {'compile': ('forward',)}
        compare(timed, 'pool+mix', shape, dtype, direction, compiled)

    @pytest.mark.parametrize('shape, dtype, direction', cases(JOINTS, [HALF, FULL], BOTH_WAYS))
    def test_growth_over_joints(timed, shape, dtype, direction):
        compiled = {'compile': ('forward',)}
        compare(timed, 'pool+mix', shape, dtype, direction, compiled)


@pytest.mark.parametrize(
    'shape, dtype, direction',
    cases(LISTED, [HALF, FULL]) if CUDA else cases(SMALL[:1], [FULL, HALF]),
)
def test_whole_fusion(timed, shape, dtype, direction):
    compiled = {'compile': roofline.DIRECTIONS} if CUDA else None
    compare(timed, 'fusion', shape, dtype, direction, compiled)


if not CUDA:
    # Compilers come last: they take most of the time that a CPU has.

    @pytest.mark.parametrize('shape, dtype, direction', cases(SMALL[:1], [HALF, FULL]))
    def test_compiled(timed, shape, dtype, direction):
        compiled = COMPILED if dtype == FULL else None
        compare(timed, 'pool+mix', shape, dtype, direction, compiled)

"""Pre-training through MMEngine's Runner: on one process, killed and resumed, and on two."""

import logging
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from mmaction.structures import ActionDataSample
from mmengine.config import Config
from mmengine.dist import all_reduce_params
from mmengine.model import MMDistributedDataParallel
from mmengine.runner import Runner

from mg_plugins.contrast.learner import gather, shuffled, unshuffled
from mg_plugins.contrast.losses import ContrastError
from mg_plugins.contrast.mm.hooks import CollapseHook

from contrast_toys import build, model_config, run, runner_config, write_clips
from paths import HELPERS as HERE
from paths import ROOT
from ranks import run_on_ranks


@pytest.fixture(scope='module')
def clips(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp('clips'))


def state_of(path) -> dict:
    return torch.load(path)['state_dict']


def test_it_learns_and_logs_and_its_queue_wraps_around(clips, tmp_path):
    config = runner_config(clips, tmp_path, model_config())
    config.custom_hooks.append(dict(type='CollapseHook', interval=2))
    runner = run(config)
    model = runner.model
    queue = model.heads['sequence'].queue
    number = len(runner.train_dataloader.dataset)
    assert queue.filled == 20 and queue.pointer == 3 * number % 20
    assert queue.features.norm(dim=1).allclose(torch.ones(20), atol=1e-5)
    logged = runner.message_hub.log_scalars
    for name in ('loss_fused', 'contrast/acc', 'contrast/positive', 'contrast/std_fused'):
        assert f'train/{name}' in logged
    assert len(queue.held()[1].unique()) > 10  # frame_dir came through the pipeline


def test_the_momentum_encoder_steps_with_the_optimizer(clips, tmp_path):
    config = runner_config(clips, tmp_path, model_config(sequence=None))
    config.train_cfg = dict(type='IterBasedTrainLoop', max_iters=3)
    config.optim_wrapper.accumulative_counts = 3
    seen = []
    runner = Runner.from_cfg(config)
    model = runner.model
    move = model.update_momentum
    model.update_momentum = lambda momentum: (seen.append(runner.iter), move(momentum))
    before = model.momentum['projectors']['graph'][0].weight.clone()
    runner.train()
    assert seen == [2]
    fast = model.projectors['graph'][0].weight
    slow = model.momentum['projectors']['graph'][0].weight
    start = (slow - 0.1 * fast) / 0.9
    assert not torch.equal(slow, before) and start.allclose(before, atol=1e-5)


def test_mixed_precision_trains_on_a_cpu(clips, tmp_path):
    model = model_config(extreme=1.0, drop=0.3)
    config = runner_config(clips, tmp_path, model, views=3)
    config.optim_wrapper.type = 'BFloat16OptimWrapper'
    runner = run(config)
    queue = runner.model.heads['graph'].queue
    assert queue.features.dtype == torch.float32
    assert queue.features.norm(dim=1).allclose(torch.ones(20), atol=1e-5)
    assert all(weight.isfinite().all() for weight in runner.model.parameters())


def test_too_large_a_queue_is_refused_before_the_first_step(clips, tmp_path):
    model = model_config(head=dict(queue_size=4096))
    with pytest.raises(ContrastError, match='larger than the training set of'):
        run(runner_config(clips, tmp_path, model))
    assert not list(tmp_path.glob('*.pth'))


@pytest.mark.parametrize('collapsed', [True, False])
def test_collapse_is_named_in_the_log(collapsed, clips, tmp_path):
    head = dict(type='InfoNCEHead', dim=32, queue_size=20)
    config = runner_config(clips, tmp_path, model_config(sequence=None, head=head))
    config.train_cfg.max_epochs = 1
    config.custom_hooks.append(dict(type='CollapseHook', interval=4))
    config.optim_wrapper.optimizer.lr = 0.0
    config.experiment_name = tmp_path.name
    runner = Runner.from_cfg(config)
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    runner.logger.addHandler(handler)
    if collapsed:
        with torch.no_grad():
            runner.model.projectors['graph'][2].weight.zero_()
    runner.train()
    warned = [m for m in messages if m.startswith('The graph features have collapsed')]
    assert bool(warned) == collapsed
    std = runner.message_hub.get_scalar('train/contrast/std_graph').current()
    assert (std < 1e-3) == collapsed


def look_at(batches, interval=1):
    """Warnings of a `CollapseHook` that saw these embeddings."""
    hook, messages, logged = CollapseHook(interval=interval), [], {}
    runner = SimpleNamespace(
        model=SimpleNamespace(queries=None),
        iter=0,
        message_hub=SimpleNamespace(update_scalar=logged.__setitem__),
        logger=SimpleNamespace(warning=messages.append),
    )
    for runner.iter, batch in enumerate(batches):
        runner.model.queries = dict(graph=batch)
        hook.after_train_iter(runner)
    assert set(logged) == {'train/contrast/std_graph', 'train/contrast/rank_graph'}
    return messages


@pytest.mark.parametrize('rows', [1, 2, 3, 4])
def test_small_batches_are_no_collapse(rows):
    torch.manual_seed(0)
    even = F.normalize(torch.randn(60, 16), dim=1)
    assert look_at(even.split(rows)) == []
    # The same clip over and over.
    assert look_at(even[:1].expand(60, -1).split(rows), 5)


def test_a_diverged_training_ends_with_what_to_do(clips, tmp_path):
    config = runner_config(clips, tmp_path, model_config(sequence=None))
    config.custom_hooks.append(dict(type='CollapseHook', interval=2))
    config.optim_wrapper.optimizer.lr = 1e30
    with pytest.raises(ContrastError, match='diverged. Lower the learning rate'):
        run(config)


@pytest.mark.slow
def test_the_tool_ends_a_diverged_training_without_a_traceback(run_tool, tmp_path):
    options = ['optim_wrapper.optimizer.lr=1e30', 'synthetic.clips=96', 'synthetic.subjects=6']
    options += ['model.head.queue_size=16', 'train_dataloader.num_workers=0']
    options += ['train_dataloader.persistent_workers=False']
    config = ROOT / 'configs/stbcl_stgcn_msr_action3d.py'
    done = run_tool('train', config, '--cfg-options', *options, cwd=tmp_path, check=False)
    assert done.returncode == 1 and 'Traceback' not in done.stdout
    assert 'train.py: training stopped at epoch 1' in done.stdout
    assert 'with a lower learning rate' in done.stdout


KILL = """
import sys
sys.path[:0] = [{here!r}, {root!r}]
import torch
import toy_hooks
from mmengine.config import Config
from contrast_toys import run
torch.set_num_threads(1)
run(Config.fromfile(sys.argv[1]))
"""


@pytest.mark.slow
def test_killed_and_resumed_it_has_the_same_queues_to_the_bit(clips, tmp_path):
    """The state that a new process resumes is the state that the killed one saved."""
    config = runner_config(clips, tmp_path / 'run', model_config())
    per_epoch = -(-len(Runner.build_dataloader(config.train_dataloader).dataset) // 6)
    config.custom_hooks.append(dict(type='KillHook'))
    config.custom_imports = dict(imports=['toy_hooks'])
    config.dump(tmp_path / 'config.py')
    code = KILL.format(here=str(HERE), root=str(HERE))
    command = [sys.executable, '-c', code, str(tmp_path / 'config.py')]
    environment = os.environ | dict(TOY_KILL_AT=str(2 * per_epoch + 1))
    killed = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    saved = state_of(tmp_path / 'run/epoch_2.pth')
    assert saved['heads.graph.queue.filled'] == 20

    config = Config.fromfile(tmp_path / 'config.py')
    config.resume = True
    config.experiment_name = 'resumed'
    config.custom_hooks = config.custom_hooks[:1]
    runner = Runner.from_cfg(config)
    begun = {}
    hook = runner.hooks[0]
    after = type(hook).before_train_epoch
    hook.before_train_epoch = lambda r: (begun.update(snapshot(r.model)), after(hook, r))
    runner.train()
    assert runner.epoch == 3
    names = [n for n in saved if n.startswith(('heads.', 'momentum.'))]
    assert any('queue.pointer' in n for n in names) and any('momentum.sequence' in n for n in names)
    for name in names:
        assert torch.equal(begun[name], saved[name]), name
    assert not torch.equal(
        runner.model.state_dict()['heads.graph.queue.features'], saved['heads.graph.queue.features']
    )


def snapshot(model) -> dict:
    return {name: value.clone() for name, value in model.state_dict().items()}


def train_on_a_rank(rank: int, shuffle: bool) -> None:
    """Uneven batches on two ranks: the same weights, momentum encoders and queues on both."""
    torch.manual_seed(rank)
    model = build(head=dict(dim=6, queue_size=17), shuffle_bn=shuffle)
    wrapped = MMDistributedDataParallel(model, broadcast_buffers=False)
    model.copy_to_momentum()
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    kept = []
    for size in (4, 3 + 2 * rank, 5 - rank):
        clips = torch.randn(size, 2, 1, 8, 20, 3)
        names = [f'clip {rank} {number}' for number in range(size)]
        samples = [ActionDataSample(metainfo=dict(frame_dir=name)) for name in names]
        total, _ = model.parse_losses(wrapped(clips, samples, mode='loss'))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        model.update_momentum(0.9)
        kept.append(int(model.heads['graph'].queue.filled))
    assert kept == [8, 16, 17]
    state = snapshot(model)
    all_reduce_params(model.buffers(), op='mean')  # what SyncBuffersHook does after an epoch
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name]) or not name.startswith('heads.'), name
    assert len(state['heads.graph.queue.clips'].unique()) > 8
    for name, value in state.items():
        local = 'running_' in name or 'num_batches' in name
        if not local:
            first = value.clone()
            dist.broadcast(first, 0)
            assert torch.equal(first, value), name
    assert state['heads.fused.queue.features'].norm(dim=1).allclose(torch.ones(17), atol=1e-5)


def deal_on_a_rank(rank: int) -> None:
    """Every value goes to some rank and comes back to its own place."""
    own = torch.arange(3 + 2 * rank)[:, None] + 10.0 * rank
    torch.manual_seed(rank)
    dealt, places = shuffled(own)
    assert len(dealt) == len(own) and not torch.equal(dealt, own)
    assert torch.cat(gather(dealt)).flatten().sort().values.tolist() == [0, 1, 2, *range(10, 15)]
    back = unshuffled(dealt * 2, places)
    assert torch.equal(back[rank], own * 2) and len(back[1 - rank]) == 5 - 2 * rank


def all_on_a_rank(rank: int) -> None:
    deal_on_a_rank(rank)
    for shuffle in (True, False):
        train_on_a_rank(rank, shuffle)


@pytest.mark.slow
def test_two_ranks_keep_one_queue():
    run_on_ranks(all_on_a_rank)

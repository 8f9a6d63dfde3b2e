"""Statistics by hand, the plan, and one real comparison that is interrupted and goes on."""

import json

import numpy as np
import pytest

from mg_plugins.data.annotations import save_annotations
from mg_plugins.data.synthetic import make_synthetic
from mg_plugins.experiments import compare

from paths import ROOT


def test_variants_are_read():
    plain = compare.Variant.parse('configs/stgcn_imigue.py')
    assert (plain.name, plain.config, plain.options) == (
        'stgcn_imigue',
        'configs/stgcn_imigue.py',
        (),
    )
    named = compare.Variant.parse('two heads=a/b.py; model.backbone.heads=2;x.y=[z]')
    assert named == compare.Variant('two heads', 'a/b.py', ('model.backbone.heads=2', 'x.y=[z]'))
    assert named.folder == 'two_heads'
    with pytest.raises(ValueError, match="KEY=VALUE, got 'heads'"):
        compare.Variant.parse('a.py;heads')


def test_left_out_subjects_leave_training_and_are_tested(tmp_path):
    (run,) = compare.plan([compare.Variant('v', 'c.py')], [4], [('1', '3')], tmp_path)
    command = run.command([], [])
    assert 'train_dataloader.dataset.exclude_subjects=[1,3,]' in command
    assert 'test_dataloader.dataset.subjects=[1,3,]' in command
    assert 'test_dataloader.dataset.split=xsub_train' in command
    assert '--resume' not in command and command[command.index('--seed') + 1] == '4'


def test_bootstrap_of_equal_sides_is_centred_and_of_a_constant_gap_exact():
    clips = np.array([50, 100, 50])
    first = np.array([[40, 80, 40]] * 4)
    gap = compare.bootstrap_difference(first, first + [[5, 10, 5]], clips, draws=500)
    np.testing.assert_allclose(gap, 10.0)
    rng = np.random.default_rng(0)
    noisy = rng.integers(30, 50, size=(6, 3))
    draws = compare.bootstrap_difference(noisy, noisy, clips)
    assert abs(draws.mean()) < 0.2 and draws.std() > 0.5


def test_bootstrap_spreads_like_the_seeds_it_resamples():
    # One subject: only the seeds vary, so the deviation is that of a mean of n seeds, each side.
    right = np.array([[10], [20], [30], [40]])
    draws = compare.bootstrap_difference(right, right, np.array([100]), draws=40_000)
    assert draws.std() == pytest.approx(np.sqrt(2 * right.var() / 4), rel=0.03)


@pytest.mark.slow
def test_compare_runs_and_does_not_run_twice(tmp_path, run_tool):
    split, clips, meta = make_synthetic(dataset='msr_action3d', subjects=4, clips=48)
    (tmp_path / 'data/msr_action3d').mkdir(parents=True)
    save_annotations(tmp_path / 'data/msr_action3d/msr_action3d.pkl', split, clips, meta)
    small = (
        'model.backbone{0}.base_channels=8;model.backbone{0}.num_stages=2;'
        'model.backbone{0}.inflate_stages=[];model.backbone{0}.down_stages=[];'
        'model.cls_head.in_channels=8'
    )
    arguments = [
        f'plain={ROOT}/configs/stgcn_msr_action3d.py;' + small.format(''),
        f'fused={ROOT}/configs/stgcn_mgfuse_msr_action3d.py;' + small.format('.backbone'),
        *('--seeds', 1, '--jobs', 2, '--out', 'out', '--cfg-options', 'train_cfg.max_epochs=1'),
    ]
    out = run_tool('compare', *arguments, cwd=tmp_path).stdout
    assert '| plain |' in out and '| fused |' in out
    results = json.loads((tmp_path / 'out/results.json').read_text())['rows']
    assert [r['name'] for r in results] == ['plain', 'fused'] and 'low' in results[1]
    assert (tmp_path / 'out/comparison.png').read_bytes().startswith(b'\x89PNG')
    reports = sorted((tmp_path / 'out').glob('*/test/s0/test/per_class.png'))
    assert len(reports) == 2
    before = [p.stat().st_mtime_ns for p in reports]
    (tmp_path / 'out/table.md').unlink()
    run_tool('compare', *arguments, cwd=tmp_path)
    assert [p.stat().st_mtime_ns for p in reports] == before
    assert (tmp_path / 'out/table.md').is_file()


def test_a_folder_of_another_run_is_refused(tmp_path):
    variant = compare.Variant('v', str(ROOT / 'configs/stgcn_msr_action3d.py'))
    (run,) = compare.plan([variant], [0], [], tmp_path)
    compare.settle(run, [], [])
    compare.settle(run, [], [])
    with pytest.raises(RuntimeError, match='with other settings: choose another --out'):
        compare.settle(run, ['--amp'], [])

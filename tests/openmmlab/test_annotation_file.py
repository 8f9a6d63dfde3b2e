"""--ann-file: any GCN config on any annotation file, whatever its joints, splits and classes."""

import argparse
import json

import numpy as np
import pytest
import torch
from mmaction.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope

from mg_plugins.data.annotations import AnnotationError, load_annotations, save_annotations
from mg_plugins.data.layouts import LayoutError
from mg_plugins.data.synthetic import make_synthetic
from mg_plugins.openmmlab import launch
from mg_plugins.openmmlab.annotation_file import use_data
from mg_plugins.openmmlab.settings import LOADERS, LaunchError, datasets

from paths import ROOT, tool_options

CONFIGS = ROOT / 'configs'
ARMS = dict(
    name='arms',
    joints=['neck', 'l_elbow', 'l_hand', 'r_elbow', 'r_hand'],
    bones=[['l_elbow', 'neck'], ['l_hand', 'l_elbow'], ['r_elbow', 'neck'], ['r_hand', 'r_elbow']],
    centre='neck',
    pairs=[['l_elbow', 'r_elbow'], ['l_hand', 'r_hand']],
    note='nobody\'s "own" layout',
)
CLASSES = ['nod', 'rub', 'tap']
SMALL = dict(base_channels=4, num_stages=2, inflate_stages=[2], down_stages=[2])


def make_clips(joints, dims, persons=1, clips=24, frames=12):
    """Annotations with random joints; every third clip is of the next class."""
    rng = np.random.default_rng(0)
    return [
        dict(
            frame_dir=f'c{n}',
            label=n % 3,
            subject=f's{n % 4}',
            keypoint=rng.normal(size=(persons, frames, joints, dims)).astype(np.float32),
        )
        for n in range(clips)
    ]


def write(path, clips, train=16, names=('xsub_train', 'xsub_val'), **meta):
    """An annotation file of two splits."""
    ids = [clip['frame_dir'] for clip in clips]
    meta = {'classes': CLASSES, 'source': 'mine'} | meta
    save_annotations(path, {names[0]: ids[:train], names[1]: ids[train:]}, clips, meta)
    return path


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """Files of several layouts, by a word for each."""
    folder = tmp_path_factory.mktemp('files')
    return dict(
        body=write(folder / 'body.pkl', make_clips(25, 2), layout='body25'),
        space=write(folder / 'space.npz', make_clips(25, 3), layout='ntu25'),
        arms=write(folder / 'arms.pkl', make_clips(5, 2), layout=ARMS),
        pairs=write(folder / 'pairs.pkl', make_clips(17, 2, persons=2), layout='coco17'),
        bare=write(folder / 'bare.pkl', make_clips(5, 2), classes=None),
    )


def load(name, path, **options):
    config = Config.fromfile(CONFIGS / f'{name}.py')
    use_data(config, path, **options)
    return config


def arguments(config, *given):
    parser = argparse.ArgumentParser()
    tool_options.config(parser)
    return parser.parse_args([str(config), *map(str, given)])


def shrink(config):
    """Few and short clips through a small model."""
    backbone = config.model.backbone
    backbone.get('backbone', backbone).update(SMALL)
    for part in (config.model, config.model.get('cls_head', {})):
        if 'in_channels' in part:
            part.in_channels = 8
    for dataset in datasets(config):
        for step in dataset.pipeline:
            if 'clip_len' in step:
                step.clip_len = 8
    return config


@pytest.mark.parametrize(
    'name, which',
    [
        ('stgcn_mgfuse_imigue', 'body'),
        ('stgcn_mgfuse_imigue', 'space'),
        ('stgcn_mgfuse_imigue', 'arms'),
        ('aagcn_imigue', 'pairs'),
        ('stgcn_msr_action3d', 'body'),
        ('stgcn_mgfuse_imigue_longtail', 'arms'),
        ('stbcl_stgcn_imigue', 'arms'),
        ('stbcl_stgcn_imigue', 'space'),
        ('stbcl_stgcn_ntu60', 'pairs'),
        ('stbcl_stgcn_ntu60', 'arms'),
        ('aimclr_imigue', 'body'),
        ('stbcl_stgcn_imigue_linear', 'arms'),
    ],
)
def test_every_kind_of_model_learns_from_other_data(name, which, files):
    init_default_scope('mmaction')
    joints = dict(body=25, space=25, arms=5, pairs=17)[which]
    config = shrink(load(name, files[which]))
    dataset = DATASETS.build(config.train_dataloader.dataset)
    model = MODELS.build(config.model).train()
    batch = model.data_preprocessor(pseudo_collate([dataset[n] for n in range(4)]), training=True)
    assert batch['inputs'].shape[-2:] == (joints, 3)
    losses = model(**batch, mode='loss')
    assert all(torch.isfinite(v).all() for k, v in losses.items() if 'loss' in k)
    if 'cls_head' in config.model:
        assert model.cls_head.num_classes == 3
    test = DATASETS.build(config.test_dataloader.dataset)
    assert len(dataset) == 16 and len(test) == 8
    assert test[0]['inputs'].shape[-2:] == (joints, 3)
    assert test.classes == tuple(CLASSES)


def test_nothing_of_the_own_data_of_a_config_is_left(files):
    for name in ('stgcn_mgfuse_imigue', 'stbcl_stgcn_imigue', 'stbcl_stgcn_imigue_linear'):
        config = load(name, files['arms'])
        text = config.pretty_text.replace('work_dirs/stbcl_stgcn_imigue_arms', '')
        assert 'imigue' not in text


def test_the_fusion_and_its_positions_stay(files):
    config = Config.fromfile(CONFIGS / 'stgcn_mgfuse_imigue.py')
    config.model.backbone.positions = ['gcn.3']
    use_data(config, files['body'])
    assert config.model.backbone.type == 'MGFuse' and config.model.backbone.positions == ['gcn.3']
    assert config.model.backbone.backbone.graph_cfg == dict(layout='body25', mode='stgcn_spatial')


def test_a_dumped_config_is_complete_and_may_be_given_the_same_file_again(files, tmp_path):
    config = load('stbcl_stgcn_imigue', files['arms'])
    config.work_dir = 'work_dirs/stbcl_stgcn_imigue_arms'
    config.dump(tmp_path / 'run.py')
    again = Config.fromfile(tmp_path / 'run.py')
    assert again.to_dict() == config.to_dict()
    use_data(again, files['arms'])
    assert again.to_dict() == config.to_dict()
    use_data(again, files['body'])
    assert again.work_dir == 'work_dirs/stbcl_stgcn_imigue_arms_body'


def test_what_does_not_fit_the_data_is_changed_and_said(files, capsys):
    config = load('stbcl_stgcn_imigue', files['arms'])
    said = ' '.join(capsys.readouterr().err.replace('│', ' ').split())
    assert said.count('YOUR DATA') == 1
    assert "24 clips, 16 in split 'xsub_train', 8 in split 'xsub_val'" in said
    assert "5 joints of layout 'arms', 2 coordinates each" in said
    assert config.model.head.queue_size == 8
    assert 'queue of 8 keys instead of 8192, for 16 training clips' in said
    assert 'only 1 step an epoch of ' in said and 'configs/stbcl_stgcn_msr_action3d.py' in said
    # The layout names no hands.
    assert 'without MGHands: MGHands needs one of the regions' in said
    (view, _, *weak) = config.model.data_preprocessor.views
    assert weak == [['weak', dict(type='MGTurn')]] * 2
    (drawn, _) = view
    (_, strong) = drawn['chains']
    assert 'MGHands' not in [step['type'] for step in strong] and len(strong) == 8

    config = load('stbcl_stgcn_imigue', files['body'])
    for drawn, _ in config.model.data_preprocessor.views[:2]:
        (_, strong) = drawn['chains']
        assert 'MGHands' in [step['type'] for step in strong]
    config = load('stgcn_mgfuse_imigue_longtail', files['pairs'])
    said = ' '.join(capsys.readouterr().err.replace('│', ' ').split())
    assert '2 persons in some clips, of whom the model sees the first' in said
    assert config.model.cls_head.loss_cls.counts == [6, 5, 5]
    config = load('stbcl_stgcn_imigue_linear', files['body'])
    assert config.load_from == 'work_dirs/stbcl_stgcn_imigue_body/epoch_300.pth'


def test_what_fits_stays(tmp_path, capsys):
    path = write(tmp_path / 'x.pkl', make_clips(5, 2, clips=300), train=291, layout=ARMS)
    assert load('stbcl_stgcn_msr_action3d', path).model.head.queue_size == 128
    said = capsys.readouterr().err
    assert 'queue' not in said and 'step' not in said and 'persons' not in said


def test_augmentations_in_pipelines_and_views_are_looked_at(files):
    config = Config.fromfile(CONFIGS / 'stgcn_imigue.py')
    views = dict(type='MultiView', layout='imigue22', views=[dict(chain=['weak', 'MGHands'])])
    config.train_dataloader.dataset.pipeline[2:5] = [
        dict(type='MGHands'),
        dict(type='MGFlip', layout='imigue22'),
        views,
    ]
    config.train_dataloader.dataset.pipeline[0].mode = '2d'
    use_data(config, files['space'])
    steps = config.train_dataloader.dataset.pipeline
    assert steps[0]['mode'] == '3d' and steps[2]['type'] == 'MGHands'
    use_data(config, files['arms'])
    steps = config.train_dataloader.dataset.pipeline
    assert [s['type'] for s in steps[2:4]] == ['MGFlip', 'MultiView']
    assert steps[2]['layout']['name'] == steps[3]['layout']['name'] == 'arms'
    assert [s['type'] for s in steps[3]['views'][0]['chain']] == ['MGShift', 'MGShear']


@pytest.mark.parametrize(
    'split, wanted, chosen',
    [
        ('a_train a_val xsub_train xsub_val', None, 'xsub_train xsub_val xsub_val'),
        ('train val', None, 'train val val'),
        ('train val test', None, 'train val test'),
        ('train test', None, 'train test test'),
        ('train val', ('val', 'train'), 'val train train'),
        ('a b', ('a', 'b'), 'a b b'),
    ],
)
def test_splits_are_found(split, wanted, chosen, tmp_path):
    clips = make_clips(5, 2, clips=8)
    parts = {n: [c['frame_dir'] for c in clips[i::4]] for i, n in enumerate(split.split())}
    save_annotations(tmp_path / 'x.pkl', parts, clips, dict(layout=ARMS, classes=CLASSES))
    config = load('stgcn_imigue', tmp_path / 'x.pkl', splits=wanted)
    assert [config[loader].dataset.split for loader in LOADERS] == chosen.split()


@pytest.mark.parametrize(
    'split, message',
    [
        (dict(all=['c0', 'c1']), "one split only, 'all': training and testing need two"),
        (dict(all=['c0', 'c1']), '--val-subjects LIST, or with a column "split"'),
        (dict(train=['c0'], val=[]), "one split only, 'train'"),
        ({}, 'has no split'),
        (dict(a=['c0'], b=['c1']), 'has the splits a, b: say by --splits TRAIN TEST'),
    ],
)
def test_splits_that_are_not_there_are_asked_for(split, message, tmp_path):
    save_annotations(tmp_path / 'x.pkl', split, make_clips(5, 2, clips=2), dict(layout=ARMS))
    with pytest.raises(LaunchError, match=message.replace('(', r'\(')):
        load('stgcn_imigue', tmp_path / 'x.pkl')


def test_a_file_of_one_split_can_be_tested_and_one_without_labels_cannot(tmp_path):
    clips = make_clips(5, 2, clips=4)
    names = [clip['frame_dir'] for clip in clips]
    path = tmp_path / 'x.pkl'
    save_annotations(path, dict(all=names), clips, dict(layout=ARMS, classes=CLASSES))
    config = load('stgcn_imigue', path, testing=True)
    assert config.test_dataloader.dataset.split == 'all'
    for clip in clips:
        del clip['label']
    save_annotations(path, dict(all=names), clips, dict(layout=ARMS))
    with pytest.raises(LaunchError, match='neither labels nor class names.*tools/recognize.py'):
        load('stgcn_imigue', path, testing=True)


def test_layouts_that_are_not_named_are_asked_for(files, tmp_path):
    with pytest.raises(LaunchError, match=r'layout of its 5 joints: say it by --layout NAME'):
        load('stgcn_imigue', files['bare'])
    with pytest.raises(LaunchError, match="5 joints, but layout 'coco17' has 17"):
        load('stgcn_imigue', files['bare'], layout='coco17')
    with pytest.raises(LayoutError, match="no layout is called 'legs'"):
        load('stgcn_imigue', files['bare'], layout='legs')
    (tmp_path / 'arms.json').write_text(json.dumps(ARMS))
    config = load('stgcn_imigue', files['bare'], layout=str(tmp_path / 'arms.json'))
    # The file of the layout may go: the config holds what was in it.
    assert config.model.backbone.graph_cfg.layout.joints == ARMS['joints']
    dataset = DATASETS.build(config.train_dataloader.dataset)
    assert dataset.layout.name == 'arms' and config.model.cls_head.num_classes == 3


def test_files_and_configs_that_cannot_be_used_are_refused(files):
    with pytest.raises(AnnotationError, match='mine.pkl does not exist; tools/prepare_data.py'):
        load('stgcn_imigue', 'mine.pkl')
    with pytest.raises(LaunchError, match="no clips in split 'a'; its splits: xsub_train, xsub"):
        load('stgcn_imigue', files['arms'], splits=('a', 'xsub_val'))
    for name in ('stgcn_ntu60', 'stgcn_mgfuse_ntu60'):
        with pytest.raises(LaunchError, match='GenSkeFeat.* configs/stgcn_mgfuse_imigue.py'):
            load(name, files['space'])
    config = Config(dict(model=dict(type='Recognizer3D')))
    with pytest.raises(LaunchError, match='this config has a Recognizer3D. Take one of'):
        use_data(config, files['space'])
    config = Config.fromfile(CONFIGS / 'stgcn_imigue.py')
    inner = config.train_dataloader.dataset
    config.train_dataloader.dataset = dict(type='ConcatDataset', datasets=[inner, inner])
    with pytest.raises(LaunchError, match='but train_dataloader reads 2'):
        use_data(config, files['space'])


def test_options_have_the_last_word(files):
    fused = CONFIGS / 'stgcn_mgfuse_imigue.py'
    given = ('--ann-file', files['body'])
    config = launch.load_config(arguments(fused, *given, '--no-fuse', '--feat', 'bone'))
    assert config.work_dir == 'work_dirs/stgcn_mgfuse_imigue_bone_plain_body'
    assert config.model.backbone.graph_cfg.layout == 'body25'
    options = ('--cfg-options', 'train_dataloader.dataset.subjects=["s1"]', 'work_dir=here')
    config = launch.load_config(arguments(fused, *given, *options))
    assert config.work_dir == 'here' and config.train_dataloader.dataset.subjects == ['s1']
    config = launch.load_config(arguments(fused, *given, '--work-dir', 'there'))
    assert config.work_dir == 'there' and 'synthetic' not in config
    with pytest.raises(LaunchError, match='--layout and --splits say more about --ann-file'):
        launch.load_config(arguments(fused, '--layout', 'body25'))


def tiny(contrast=False):
    backbone = 'model.backbone.backbone'
    channels = 'model.in_channels=8' if contrast else 'model.cls_head.in_channels=8'
    loaders = [f'{part}_dataloader' for part in ('train', 'test', *(() if contrast else ('val',)))]
    return [
        'train_cfg.max_epochs=1',
        *(f'{backbone}.{key}={value}'.replace(' ', '') for key, value in SMALL.items()),
        channels,
        *(f'{loader}.num_workers=0' for loader in loaders),
        *(f'{loader}.persistent_workers=False' for loader in loaders),
    ]


@pytest.mark.slow
def test_joints_in_space_train_a_config_for_pictures(run_tool, tmp_path):
    split, clips, meta = make_synthetic(dataset='smg', subjects=4, clips=24, classes=3)
    save_annotations(tmp_path / 'room.npz', split, clips, meta)
    config = CONFIGS / 'stgcn_mgfuse_imigue.py'
    options = ('--ann-file', 'room.npz', '--cfg-options', *tiny())
    out = run_tool('train', config, *options, cwd=tmp_path).stdout
    assert 'YOUR DATA' in out and 'SYNTHETIC DATA' not in out and 'synthetic_loss' in out
    folder = tmp_path / 'work_dirs/stgcn_mgfuse_imigue_room'
    before = json.loads((folder / 'test/metrics.json').read_text())
    assert before and all(name.startswith('synthetic/') for name in before)
    named = (folder / 'test/per_class.csv').read_text()
    assert all(name in named for name in meta['classes'])
    # The config in the work directory needs no option.
    (folder / 'test/metrics.json').unlink()
    own = folder / 'stgcn_mgfuse_imigue.py'
    run_tool('test', own, folder / 'epoch_1.pth', cwd=tmp_path)
    assert json.loads((folder / 'test/metrics.json').read_text()) == before


@pytest.mark.slow
def test_three_commands_from_openpose_to_probes(run_tool, tmp_path):
    _, clips, _ = make_synthetic(layout='body25', subjects=4, clips=24, classes=3)
    lines = ['clip,label,subject']
    for number, clip in enumerate(clips):
        folder = tmp_path / f'poses/v{number:02d}'
        folder.mkdir(parents=True)
        values = np.concatenate([clip['keypoint'], clip['keypoint_score'][..., None]], -1)[0, ::4]
        for frame, joints in enumerate(values):
            people = [dict(pose_keypoints_2d=joints.ravel().tolist())]
            path = folder / f'v_{frame:06d}_keypoints.json'
            path.write_text(json.dumps(dict(people=people)))
        lines.append(f'v{number:02d},gesture {clip["label"]},{clip["subject"]}')
    (tmp_path / 'labels.csv').write_text('\n'.join(lines) + '\n')
    held_out = sorted({clip['subject'] for clip in clips})[0]
    given = ('--labels', 'labels.csv', '--size', '1280x720', '--val-subjects', held_out)
    run_tool('prepare_data', 'openpose', 'poses', *given, '--out', 'data/mine.pkl', cwd=tmp_path)
    assert load_annotations(tmp_path / 'data/mine.pkl')['meta']['layout'] == 'body25'
    config = CONFIGS / 'stbcl_stgcn_imigue.py'
    options = ('--ann-file', 'data/mine.pkl', '--cfg-options', *tiny(contrast=True))
    out = run_tool('train', config, *options, cwd=tmp_path).stdout
    assert 'instead of 8192' in out
    folder = tmp_path / 'work_dirs/stbcl_stgcn_imigue_mine'
    asked = ('--probes', 'knn', '--neighbours', 3)
    run_tool('probe', folder / 'epoch_1.pth', *asked, cwd=tmp_path)
    about = json.loads((folder / 'probes/probes.json').read_text())
    assert about['train_clips'] + about['test_clips'] == 24
    assert set(about['probes']) == {'graph', 'sequence', 'fused'}
    # What follows is told where the pre-training is, or that it is not there.
    config = CONFIGS / 'stbcl_stgcn_imigue_linear.py'
    done = run_tool('train', config, *options[:2], cwd=tmp_path, check=False)
    assert done.returncode == 1 and 'Traceback' not in done.stdout
    assert 'work_dirs/stbcl_stgcn_imigue_mine/epoch_300.pth' in ''.join(done.stdout.split('\n'))

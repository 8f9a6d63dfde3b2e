"""Small configs that are trained in a second, shared by the tests of this folder."""

import pytest

from contrast_toys import model_config, runner_config, write_clips


def save_with_split(path, train='xsub_train', test='xsub_val', subjects=True):
    """The clips of ``write_clips`` again, under other names of splits or without subjects."""
    from mg_plugins.data.annotations import load_annotations, save_annotations

    content = load_annotations(path)
    names = dict(xsub_train=train, xsub_val=test)
    for clip in content['annotations'] if not subjects else ():
        clip.pop('subject')
    split = {names[name]: ids for name, ids in content['split'].items()}
    save_annotations(path, split, content['annotations'], content['meta'])


@pytest.fixture(scope='session')
def toy_config(tmp_path_factory):
    """Path of a small pre-training on made clips whose preprocessor makes the views."""
    folder = tmp_path_factory.mktemp('toy_config')
    path = write_clips(folder)
    preprocessor = dict(
        type='ContrastPreprocessor', views=['weak', 'strong'], layout='msr_action3d'
    )
    head = dict(type='InfoNCEHead', dim=6, queue_size=8)
    cfg = runner_config(path, folder, model_config(data_preprocessor=preprocessor, head=head))
    meta = ('frame_dir', 'subject')
    tail = [
        dict(type='FormatGCNInput', num_person=1),
        dict(type='PackActionInputs', meta_keys=meta),
    ]
    head = cfg.train_dataloader.dataset.pipeline[:2]
    cfg.train_dataloader.dataset.update(pipeline=[*head, *tail], split='xsub_train')
    features = dict(type='MGSkeFeat', layout='msr_action3d', feat='joint')
    cfg.test_dataloader = dict(
        batch_size=8,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(
            type='MGPoseDataset',
            ann_file=path,
            split='xsub_val',
            pipeline=[*head, features, *tail],
            test_mode=True,
        ),
    )
    cfg.test_cfg = dict(type='TestLoop')
    cfg.test_evaluator = []
    cfg.param_scheduler = [
        dict(type='LinearLR', begin=0, end=1, start_factor=0.1),
        dict(type='CosineAnnealingLR', T_max=3, by_epoch=True),
    ]
    cfg.custom_hooks.append(dict(type='ProbeHook', interval=1))
    cfg.pop('work_dir')
    file = folder / 'toy.py'
    cfg.dump(file)
    return str(file)

"""Small contrastive models and views for these tests."""

import numpy as np
from mmaction.registry import MODELS, TRANSFORMS
from mmcv.transforms import BaseTransform
from mmengine.config import Config
from mmengine.runner import Runner

import mg_plugins  # noqa: F401
from mg_plugins.contrast.mm import models as followers  # noqa: F401
from mg_plugins.data.annotations import save_annotations
from mg_plugins.data.synthetic import make_synthetic

BACKBONE = dict(
    type='STGCN',
    graph_cfg=dict(layout='msr_action3d', mode='stgcn_spatial'),
    base_channels=8,
    num_person=1,
    num_stages=2,
    inflate_stages=[],
    down_stages=[],
)
GRU = dict(type='GRUStream', num_joints=20)


@TRANSFORMS.register_module()
class ToyViews(BaseTransform):
    """As many noisy copies of a clip as asked for, in place of its one crop."""

    def __init__(self, views: int = 2) -> None:
        self.views = views

    def transform(self, results: dict) -> dict:
        (clip,) = results['keypoint']
        noise = np.random.normal(0, 0.05, (self.views, *clip.shape))
        results['keypoint'] = (clip + noise).astype(np.float32)
        return results


def model_config(**changes) -> dict:
    """Config of a small dual-stream model."""
    config = dict(
        type='DualStreamContrast',
        backbone=BACKBONE,
        in_channels=8,
        sequence=GRU,
        head=dict(type='InfoNCEHead', dim=6, queue_size=20),
    )
    return config | changes


def build(**changes):
    """A small dual-stream model."""
    return MODELS.build(model_config(**changes))


def write_clips(folder) -> str:
    """32 made clips in MSR-Action3D's layout; returns the annotation file."""
    split, clips, meta = make_synthetic(dataset='msr_action3d', subjects=4, clips=48)
    path = folder / 'clips.pkl'
    save_annotations(path, split, clips, meta)
    return str(path)


def runner_config(path: str, folder, model: dict, views: int = 2, **changes) -> Config:
    """A pre-training of three epochs on the clips of ``write_clips``."""
    pipeline = [
        dict(type='MGNormalize', layout='msr_action3d'),
        dict(type='MGResample', clip_len=8),
        dict(type='MGSkeFeat', layout='msr_action3d', feat='joint'),
        dict(type='FormatGCNInput', num_person=1),
        dict(type='ToyViews', views=views),
        dict(type='PackActionInputs', meta_keys=('frame_dir',)),
    ]
    config = dict(
        default_scope='mmaction',
        work_dir=str(folder),
        log_level='WARNING',
        model=model,
        train_dataloader=dict(
            batch_size=6,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=True),
            dataset=dict(type='MGPoseDataset', ann_file=path, pipeline=pipeline),
        ),
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=3),
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3)),
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1),
            checkpoint=dict(type='CheckpointHook', interval=1),
        ),
        custom_hooks=[dict(type='MomentumHook', momentum=0.9)],
        randomness=dict(seed=0),
    )
    return Config(config | changes)


def run(config: Config) -> Runner:
    """Train as a config says; returns the runner at the end."""
    import uuid

    config.experiment_name = uuid.uuid4().hex
    runner = Runner.from_cfg(config)
    runner.train()
    return runner

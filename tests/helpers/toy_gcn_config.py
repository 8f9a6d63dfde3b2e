"""A config that MMAction2's installed tools can run: ST-GCN of two stages on twelve random clips.

The environment variable TOY_FOLDER names the folder that holds `clips.pkl`.
"""

folder = '{{$TOY_FOLDER:.}}'
custom_imports = dict(imports=['mg_plugins', 'toy_hooks'])
default_scope = 'mmaction'
log_level = 'INFO'
randomness = dict(seed=0)

pipeline = [
    dict(type='PoseCompact', hw_ratio=1.0, allow_imgpad=True),
    dict(type='PreNormalize2D'),
    dict(type='GenSkeFeat', dataset='coco', feats=['j']),
    dict(type='UniformSampleFrames', clip_len=8),
    dict(type='PoseDecode'),
    dict(type='FormatGCNInput', num_person=1),
    dict(type='PackActionInputs'),
]
dataset = dict(type='PoseDataset', ann_file=f'{folder}/clips.pkl', split='all', pipeline=pipeline)
train_dataloader = dict(
    batch_size=2,
    num_workers=1,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dataset,
)
val_dataloader = dict(
    batch_size=6,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**dataset, test_mode=True),
)
test_dataloader = val_dataloader
val_evaluator = [dict(type='AccMetric')]
test_evaluator = val_evaluator

model = dict(
    type='RecognizerGCN',
    backbone=dict(
        type='STGCN',
        graph_cfg=dict(layout='coco', mode='stgcn_spatial'),
        base_channels=8,
        num_stages=2,
        inflate_stages=[],
        down_stages=[],
    ),
    cls_head=dict(type='GCNHead', num_classes=3, in_channels=8),
)

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=2, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.001), clip_grad=dict(max_norm=1.0)
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=4, by_epoch=False),
    dict(type='OneCycleLR', eta_max=0.01, total_steps=12, by_epoch=False),
]
default_hooks = dict(
    checkpoint=dict(type='CheckpointHook', interval=1, save_best='auto'),
    logger=dict(type='LoggerHook', interval=2),
)
custom_hooks = [dict(type='EMAHook'), dict(type='KillHook')]

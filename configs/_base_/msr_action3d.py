# MSR-Action3D, 20 joints in metres, cross-subject: subjects 1 3 5 7 9 train, the others test.
# `python tools/prepare_data.py msr-action3d FOLDER` writes the annotation file.
_base_ = './data.py'
layout = 'msr_action3d'
clip_len = 48
ann_file = 'data/msr_action3d/msr_action3d.pkl'

train_pipeline = [
    dict(type='MGNormalize', layout=layout),
    dict(type='MGResample', clip_len=clip_len, crop=(0.75, 1.0)),
    dict(type='MGRotate', max_angle=0.3),
    dict(type='MGScale', strength=0.1),
    dict(type='MGSkeFeat', layout=layout, feat={{_base_.feat}}),
    dict(type='FormatGCNInput', num_person=1),
    dict(type='PackActionInputs', meta_keys={{_base_.meta_keys}}),
]
test_pipeline = [
    dict(type='MGNormalize', layout=layout),
    dict(type='MGResample', clip_len=clip_len),
    dict(type='MGSkeFeat', layout=layout, feat={{_base_.feat}}),
    dict(type='FormatGCNInput', num_person=1),
    dict(type='PackActionInputs', meta_keys={{_base_.meta_keys}}),
]
train_dataloader = dict(
    batch_size=16,
    num_workers=0,
    dataset=dict(ann_file=ann_file, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=0,
    dataset=dict(ann_file=ann_file, pipeline=test_pipeline),
)
test_dataloader = val_dataloader

# The set has no validation split, and the last checkpoint counts: the test subjects are looked at
# once, at the end.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=50, val_begin=51, val_interval=50)
param_scheduler = [
    dict(type='CosineAnnealingLR', T_max=50, eta_min=0, by_epoch=True, convert_to_iter_based=True)
]

# What runs instead where the annotation file is missing (`tools/train.py` says so).
synthetic = dict(dataset='msr_action3d', clips=600)

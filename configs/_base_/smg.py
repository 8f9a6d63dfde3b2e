# SMG, 25 Kinect v2 joints in metres, 17 classes; 35 subjects train, 5 test.
# `python tools/prepare_data.py smg FOLDER` writes the annotation file.
_base_ = './data.py'
layout = 'ntu25'
clip_len = 64
ann_file = 'data/smg/smg.pkl'

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
    batch_size=32,
    num_workers=2,
    persistent_workers=True,
    dataset=dict(ann_file=ann_file, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=2,
    persistent_workers=True,
    dataset=dict(ann_file=ann_file, pipeline=test_pipeline),
)
test_dataloader = val_dataloader

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=80, val_interval=5)
param_scheduler = [
    dict(type='CosineAnnealingLR', T_max=80, eta_min=0, by_epoch=True, convert_to_iter_based=True)
]

# What runs instead where the annotation file is missing (`tools/train.py` says so).
synthetic = dict(dataset='smg', clips=1500)

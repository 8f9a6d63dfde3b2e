# iMiGUE, 22 upper-body joints in the picture plane, 32 classes.
# `python tools/prepare_data.py imigue FOLDER [--subjects FILE.csv]` writes the annotation file.
# With a subjects file the cross-subject protocol is split 'xsub_train' / 'xsub_val'; without one
# only the release's own 'train' / 'val' exist.
_base_ = './data.py'
layout = 'imigue22'
clip_len = 90
ann_file = 'data/imigue/imigue.pkl'

train_pipeline = [
    dict(type='MGNormalize', layout=layout),
    dict(type='MGResample', clip_len=clip_len, crop=(0.75, 1.0)),
    dict(type='MGRotate', max_angle=0.1),
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

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=60, val_interval=5)
param_scheduler = [
    dict(type='CosineAnnealingLR', T_max=60, eta_min=0, by_epoch=True, convert_to_iter_based=True)
]

# What runs instead where the annotation file is missing (`tools/train.py` says so).
synthetic = dict(dataset='imigue', clips=2000)

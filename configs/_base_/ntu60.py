# NTU RGB+D 60, cross-subject, 25 joints in metres and up to two people, for the configs that learn
# without labels; `stgcn_ntu60.py` keeps MMAction2's own settings. MMAction2's documentation says
# where ntu60_3d.pkl comes from.
_base_ = './data.py'
layout = 'ntu25'
clip_len = 50
ann_file = 'data/skeleton/ntu60_3d.pkl'

train_pipeline = [
    dict(type='MGNormalize', layout=layout),
    dict(type='MGResample', clip_len=clip_len, crop=(0.75, 1.0)),
    dict(type='MGRotate', max_angle=0.3),
    dict(type='MGSkeFeat', layout=layout, feat={{_base_.feat}}),
    dict(type='FormatGCNInput', num_person=2),
    dict(type='PackActionInputs', meta_keys={{_base_.meta_keys}}),
]
test_pipeline = [
    dict(type='MGNormalize', layout=layout),
    dict(type='MGResample', clip_len=clip_len),
    dict(type='MGSkeFeat', layout=layout, feat={{_base_.feat}}),
    dict(type='FormatGCNInput', num_person=2),
    dict(type='PackActionInputs', meta_keys={{_base_.meta_keys}}),
]
train_dataloader = dict(
    batch_size=64,
    num_workers=4,
    persistent_workers=True,
    dataset=dict(ann_file=ann_file, layout=layout, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=4,
    persistent_workers=True,
    dataset=dict(ann_file=ann_file, layout=layout, pipeline=test_pipeline),
)
test_dataloader = val_dataloader

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=80, val_interval=5)
param_scheduler = [
    dict(type='CosineAnnealingLR', T_max=80, eta_min=0, by_epoch=True, convert_to_iter_based=True)
]

# What runs instead where the annotation file is missing (`tools/train.py` says so).
synthetic = dict(dataset='ntu60', clips=1200)

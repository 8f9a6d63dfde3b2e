# Pre-training on NTU RGB+D 60: what its configs share.
_base_ = ['./stbcl.py', './ntu60.py', './stbcl_streams_ntu60.py']

train_pipeline = [
    dict(type='MGNormalize', layout={{_base_.layout}}),
    dict(type='MGResample', clip_len={{_base_.clip_len}}),
    dict(type='FormatGCNInput', num_person=2),
    dict(type='PackActionInputs', meta_keys={{_base_.meta_keys}}),
]
train_dataloader = dict(batch_size=128, dataset=dict(pipeline=train_pipeline))
val_dataloader = None

model = dict(
    in_channels={{_base_.in_channels}},
    head=dict(queue_size=16384),  # of 40,091 clips
    data_preprocessor=dict(layout={{_base_.layout}}),
)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_cfg = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=300)
param_scheduler = [
    dict(type='CosineAnnealingLR', T_max=300, by_epoch=True, convert_to_iter_based=True)
]

# Pre-training on MSR-Action3D: what its configs share.
_base_ = ['./stbcl.py', './msr_action3d_short.py', './stbcl_streams_msr_action3d.py']

train_pipeline = [
    dict(type='MGNormalize', layout={{_base_.layout}}),
    dict(type='MGResample', clip_len={{_base_.clip_len}}),
    dict(type='FormatGCNInput', num_person=1),
    dict(type='PackActionInputs', meta_keys={{_base_.meta_keys}}),
]
train_dataloader = dict(batch_size=16, dataset=dict(pipeline=train_pipeline))
val_dataloader = None

model = dict(
    in_channels={{_base_.in_channels}},
    head=dict(queue_size=128),  # of 291 clips
    data_preprocessor=dict(layout={{_base_.layout}}),
)
custom_hooks = [
    dict(type='MomentumHook', momentum=0.99),  # an epoch has few steps
    dict(type='CollapseHook', interval=20),
    dict(type='ProbeHook', interval=20),
]
optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_cfg = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=100)
param_scheduler = [
    dict(type='CosineAnnealingLR', T_max=100, by_epoch=True, convert_to_iter_based=True)
]

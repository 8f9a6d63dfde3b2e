# MSR-Action3D in clips of 32 frames, for learning without labels on a CPU.
_base_ = './msr_action3d.py'

clip_len = 32
train_pipeline = [
    dict(type='MGNormalize', layout={{_base_.layout}}),
    dict(type='MGResample', clip_len=clip_len, crop=(0.75, 1.0)),
    dict(type='MGRotate', max_angle=0.3),
    dict(type='MGScale', strength=0.1),
    dict(type='MGSkeFeat', layout={{_base_.layout}}, feat={{_base_.feat}}),
    dict(type='FormatGCNInput', num_person=1),
    dict(type='PackActionInputs', meta_keys={{_base_.meta_keys}}),
]
test_pipeline = [
    dict(type='MGNormalize', layout={{_base_.layout}}),
    dict(type='MGResample', clip_len=clip_len),
    dict(type='MGSkeFeat', layout={{_base_.layout}}, feat={{_base_.feat}}),
    dict(type='FormatGCNInput', num_person=1),
    dict(type='PackActionInputs', meta_keys={{_base_.meta_keys}}),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))

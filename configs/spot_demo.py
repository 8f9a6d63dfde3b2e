# A small model for `tools/recognize.py --demo`: the synthetic set's clips, put together.
_base_ = './spot_imigue.py'

model = dict(
    backbone=dict(base_channels=16),
    head=dict(in_channels=64),
    crop=128,
    stride=2,
)
train_dataloader = dict(
    dataset=dict(crop=128, split=None, clip_split='xsub_train', composed=1.0, fps=30.0)
)
train_cfg = dict(max_iters=200, val_interval=201)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=20),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=20, T_max=180, eta_min=0),
]
default_hooks = dict(checkpoint=dict(interval=200))
val_dataloader = None
test_dataloader = None
val_evaluator = None
test_evaluator = None
val_cfg = None
test_cfg = None

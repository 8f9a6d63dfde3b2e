# Spotting in untrimmed recordings: one score a frame, "nothing" among the classes.
_base_ = './runtime.py'

crop = 256
max_iters = 350

train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(type='MGRecordings', crop=crop),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(type='MGRecordings', test_mode=True),
)
test_dataloader = val_dataloader
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters + 1)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=20),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=20, T_max=max_iters - 20, eta_min=0),
]
optim_wrapper = dict(optimizer=dict(lr=4e-3), clip_grad=dict(max_norm=5))
val_evaluator = [dict(type='SpottingMetric')]
test_evaluator = val_evaluator
custom_hooks = [dict(type='SpottingHook')]
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=max_iters))
log_processor = dict(by_epoch=False)

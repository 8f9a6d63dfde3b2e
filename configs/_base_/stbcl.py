# Pre-training without labels. Views are made on the device from whole batches. The test clips are
# read by `python tools/probe.py CHECKPOINT` alone: testing at the end computes no figure.
_base_ = './runtime.py'

# Views of the sequence stream: half weak, half strong, drawn for each clip and view. The graph
# stream learns from weak ones. Both see the body from other sides (docs/contrast.md).
view = [dict(type='MGOneOf', chains=['weak', 'micro_gesture']), dict(type='MGTurn')]
graph_view = ['weak', dict(type='MGTurn')]

model = dict(
    type='DualStreamContrast',
    head=dict(type='InfoNCEHead', dim=128, temperature=0.07),
    data_preprocessor=dict(type='ContrastPreprocessor'),
)
custom_hooks = [
    dict(type='MomentumHook', momentum=0.999),
    dict(type='CollapseHook', interval=20),
    dict(type='ProbeHook', interval=20),
]
val_cfg = None
val_evaluator = None
test_evaluator = []

_base_ = ['_base_/runtime.py', '_base_/msr_action3d.py']

model = dict(
    type='RecognizerGCN',
    backbone=dict(
        type='STGCN',
        graph_cfg=dict(layout='msr_action3d', mode='stgcn_spatial'),
        base_channels=32,
        num_person=1,
        num_stages=6,
        inflate_stages=[3, 5],
        down_stages=[3, 5],
    ),
    cls_head=dict(type='GCNHead', num_classes=20, in_channels=128, label_smooth_eps=0.1),
)

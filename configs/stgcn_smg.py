_base_ = ['_base_/runtime.py', '_base_/smg.py']

model = dict(
    type='RecognizerGCN',
    backbone=dict(
        type='STGCN',
        graph_cfg=dict(layout='ntu25', mode='stgcn_spatial'),
        num_person=1,
    ),
    cls_head=dict(type='GCNHead', num_classes=17, in_channels=256, label_smooth_eps=0.1),
)

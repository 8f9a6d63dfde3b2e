_base_ = ['_base_/runtime.py', '_base_/imigue.py']

model = dict(
    type='RecognizerGCN',
    backbone=dict(
        type='STGCN',
        gcn_adaptive='init',
        gcn_with_res=True,
        tcn_type='mstcn',
        graph_cfg=dict(layout='imigue22', mode='spatial'),
        num_person=1,
    ),
    cls_head=dict(type='GCNHead', num_classes=32, in_channels=256, label_smooth_eps=0.1),
)

_base_ = ['_base_/runtime.py', '_base_/imigue.py']

model = dict(
    type='RecognizerGCN',
    backbone=dict(
        type='AAGCN',
        graph_cfg=dict(layout='imigue22', mode='spatial'),
        gcn_attention=False,  # 2s-AGCN; True is MS-AAGCN
        num_person=1,
    ),
    cls_head=dict(type='GCNHead', num_classes=32, in_channels=256, label_smooth_eps=0.1),
)

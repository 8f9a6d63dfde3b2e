# The two streams on iMiGUE: 16 base channels, as is usual in learning without labels.
graph = dict(
    type='STGCN',
    graph_cfg=dict(layout='imigue22', mode='stgcn_spatial'),
    base_channels=16,
    num_person=1,
)
backbone = dict(type='MGFuse', backbone=graph)
in_channels = 64
sequence = dict(type='GRUStream', num_joints=22)

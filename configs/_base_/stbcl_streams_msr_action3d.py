# The two streams on MSR-Action3D, small enough for one CPU core.
graph = dict(
    type='STGCN',
    graph_cfg=dict(layout='msr_action3d', mode='stgcn_spatial'),
    base_channels=16,
    num_person=1,
    num_stages=6,
    inflate_stages=[3, 5],
    down_stages=[3, 5],
)
backbone = dict(type='MGFuse', backbone=graph)
in_channels = 64
sequence = dict(type='GRUStream', num_joints=20)

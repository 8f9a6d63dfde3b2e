# Masked motion prediction (after MAMP, Mao et al., ICCV 2023) with a small transformer of its own.
_base_ = '_base_/stbcl_msr_action3d.py'

view = [dict(type='MGRotate', max_angle=0.3), dict(type='MGScale', strength=0.1)]

model = dict(
    backbone=dict(type='SkeletonTransformer', num_joints=20),
    masked=dict(share=0.8),
    within=0.0,
    data_preprocessor=dict(views=[view, view]),
)

# AimCLR (Guo et al., AAAI 2022): SkeletonCLR with an extreme view, and neighbours halfway on.
_base_ = './skeletonclr_msr_action3d.py'

model = dict(
    extreme=1.0,
    drop=0.3,
    mining=dict(type='NearestNeighbourMining', neighbours=1, begin=50),
    data_preprocessor=dict(views=['weak', 'weak', 'aimclr_extreme']),
)

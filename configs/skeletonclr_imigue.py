# SkeletonCLR (Li et al., CVPR 2021): the plain graph stream alone, two weak views.
_base_ = '_base_/stbcl_imigue.py'

model = dict(
    backbone={{_base_.graph}},
    data_preprocessor=dict(views=['weak', 'weak']),
)

# Learning without labels on MSR-Action3D: fused graph stream and GRU stream, within and across.
_base_ = '_base_/stbcl_msr_action3d.py'

model = dict(
    backbone={{_base_.backbone}},
    sequence={{_base_.sequence}},
    data_preprocessor=dict(views=[{{_base_.view}}, {{_base_.view}}]),
)

# Learning without labels on iMiGUE: fused graph stream and GRU stream.
_base_ = '_base_/stbcl_imigue.py'

model = dict(
    backbone={{_base_.backbone}},
    sequence={{_base_.sequence}},
    layout={{_base_.layout}},
    data_preprocessor=dict(
        views=[{{_base_.view}}, {{_base_.view}}, {{_base_.graph_view}}, {{_base_.graph_view}}]
    ),
)

# Linear evaluation of `stbcl_stgcn_imigue.py`: the head alone learns, over frozen features.
_base_ = ['_base_/runtime.py', '_base_/imigue.py', '_base_/stbcl_streams_imigue.py']

model = dict(
    type='RecognizerDualStream',
    backbone={{_base_.backbone}},
    in_channels={{_base_.in_channels}},
    sequence={{_base_.sequence}},
    layout={{_base_.layout}},
    frozen=True,
    cls_head=dict(type='GCNHead', num_classes=32),
)
load_from = 'work_dirs/stbcl_stgcn_imigue/epoch_300.pth'

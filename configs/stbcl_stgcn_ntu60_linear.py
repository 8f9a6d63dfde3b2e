# Linear evaluation of `stbcl_stgcn_ntu60.py`: the head alone learns, over frozen features.
_base_ = ['_base_/runtime.py', '_base_/ntu60.py', '_base_/stbcl_streams_ntu60.py']

model = dict(
    type='RecognizerDualStream',
    backbone={{_base_.backbone}},
    in_channels={{_base_.in_channels}},
    sequence={{_base_.sequence}},
    layout={{_base_.layout}},
    frozen=True,
    cls_head=dict(type='GCNHead', num_classes=60),
)
load_from = 'work_dirs/stbcl_stgcn_ntu60/epoch_300.pth'

# `stbcl_stgcn_imigue.py`, then everything learns with all labels.
_base_ = './stbcl_stgcn_imigue_linear.py'

model = dict(frozen=False)
optim_wrapper = dict(optimizer=dict(lr=1e-3))

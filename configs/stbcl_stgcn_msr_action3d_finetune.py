# `stbcl_stgcn_msr_action3d.py`, then everything learns with all labels.
_base_ = './stbcl_stgcn_msr_action3d_linear.py'

model = dict(frozen=False)
optim_wrapper = dict(optimizer=dict(lr=1e-3))

# The supervised twin: `stgcn_mgfuse_msr_action3d.py` with a contrastive head beside its own.
_base_ = './stgcn_mgfuse_msr_action3d.py'

model = dict(cls_head=dict(type='GCNSupConHead'))

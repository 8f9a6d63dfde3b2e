# The supervised twin: `stgcn_mgfuse_imigue.py` with a contrastive head beside its own.
_base_ = './stgcn_mgfuse_imigue.py'

model = dict(cls_head=dict(type='GCNSupConHead'))

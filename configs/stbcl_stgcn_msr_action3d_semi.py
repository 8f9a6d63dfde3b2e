# `stbcl_stgcn_msr_action3d.py`, then everything learns with a tenth of the labels.
_base_ = './stbcl_stgcn_msr_action3d_finetune.py'

train_dataloader = dict(dataset=dict(share=0.1))

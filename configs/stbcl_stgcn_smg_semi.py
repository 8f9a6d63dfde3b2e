# `stbcl_stgcn_smg.py`, then everything learns with a tenth of the labels.
_base_ = './stbcl_stgcn_smg_finetune.py'

train_dataloader = dict(dataset=dict(share=0.1))

_base_ = './stgcn_msr_action3d.py'

model = dict(
    backbone=dict(_delete_=True, type='MGFuse', backbone={{_base_.model.backbone}}),
)

_base_ = './stgcn_imigue.py'

model = dict(
    backbone=dict(_delete_=True, type='MGFuse', backbone={{_base_.model.backbone}}),
)

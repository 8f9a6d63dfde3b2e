# SFINGE3D: one hand, 13 gestures; sequences 1 to 36 train, 37 to 72 test (not cross-subject).
# `python tools/prepare_data.py sfinge3d FOLDER` writes the annotation file.
_base_ = './_base_/spotting.py'

ann_file = 'data/sfinge3d/sfinge3d.pkl'
model = dict(
    type='MGSpotter',
    backbone=dict(
        type='STGCN',
        graph_cfg=dict(layout='hand20', mode='stgcn_spatial'),
        in_channels=8,
        base_channels=24,
        num_person=1,
        num_stages=6,
        inflate_stages=[3, 5],
        down_stages=[2, 4],
    ),
    head=dict(in_channels=96, num_classes=13),
    loss=dict(background_weight=0.5),
    crop={{_base_.crop}},
    stride=2,
)
train_dataloader = dict(
    dataset=dict(
        ann_file=ann_file,
        split='recordings_train',
        clip_split=['train', 'val'],
        composed=0.33,
        fps=20.0,
    ),
)
val_dataloader = dict(dataset=dict(ann_file=ann_file, split='recordings_val', fps=20.0))
test_dataloader = val_dataloader

# iMiGUE, 22 upper-body joints: spotting in whole videos, with a "nothing" class.
# Whole videos come from `python tools/prepare_data.py imigue FOLDER --keep-recordings`.
_base_ = './_base_/spotting.py'

ann_file = 'data/imigue/imigue.pkl'
model = dict(
    type='MGSpotter',
    backbone=dict(
        type='STGCN',
        graph_cfg=dict(layout='imigue22', mode='stgcn_spatial'),
        in_channels=7,
        base_channels=24,
        num_person=1,
        num_stages=6,
        inflate_stages=[3, 5],
        down_stages=[2, 4],
    ),
    head=dict(in_channels=96, num_classes=32),
    loss=dict(background_weight=0.5),
    crop={{_base_.crop}},
)
train_dataloader = dict(
    dataset=dict(
        ann_file=ann_file,
        split='recordings_xsub_train',
        clip_split='xsub_train',
        composed=0.33,
        fps=25.0,
    ),
)
val_dataloader = dict(dataset=dict(ann_file=ann_file, split='recordings_xsub_val', fps=25.0))
test_dataloader = val_dataloader

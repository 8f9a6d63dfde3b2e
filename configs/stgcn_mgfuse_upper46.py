# 46 joints, upper body and hands, from files of WholeBody-133 (MMPose) or Holistic (MediaPipe):
# `python tools/prepare_data.py … --layout upper46 --out data/mine.pkl`, then train this config
# with `--ann-file data/mine.pkl`.
_base_ = './stgcn_mgfuse_imigue.py'
layout = 'upper46'
ann_file = 'data/upper46.pkl'

train_dataloader = dict(dataset=dict(ann_file=ann_file))
val_dataloader = dict(dataset=dict(ann_file=ann_file))
test_dataloader = val_dataloader

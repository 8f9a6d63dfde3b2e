# 75 joints, body and hands, from files of Holistic (MediaPipe):
# `python tools/prepare_data.py … --layout holistic75 --out data/mine.pkl`, then train this config
# with `--ann-file data/mine.pkl`.
_base_ = './stgcn_mgfuse_imigue.py'
layout = 'holistic75'
ann_file = 'data/holistic75.pkl'

train_dataloader = dict(dataset=dict(ann_file=ann_file))
val_dataloader = dict(dataset=dict(ann_file=ann_file))
test_dataloader = val_dataloader

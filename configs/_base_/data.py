# What the data of every set share: loaders over one annotation file, a split to train and one to
# test on, one epoch after the other. A set adds `ann_file`, its pipelines and its batch size.
meta_keys = ('frame_dir', 'session', 'subject', 'start', 'end', 'fps', 'outcome')
feat = 'joint'
train_dataloader = dict(
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='MGPoseDataset', split='xsub_train'),
)
val_dataloader = dict(
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='MGPoseDataset', split='xsub_val', test_mode=True),
)
test_dataloader = val_dataloader

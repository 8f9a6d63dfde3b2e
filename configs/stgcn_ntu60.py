# MMAction2's own ST-GCN on NTU RGB+D 60, cross-subject, with this project's metrics and reports.
_base_ = 'mmaction::skeleton/stgcn/stgcn_8xb16-joint-u100-80e_ntu60-xsub-keypoint-3d.py'

custom_imports = dict(imports=['mg_plugins'], allow_failed_imports=False)
val_evaluator = [dict(type='MGMetric')]
test_evaluator = val_evaluator
synthetic = dict(dataset='ntu60', clips=1200)

# What to run first on iMiGUE: four streams of the fused ST-GCN, their heads re-trained on balanced
# batches, and the ensemble, by one command that goes on where it was stopped:
# `python tools/ensemble.py configs/imigue_best.py`
_base_ = './stgcn_mgfuse_imigue.py'

retrain_head = True
synthetic = dict(dataset='imigue', clips=750)

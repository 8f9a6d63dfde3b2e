"""How long the kernels take, beside eager PyTorch and ``torch.compile``; see ``kernels/run.py``."""

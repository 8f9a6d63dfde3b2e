"""Features of clips out of a model: what the probes look at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .probes import Features
from .queue import ContrastError
from .streams import GraphPool


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for the block; every module then is in the mode it was in, come what may."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def filling_statistics(model: nn.Module) -> Iterator[None]:
    """Batch normalisation has the statistics of what passes in this block, all of it alike.

    Without, an untrained model has mean 0 and variance 1 everywhere, and is no fair twin of a
    trained one. Evaluation mode or not, layers then learn statistics and nothing else.
    """
    momenta = {m: m.momentum for m in model.modules() if isinstance(m, _BatchNorm)}
    hooks = [m.register_forward_pre_hook(lambda norm, _: norm.train() and None) for m in momenta]
    for norm in momenta:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all batches
    try:
        yield
    finally:
        for hook, (norm, momentum) in zip(hooks, momenta.items(), strict=True):
            hook.remove()
            norm.momentum = momentum


@torch.no_grad()
def features_of_batch(model: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
    """Features (N, D) by stream of clips (N, crops, M, T, V, C), crops averaged.

    A :class:`DualStream` gives all its streams; of any other recognizer with a GCN backbone
    the pooled feature map is ``'graph'``. The model must be in evaluation mode.

    Raises:
        ContrastError: The model has no backbone.
    """
    if hasattr(model, 'extract'):
        return model.extract(inputs, None)
    if not hasattr(model, 'backbone'):
        raise ContrastError(f'{type(model).__name__} has no backbone whose features could be taken')
    maps = model.backbone(inputs.flatten(0, 1))
    return dict(graph=GraphPool()(maps).float().view(*inputs.shape[:2], -1).mean(1))


def extract_features(
    model: nn.Module, loader: Iterable[dict], progress: str | None = None
) -> dict[str, Features]:
    """Features of every clip of a loader, by stream, in evaluation mode.

    Args:
        model: A recognizer of MMAction2's kind, with its data preprocessor.
        loader: Batches as an evaluation pipeline collates them; samples carry ``gt_label`` and
            ``frame_dir``, and ``subject`` where it is known.
        progress: What the progress bar says; none if None.

    Raises:
        ContrastError: The model has no features, or the loader no clips.
        ValueError: Features are not finite.
    """
    from rich.console import Console
    from rich.progress import track

    if progress is not None:
        loader = track(loader, progress, console=Console(stderr=True), transient=True)
    vectors: dict[str, list[np.ndarray]] = {}
    labels, clips, subjects = [], [], []
    with evaluating(model):
        for data in loader:
            data = model.data_preprocessor(data, training=False)
            for stream, rows in features_of_batch(model, data['inputs']).items():
                vectors.setdefault(stream, []).append(rows.float().cpu().numpy())
            for sample in data['data_samples']:
                labels.append(int(sample.gt_label))
                clips.append(str(sample.get('frame_dir', len(clips))))
                subjects.append(str(sample.get('subject', '')))
    if not labels:
        raise ContrastError('there is no clip to take features of')
    known = np.array(labels), np.array(clips), np.array(subjects)
    return {stream: Features(np.concatenate(rows), *known) for stream, rows in vectors.items()}

"""The few operations that numpy and torch do differently, for one clip or a batch of clips.

A numpy array holds one clip, keypoint (M persons, T frames, V joints, C coordinates) and score
(M, T, V); a torch tensor holds N of them. Drawn parameters are numpy arrays, with a leading N for a
batch; `like` brings them to its device. Tensors keep their coordinates in separate planes of
memory, (N, C, M, T, V), behind the usual order of axes: rows of joints are contiguous, which makes
the batched form fast. Element-wise operations keep that order, and so do the functions here.
"""

import functools
import sys
from collections.abc import Callable
from types import ModuleType

import numpy as np


def is_batch(array) -> bool:
    """Whether this is a tensor (a batch of clips) and not a numpy array (one clip)."""
    torch = sys.modules.get('torch')
    return torch is not None and isinstance(array, torch.Tensor)


def namespace(array) -> ModuleType:
    """``torch`` or ``numpy``, whichever the array belongs to."""
    return sys.modules['torch'] if is_batch(array) else np


def planes(keypoint):
    """The tensor with its coordinates in separate planes of memory; an array as it is."""
    return keypoint.movedim(-1, 1).contiguous().movedim(1, -1) if is_batch(keypoint) else keypoint


def like(value, array):
    """A parameter as an array of the clip's kind: floats in its precision, on its device."""
    if not is_batch(array):
        value = np.asarray(value)
        return value.astype(array.dtype, copy=False) if value.dtype.kind == 'f' else value
    value = sys.modules['torch'].as_tensor(value)
    dtype = array.dtype if value.is_floating_point() else value.dtype
    return value.to(device=array.device, dtype=dtype, non_blocking=True)


def per_clip(value, array):
    """One number a clip, () or (N,), shaped to be multiplied with ``array``."""
    value = like(value, array)
    return value.reshape(-1, *[1] * (array.ndim - 1)) if is_batch(array) else value


def positive(values, array):
    """1 where a value (a score) is above 0 or True, else 0, in the precision of ``array``."""
    if not is_batch(values):
        return (values > 0).astype(array.dtype)
    torch = sys.modules['torch']
    # Written as floats at once; a bool mask turned into floats takes ten times as long.
    return torch.gt(values, 0, out=torch.empty_like(values, dtype=array.dtype))


def arange(stop: int, array):
    """0 … stop − 1 in the precision of ``array``."""
    if is_batch(array):
        return sys.modules['torch'].arange(stop, device=array.device, dtype=array.dtype)
    return np.arange(stop, dtype=array.dtype)


def largest(array, axes: tuple[int, ...]):
    """Maximum over axes, which stay with length 1."""
    return array.amax(axes, keepdim=True) if is_batch(array) else array.max(axes, keepdims=True)


def body_spread(keypoint, score):
    """RMS distance () or (N,) of a clip's joints from the mean of their person and frame.

    About 0.65 for upper bodies in shoulder widths, 0.5 m for whole bodies, 0.05 m for a hand.
    """
    count = positive(score, keypoint).sum(-1)
    total, square = keypoint.sum(-2), (keypoint * keypoint).sum(-1).sum(-1)
    around = square - (total * total).sum(-1) / count.clip(1)
    share = around.sum(-1).sum(-1) / count.sum(-1).sum(-1).clip(1)
    return namespace(keypoint).sqrt(share.clip(0))


def _by_planes(of_clip: Callable) -> Callable[[Callable], Callable]:
    """Decorator: the tensor form is given planes, (N, …, T, V); ``of_clip`` is the numpy form."""

    def wrap(of_planes: Callable) -> Callable:
        @functools.wraps(of_planes)
        def apply(array, *args, **options):
            if not is_batch(array):
                return of_clip(array, *args, **options)
            if array.ndim == 4:
                return of_planes(array, *args, **options)
            return of_planes(array.movedim(-1, 1), *args, **options).movedim(1, -1)

        return apply

    return wrap


@_by_planes(lambda clip, frames: clip[:, frames])
def take_frames(batch, frames):
    """Read frames of a keypoint or score array: ``frames`` (T',) ints, or (N, T') of a batch."""
    rows, (length, joints) = batch.shape[:-2].numel(), batch.shape[-2:]
    starts = length * sys.modules['torch'].arange(rows, device=batch.device)
    index = (starts.view(len(batch), -1, 1) + frames[:, None]).reshape(-1)
    taken = batch.reshape(-1, joints).index_select(0, index)
    return taken.view(*batch.shape[:-2], frames.shape[-1], joints)


@_by_planes(lambda clip, w: (w @ clip.reshape(*clip.shape[:2], -1)).reshape(clip.shape))
def mix_frames(batch, weights):
    """Every new frame a weighted sum of the old: ``weights`` (T', T), or (N, T', T) of a batch."""
    rows = batch.movedim(-2, 1)
    return (weights @ rows.flatten(2)).view(rows.shape).movedim(1, -2).contiguous()


@_by_planes(lambda clip, weights: weights @ clip)
def mix_joints(batch, weights):
    """Every new joint a weighted sum of the old: ``weights`` (V, V), the same for all clips."""
    return batch @ weights.T


@_by_planes(lambda clip, matrix: (clip.reshape(-1, clip.shape[-1]) @ matrix.T).reshape(clip.shape))
def mix_axes(batch, matrix):
    """``p ↦ matrix · p`` for every joint; ``matrix`` (C, C), or (N, C, C) of a batch."""
    return (matrix @ batch.flatten(2)).view(batch.shape)


@_by_planes(lambda clip, order: clip[:, :, list(order)])
def take_joints(batch, order):
    """Joints in another order, (V,) ints; for keypoint and score arrays."""
    order = sys.modules['torch'].as_tensor(order, device=batch.device)
    # gather is several times as fast as index_select along the last axis.
    return batch.gather(-1, order.expand(batch.shape))


@_by_planes(lambda clip, index: clip)
def take_clips(batch, index):
    """Clips of a batch; ``index`` (n,) ints on the batch's device."""
    return batch.index_select(0, index)


def put_clips(array, index, clips, inplace: bool):
    """The batch with some clips replaced; ``inplace`` may overwrite what is given."""
    put = 'index_copy_' if inplace else 'index_copy'
    if array.ndim == 4:
        return getattr(array, put)(0, index, clips)
    return getattr(array.movedim(-1, 1), put)(0, index, clips.movedim(-1, 1)).movedim(1, -1)

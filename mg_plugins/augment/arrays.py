"""The few operations that numpy and torch do differently, for one clip or a batch of clips.

A numpy array holds one clip, keypoint (M, T, V, C) and score (M, T, V); a torch tensor holds N of
them, (N, M, T, V, C) and (N, M, T, V). So every augmentation is written once and has both forms.
M persons, T frames, V joints, C = 2 or 3 coordinates. Drawn parameters are numpy arrays, with a
leading N for a batch; `like` brings them to the clips' device.

Tensors keep their coordinates in separate planes of memory, (N, C, M, T, V), behind the usual
order of axes: rows of joints are contiguous then, which is what makes the batched form fast.
Element-wise operations keep that order by themselves; the functions here keep it too.
"""

from __future__ import annotations

import sys
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
    if not is_batch(keypoint):
        return keypoint
    return keypoint.movedim(-1, 1).contiguous().movedim(1, -1)


def like(value, array):
    """A parameter as an array of the clip's kind: floats in its precision, on its device."""
    if not is_batch(array):
        value = np.asarray(value)
        return value.astype(array.dtype, copy=False) if value.dtype.kind == 'f' else value
    torch = sys.modules['torch']
    value = torch.as_tensor(value)
    dtype = array.dtype if value.is_floating_point() else value.dtype
    return value.to(device=array.device, dtype=dtype, non_blocking=True)


def per_clip(value, array):
    """One number a clip, () or (N,), shaped to be multiplied with ``array``."""
    value = like(value, array)
    return value.reshape(-1, *[1] * (array.ndim - 1)) if is_batch(array) else value


def positive(values, array):
    """1 where a value is above 0 (or True), else 0, in the precision of ``array``.

    Of scores (..., M, T, V): 1 where a joint is there, 0 where it is missing.
    """
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
    """How large the bodies of a clip are: () or (N,), in the data's unit.

    The root mean square distance of the joints that are there from the mean of their person and
    frame: about 0.65 for upper bodies in shoulder widths, 0.5 m for whole bodies in metres, 0.05 m
    for a hand.
    """
    count = positive(score, keypoint).sum(-1)
    total, square = keypoint.sum(-2), (keypoint * keypoint).sum(-1).sum(-1)
    around = square - (total * total).sum(-1) / count.clip(1)
    share = around.sum(-1).sum(-1) / count.sum(-1).sum(-1).clip(1)
    return namespace(keypoint).sqrt(share.clip(0))


def take_frames(array, frames):
    """Read frames of a keypoint or score array: ``frames`` (T',) ints, or (N, T') of a batch."""
    if not is_batch(array):
        return array[:, frames]
    torch = sys.modules['torch']
    plain = array if array.ndim == 4 else array.movedim(-1, 1)
    clips, length, joints = plain.shape[0], plain.shape[-2], plain.shape[-1]
    rows = plain.shape[:-2].numel()
    starts = length * torch.arange(rows, device=array.device).view(clips, -1, 1)
    index = (starts + frames[:, None]).reshape(-1)
    taken = plain.reshape(-1, joints).index_select(0, index)
    taken = taken.view(*plain.shape[:-2], frames.shape[-1], joints)
    return taken if array.ndim == 4 else taken.movedim(1, -1)


def mix_frames(array, weights):
    """Every new frame a weighted sum of the old: ``weights`` (T', T), or (N, T', T) of a batch."""
    if not is_batch(array):
        return (weights @ array.reshape(*array.shape[:2], -1)).reshape(array.shape)
    plain = array if array.ndim == 4 else array.movedim(-1, 1)
    rows = plain.movedim(-2, 1)
    mixed = (weights @ rows.flatten(2)).view(rows.shape).movedim(1, -2).contiguous()
    return mixed if array.ndim == 4 else mixed.movedim(1, -1)


def mix_joints(keypoint, weights):
    """Every new joint a weighted sum of the old: ``weights`` (V, V), the same for all clips."""
    if not is_batch(keypoint):
        return weights @ keypoint
    return (keypoint.movedim(-1, 1) @ weights.T).movedim(1, -1)


def mix_axes(keypoint, matrix):
    """``p ↦ matrix · p`` for every joint; ``matrix`` (C, C), or (N, C, C) of a batch."""
    if not is_batch(keypoint):
        flat = keypoint.reshape(-1, keypoint.shape[-1]) @ matrix.T
        return flat.reshape(keypoint.shape)
    plain = keypoint.movedim(-1, 1)
    return (matrix @ plain.flatten(2)).view(plain.shape).movedim(1, -1)


def take_joints(array, order):
    """Joints in another order, (V,) ints; for keypoint and score arrays."""
    if not is_batch(array):
        return array[:, :, list(order)]
    plain = array if array.ndim == 4 else array.movedim(-1, 1)
    order = sys.modules['torch'].as_tensor(order, device=array.device)
    # gather is several times as fast as index_select along the last axis.
    taken = plain.gather(-1, order.expand(plain.shape))
    return taken if array.ndim == 4 else taken.movedim(1, -1)


def take_clips(array, index):
    """Clips of a batch; ``index`` (n,) ints on the batch's device."""
    if array.ndim == 4:
        return array.index_select(0, index)
    return array.movedim(-1, 1).index_select(0, index).movedim(1, -1)


def put_clips(array, index, clips, inplace: bool):
    """The batch with some clips replaced; ``inplace`` may overwrite what is given."""
    put = 'index_copy_' if inplace else 'index_copy'
    if array.ndim == 4:
        return getattr(array, put)(0, index, clips)
    plain = getattr(array.movedim(-1, 1), put)(0, index, clips.movedim(-1, 1))
    return plain.movedim(1, -1)

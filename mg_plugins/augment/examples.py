"""Clips and augmentations to make pictures of."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mg_plugins.data.annotations import load_annotations
from mg_plugins.data.layouts import Layout, LayoutError, get_layout
from mg_plugins.data.skeleton import detected_joints, normalise
from mg_plugins.errors import UserError

from .base import AUGMENTATIONS, Draws
from .chain import Chain, build_steps, recipe_names
from .gesture import cycle_length, motion_energy
from .temporal import resample

GROUPS = {
    'geometry': 'The whole body',
    'joints': 'Joints and parts',
    'temporal': 'Time',
    'gesture': 'Made for micro-gestures',
    'recipe': 'Recipes',
}
FRAMES = 60
DRAWS = 8


class PictureError(UserError):
    """A clip that is not there, or a name that is unknown."""


@dataclass(frozen=True)
class Clip:
    """A normalised clip to draw: keypoint (M, T, V, C), score (M, T, V), layout and a title."""

    keypoint: np.ndarray
    score: np.ndarray
    layout: Layout
    title: str


def names_of(only: Sequence[str] | None = None) -> list[str]:
    """Augmentations, group by group, then recipes; or those asked for.

    Raises:
        PictureError: An unknown name.
    """
    known = sorted(AUGMENTATIONS, key=lambda name: list(GROUPS).index(group_of(name)))
    known += recipe_names()
    unknown = [name for name in only or () if name not in known]
    if unknown:
        raise PictureError(f'{unknown[0]!r} is unknown; there are {", ".join(known)}')
    return [name for name in known if not only or name in only]


def group_of(name: str) -> str:
    """Key of `GROUPS`."""
    if name not in AUGMENTATIONS:
        return 'recipe'
    return AUGMENTATIONS[name].__module__.rsplit('.', 1)[-1]


def load_clip(
    ann_file: str | os.PathLike | None = None,
    clip: str | None = None,
    layout: str | None = None,
) -> Clip:
    """A clip of an annotation file, by its ``frame_dir``; or of the synthetic set.

    Args:
        ann_file: Annotation file; None takes the synthetic set.
        clip: Its name; None takes one with a lot of movement.
        layout: Joint layout, where the file does not name it.

    Raises:
        PictureError: No such clip, or no layout known.
        AnnotationError: A file that is missing or refused.
    """
    if ann_file is None:
        from mg_plugins.data.synthetic import make_synthetic

        _, clips, meta = make_synthetic(subjects=4, clips=160)
        source = 'synthetic set'
    else:
        content = load_annotations(ann_file)
        clips, meta = content['annotations'], content['meta']
        source = Path(ann_file).name
        if 'synthetic' in str(meta.get('source', '')).lower():
            source += ' (synthetic)'
    layout = layout or meta.get('layout')
    if layout is None:
        raise PictureError(f'{ann_file} names no joint layout: give one, such as --layout imigue22')
    layout = get_layout(layout)
    classes = meta.get('classes') or ()
    if clip is None:
        # iMiGUE's and SMG's class of gestures that are none is called illustrative.
        some = [clips[i] for i in range(min(len(clips), 200))]
        micro = [one for one in some if 'illustrative' not in _class_of(one, classes)]
        chosen = max(micro or some, key=_liveliness)
    else:
        chosen = next((one for one in clips if one['frame_dir'] == clip), None)
        if chosen is None:
            some = ', '.join(clips[i]['frame_dir'] for i in range(min(len(clips), 4)))
            raise PictureError(f'{source} has no clip {clip!r}; it has {some} and so on')
    keypoint, score = _arrays(chosen)
    if keypoint.shape[2] != layout.num_joints:
        raise LayoutError(
            f'{source} has {keypoint.shape[2]} joints, layout {layout.name!r} has '
            f'{layout.num_joints}'
        )
    detected = detected_joints(keypoint, score)
    keypoint = normalise(keypoint, detected, layout)
    score = (score * detected).astype(np.float32)
    name = _class_of(chosen, classes)
    what = f', “{name}”' if name else ''
    title = f'{source}, clip {chosen["frame_dir"]}{what}, {keypoint.shape[1]} frames'
    return Clip(*resample(keypoint, score, FRAMES, 0, keypoint.shape[1] - 1), layout, title)


def _class_of(annotation: dict, classes: Sequence[str]) -> str:
    label = annotation.get('label', len(classes))
    return str(classes[label]) if label < len(classes) else ''


def _arrays(annotation: dict) -> tuple[np.ndarray, np.ndarray]:
    keypoint = np.asarray(annotation['keypoint'], np.float32)
    score = annotation.get('keypoint_score')
    if score is None:
        score = detected_joints(keypoint)
    return keypoint, np.asarray(score, np.float32)


def _liveliness(annotation: dict) -> tuple:
    """Rank as an example: long enough, all there, something repeats, much movement a body size."""
    keypoint, score = _arrays(annotation)
    seen = score > 0
    if not seen.any():
        return (0,)
    size = keypoint[seen].std(axis=0).mean()
    movement = float(motion_energy(keypoint, score).mean() / size**2)
    drawn = resample(keypoint / size, score, FRAMES, 0, keypoint.shape[1] - 1)
    repeats = bool(cycle_length(*drawn) > 0)
    return (keypoint.shape[1] >= 40, round(float(seen.mean()), 1), repeats, movement)


def augment(clip: Clip, name: str, strength: float | None = None, seed: int = 0) -> Clip:
    """The clip after an augmentation of the table, or after a recipe.

    Of `DRAWS` draws the one that changes most is taken, so that a picture shows how far it goes.

    Args:
        clip: The clip.
        name: One of `names_of`.
        strength: Instead of the default one; of a recipe the strength cannot be set.
        seed: Seed of the draws.
    """
    steps: object = name
    if name in AUGMENTATIONS:
        steps = [dict(_at(name, strength), type=name, p=1.0)]
    chain, rng = Chain(steps, clip.layout), np.random.default_rng(seed)
    results = [chain(clip.keypoint, clip.score, Draws(rng)) for _ in range(DRAWS)]
    keypoint, score = max(results, key=lambda result: np.abs(result[0] - clip.keypoint).mean())
    return dataclasses.replace(clip, keypoint=keypoint, score=score)


def _at(name: str, strength: float | None) -> dict:
    if strength is None:
        return {}
    fields = [field.name for field in dataclasses.fields(AUGMENTATIONS[name])]
    return {'strength' if 'strength' in fields else 'max_angle': strength}


def describe(name: str, strength: float | None = None) -> tuple[str, str]:
    """What it does, in one sentence, and its strength."""
    if name not in AUGMENTATIONS:
        return ', '.join(step.name.removeprefix('MG') for step in build_steps(name)), 'recipe'
    text = ' '.join(AUGMENTATIONS[name].__doc__.split('\n\n')[0].split()).replace('`', '')
    # Up to the formula, the reference or the end of the sentence.
    text = re.split(r'[:;.](?:\s|$)', text)[0]
    step = build_steps([dict(_at(name, strength), type=name)])[0]
    value = step.max_angle if name == 'MGRotate' else step.strength
    return text, f'strength {value:.3g}'

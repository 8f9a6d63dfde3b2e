"""Pictures of augmentations: a contact sheet of many, and an animation of each."""

import dataclasses
import os
import re
import textwrap
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mg_plugins.data.annotations import load_annotations
from mg_plugins.data.checks import filled_scores
from mg_plugins.data.layouts import Layout, LayoutError, get_layout
from mg_plugins.data.skeleton import detected_joints, normalise
from mg_plugins.data.synthetic import make_synthetic
from mg_plugins.errors import UserError
from mg_plugins.files import replacing

from .base import AUGMENTATIONS, Draws
from .chain import Chain, build_steps, recipe_names
from .gesture import cycle_length, motion_energy
from .joints import own_motion
from .temporal import resample

GROUPS = {
    'geometry': 'The whole body',
    'joints': 'Joints and parts',
    'temporal': 'Time',
    'gesture': 'Made for micro-gestures',
    'recipe': 'Recipes',
}
FRAMES, DRAWS, SHOWN = 60, 8, 5
LEFT, RIGHT, MIDDLE = '#2563ae', '#e0702a', '#4a5261'
PALE, INK, FAINT = '#d5dae2', '#1e2430', '#8a93a3'


@dataclass(frozen=True)
class Clip:
    """A normalised clip to draw: keypoint (M, T, V, C), score (M, T, V), layout and a title."""

    keypoint: np.ndarray
    score: np.ndarray
    layout: Layout
    title: str


def names_of(only: Sequence[str] | None = None) -> list[str]:
    """Augmentations, group by group, then recipes; or those asked for."""
    known = sorted(AUGMENTATIONS, key=lambda name: list(GROUPS).index(_group(name)))
    known += recipe_names()
    if unknown := [name for name in only or () if name not in known]:
        raise UserError(f'{unknown[0]!r} is unknown; there are {", ".join(known)}')
    return [name for name in known if not only or name in only]


def _group(name: str) -> str:
    cls = AUGMENTATIONS.get(name)
    return cls.__module__.rsplit('.', 1)[-1] if cls else 'recipe'


def load_clip(
    ann_file: str | os.PathLike | None = None, clip: str | None = None, layout: str | None = None
) -> Clip:
    """A clip of a file, by its ``frame_dir`` or with a lot of movement, or of the synthetic set."""
    if ann_file is None:
        _, clips, meta = make_synthetic(subjects=4, clips=160)
        source = 'synthetic set'
    else:
        content = load_annotations(ann_file)
        clips, meta = content['annotations'], content['meta']
        synthetic = 'synthetic' in str(meta.get('source', '')).lower()
        source = Path(ann_file).name + (' (synthetic)' if synthetic else '')
    layout = layout or meta.get('layout')
    if layout is None:
        raise UserError(f'{ann_file} names no joint layout: give one, such as --layout imigue22')
    layout, classes = get_layout(layout), dict(enumerate(meta.get('classes') or ()))
    some = [clips[i] for i in range(min(len(clips), 200))]
    if clip is None:
        # iMiGUE's and SMG's class of gestures that are none is called illustrative.
        micro = [c for c in some if 'illustrative' not in str(classes.get(c.get('label')))]
        chosen = max(micro or some, key=_liveliness)
    else:
        chosen = next((one for one in clips if one['frame_dir'] == clip), None)
        if chosen is None:
            names = ', '.join(one['frame_dir'] for one in some[:4])
            raise UserError(f'{source} has no clip {clip!r}; it has {names} and so on')
    keypoint, score = chosen['keypoint'], filled_scores(chosen)
    _, frames, joints, _ = keypoint.shape
    if joints != layout.num_joints:
        raise LayoutError(f'{source} has {joints} joints, layout {layout.name} {layout.num_joints}')
    detected, name = detected_joints(keypoint, score), classes.get(chosen.get('label'))
    keypoint, score = normalise(keypoint, detected, layout), (score * detected).astype(np.float32)
    what = f', “{name}”' if name else ''
    title = f'{source}, clip {chosen["frame_dir"]}{what}, {frames} frames'
    return Clip(*resample(keypoint, score, FRAMES, 0, frames - 1), layout, title)


def _liveliness(annotation: dict) -> tuple:
    """Rank as an example: long enough, all there, something repeats, much movement a body size."""
    keypoint, score = annotation['keypoint'], filled_scores(annotation)
    seen, frames = score > 0, keypoint.shape[1]
    if not seen.any():
        return (0,)
    size = keypoint[seen].std(axis=0).mean()
    movement = float(motion_energy(keypoint, score).mean() / size**2)
    repeats = cycle_length(*resample(keypoint / size, score, FRAMES, 0, frames - 1)) > 0
    return (frames >= 40, round(float(seen.mean()), 1), bool(repeats), movement)


def augment(clip: Clip, name: str, strength: float | None = None, seed: int = 0) -> Clip:
    """The clip after an augmentation or a recipe: of `DRAWS` draws the one that changes most."""
    steps = [dict(_at(name, strength), p=1.0)] if name in AUGMENTATIONS else name
    chain, rng = Chain(steps, clip.layout), np.random.default_rng(seed)
    results = [chain(clip.keypoint, clip.score, Draws(rng)) for _ in range(DRAWS)]
    keypoint, score = max(results, key=lambda result: np.abs(result[0] - clip.keypoint).mean())
    return dataclasses.replace(clip, keypoint=keypoint, score=score)


def _at(name: str, strength: float | None) -> dict:
    option = 'max_angle' if name == 'MGRotate' else 'strength'
    return dict(type=name) if strength is None else {'type': name, option: strength}


def describe(name: str, strength: float | None = None) -> tuple[str, str]:
    """What it does, in one sentence, and its strength."""
    if name not in AUGMENTATIONS:
        return ', '.join(step.name.removeprefix('MG') for step in build_steps(name)), 'recipe'
    text = ' '.join(AUGMENTATIONS[name].__doc__.split('\n\n')[0].split()).replace('`', '')
    step = build_steps([_at(name, strength)])[0]
    value = step.max_angle if name == 'MGRotate' else step.strength
    # Up to the formula, the reference or the end of the sentence.
    return re.split(r'[:;.](?:\s|$)', text)[0], f'strength {value:.3g}'


def contact_sheet(
    clip: Clip, names: Collection[str], path: Path, strength: float | None = None, seed: int = 0
) -> None:
    """Draw a PNG of one row an augmentation: what it is, the clip, five frames, a joint's way."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 0.8 + 1.7 * len(names)), dpi=100, layout='constrained')
    title = f'{clip.title} · left blue, right orange, pale: the clip as it is · of {DRAWS} draws '
    figure.suptitle(f'{title}the one that changes most', fontsize=10, color=FAINT)
    widths = [1.75, *[1] * (SHOWN + 1), 1.5]
    rows = figure.subplots(len(names), len(widths), squeeze=False, width_ratios=widths)
    at = np.linspace(0, FRAMES - 1, SHOWN + 2).round().astype(int)[1:-1]
    heads = ['the clip', *(f'frame {frame + 1}' for frame in at), 'its liveliest joint over time']
    group = None
    for name, (label, still, *stages, trace) in zip(names, rows, strict=True):
        if _group(name) != group:
            group = _group(name)
            label.set_title(GROUPS[group], loc='left', fontsize=11, weight='bold', color=LEFT)
        changed, (what, value) = augment(clip, name, strength, seed), describe(name, strength)
        label.axis('off')
        label.text(0, 0.84, name, fontsize=11, weight='bold', color=INK)
        label.text(0, 0.75, '\n'.join(textwrap.wrap(what, 34)[:4]), fontsize=8, va='top')
        label.text(0, 0.05, value, fontsize=7.5, color=FAINT)
        draw = _stage(clip, changed)
        draw(still, at[SHOWN // 2], clip)
        for axes, frame in zip(stages, at, strict=True):
            draw(axes, frame, changed, shadow=clip)
        _trace(trace, clip, changed, at)
    for axes, head in zip(rows[0, 1:], heads, strict=True):
        axes.set_title(head, fontsize=9, color=FAINT)
    with replacing(path) as file:
        figure.savefig(file, format='png')


def animate(
    clip: Clip, name: str, path: Path, strength: float | None = None, seed: int = 0
) -> None:
    """Write a GIF: the clip on the left, augmented on the right."""
    from matplotlib.animation import PillowWriter
    from matplotlib.figure import Figure

    changed = augment(clip, name, strength, seed)
    figure, writer = Figure(figsize=(5.2, 3.1), layout='constrained'), PillowWriter(fps=12.5)
    what = textwrap.shorten(describe(name, strength)[0], 64, placeholder=' …')
    figure.suptitle(f'{name}: {what}', fontsize=8, color=INK)
    left, right = figure.subplots(1, 2)
    draw = _stage(clip, changed)
    with replacing(path) as file, writer.saving(figure, str(file), dpi=90):
        for frame in range(0, FRAMES, 2):
            draw(left, frame, clip)
            draw(right, frame, changed, shadow=clip)
            writer.grab_frame()


def _project(points: np.ndarray) -> np.ndarray:
    """To the paper's plane, y upwards: pixels run downwards, metres are seen from the side."""
    if points.shape[-1] == 2:
        return points * [1, -1]
    angle = np.deg2rad(25)
    x, y, z = np.moveaxis(points, -1, 0)
    return np.stack([x * np.cos(angle) + z * np.sin(angle), y + 0.15 * z], axis=-1)


def _stage(*clips: Clip) -> Callable:
    """Draws a frame of a clip on axes that show the square which holds all clips."""
    from matplotlib.collections import LineCollection

    layout = clips[0].layout
    sides = {j: c for pair in layout.pairs for j, c in zip(pair, (LEFT, RIGHT), strict=True)}
    points = np.concatenate([_project(clip.keypoint)[clip.score > 0] for clip in clips])
    low, high = np.percentile(points, [0.2, 99.8], axis=0) if len(points) else np.zeros((2, 2))
    middle, half = (low + high) / 2, (high - low).max() / 2 * 1.1 + 1e-3

    def draw(axes, frame: int, clip: Clip, shadow: Clip | None = None) -> None:
        """A frame alone on the axes; bones with a missing end are left out."""
        axes.clear()
        _bare(axes, *zip(middle - half, middle + half, strict=True))
        axes.set_aspect('equal')
        pairs = [(shadow, {}, PALE, 2.2)] if shadow else []
        for one, colours, other, width in [*pairs, (clip, sides, MIDDLE, 1.7)]:
            points, seen = _project(one.keypoint[:, frame]), one.score[:, frame] > 0
            for person, there in zip(points, seen, strict=True):
                bones = [bone for bone in layout.bones if there[list(bone)].all()]
                shades = [colours.get(child, other) for child, _ in bones]
                ends = [person[list(bone)] for bone in bones]
                lines = LineCollection(ends, colors=shades, linewidths=width, capstyle='round')
                axes.add_collection(lines)
                if one is clip:
                    shades = [colours.get(joint, other) for joint in np.flatnonzero(there)]
                    axes.scatter(*person[there].T, s=5.5, c=shades, linewidths=0, zorder=4)

    return draw


def _bare(axes, across: Sequence[float], along: Sequence[float] | None = None) -> None:
    axes.set(xticks=[], yticks=[], xlim=across, ylim=along, facecolor='#f7f8fa')
    axes.spines[:].set_visible(False)


def _trace(axes, clip: Clip, changed: Clip, at: np.ndarray) -> None:
    """The coordinate that moves most, over time; gaps where the joint is missing."""
    motion = own_motion(clip.keypoint, clip.score)[:, 0]
    person, joint = np.unravel_index(motion.argmax(), motion.shape)
    axis = int(clip.keypoint[person, :, joint].std(axis=0).argmax())
    for one, colour, width in ((clip, PALE, 2.6), (changed, RIGHT, 1.4)):
        way = one.keypoint[person, :, joint, axis].astype(float)
        way[one.score[person, :, joint] == 0] = np.nan
        axes.plot(way, color=colour, linewidth=width, solid_capstyle='round')
    for frame in at:
        axes.axvline(frame, color='#e9ecf1', linewidth=0.8, zorder=0)
    _bare(axes, (0, FRAMES - 1))

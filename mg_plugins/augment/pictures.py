"""Pictures of augmentations: a contact sheet of many, and an animation of each.

Every skeleton is drawn over a pale one, the clip without augmentation at the same time. Bones are
blue where they lead to a left joint, orange to a right one, grey in the middle.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable, Sequence

import numpy as np

from mg_plugins.data.layouts import Layout
from mg_plugins.files import replacing

from .examples import DRAWS, FRAMES, GROUPS, Clip, augment, describe, group_of
from .joints import own_motion

LEFT, RIGHT, MIDDLE = '#2563ae', '#e0702a', '#4a5261'
PALE, INK, FAINT = '#d5dae2', '#1e2430', '#8a93a3'
SHOWN = 5


def contact_sheet(
    clip: Clip,
    names: Sequence[str],
    path: str | os.PathLike,
    *,
    strength: float | None = None,
    seed: int = 0,
    progress: Callable[[str], None] = lambda name: None,
) -> None:
    """Draw one row an augmentation: what it is, the clip, five frames, a joint's way.

    Args:
        clip: The clip.
        names: Some of `names_of`.
        path: PNG file to write.
        strength: Instead of the default ones.
        seed: Seed of the draws.
        progress: Called with each name after its row is drawn.
    """
    from matplotlib.figure import Figure

    groups = [group_of(name) for name in names]
    heads = [i == 0 or groups[i] != groups[i - 1] for i in range(len(names))]
    heights = [h for head in heads for h in ([0.32, 1.0] if head else [1.0])]
    figure = Figure(figsize=(14, 1.0 + 1.55 * sum(heights)), facecolor='white', dpi=100)
    top = 1 - 0.8 / figure.get_figheight()
    grid = figure.add_gridspec(
        len(heights),
        SHOWN + 3,
        height_ratios=heights,
        width_ratios=[1.75, 1, *[1] * SHOWN, 1.5],
        left=0.015,
        right=0.985,
        top=top,
        bottom=0.15 / figure.get_figheight(),
        wspace=0.06,
        hspace=0.10,
    )
    about = (
        f'{clip.title} · left blue, right orange, pale: the clip as it is · of {DRAWS} draws the '
        'one that changes most'
    )
    for text, inches, look in (
        ('Augmentations', 0.28, dict(fontsize=17, weight='bold', color=INK)),
        (about, 0.56, dict(fontsize=9.5, color=FAINT)),
    ):
        figure.text(0.015, 1 - inches / figure.get_figheight(), text, va='center', **look)
    at = np.linspace(0, FRAMES - 1, SHOWN + 2).round().astype(int)[1:-1]
    row = 0
    for name, head in zip(names, heads, strict=True):
        if head:
            _heading(figure.add_subplot(grid[row, :]), GROUPS[group_of(name)], at, row == 0)
            row += 1
        changed = augment(clip, name, strength, seed)
        _label(figure.add_subplot(grid[row, 0]), name, *describe(name, strength))
        limits = _limits(clip, changed)
        still = figure.add_subplot(grid[row, 1])
        _stage(still, limits)
        draw_skeleton(still, clip, at[SHOWN // 2])
        for column, frame in enumerate(at):
            axes = figure.add_subplot(grid[row, 2 + column])
            _stage(axes, limits)
            draw_skeleton(axes, clip, frame, pale=True)
            draw_skeleton(axes, changed, frame)
        _trace(figure.add_subplot(grid[row, SHOWN + 2]), clip, changed, at)
        row += 1
        progress(name)
    with replacing(path) as file:
        figure.savefig(file, format='png')


def animate(
    clip: Clip,
    name: str,
    path: str | os.PathLike,
    *,
    strength: float | None = None,
    seed: int = 0,
) -> None:
    """Write a GIF: the clip on the left, augmented on the right.

    Args:
        clip: The clip.
        name: One of `names_of`.
        path: GIF file to write.
        strength: Instead of the default one.
        seed: Seed of the draw.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    changed = augment(clip, name, strength, seed)
    figure = Figure(figsize=(5.2, 3.1), dpi=90, facecolor='white')
    canvas = FigureCanvasAgg(figure)
    left, right = figure.subplots(
        1, 2, gridspec_kw=dict(left=0.01, right=0.99, bottom=0.02, top=0.86, wspace=0.03)
    )
    figure.text(0.02, 0.925, name, fontsize=12, weight='bold', color=INK, va='center')
    what = textwrap.shorten(describe(name, strength)[0], 58, placeholder=' …')
    figure.text(0.98, 0.925, what, fontsize=7, color=FAINT, ha='right', va='center')
    limits, images = _limits(clip, changed), []
    for frame in range(0, FRAMES, 2):
        for axes, shown in ((left, clip), (right, changed)):
            axes.clear()
            _stage(axes, limits)
            if shown is changed:
                draw_skeleton(axes, clip, frame, pale=True)
            draw_skeleton(axes, shown, frame)
        canvas.draw()
        image = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
        images.append(image.quantize(32, dither=Image.Dither.NONE))

    with replacing(path) as file:
        rest = dict(save_all=True, append_images=images[1:], duration=80, loop=0)
        images[0].save(file, format='GIF', **rest)


def draw_skeleton(axes, clip: Clip, frame: int, pale: bool = False) -> None:
    """Draw all persons of one frame; bones with a missing end are left out.

    Args:
        axes: Matplotlib axes.
        clip: The clip.
        frame: Frame number.
        pale: Draw it as the shadow behind another.
    """
    from matplotlib.collections import LineCollection

    points = _project(clip.keypoint[:, frame])
    colours = [PALE if pale else _colour(clip.layout, joint) for joint in range(points.shape[1])]
    for person, seen in zip(points, clip.score[:, frame] > 0, strict=True):
        bones = [bone for bone in clip.layout.bones if seen[list(bone)].all()]
        lines = LineCollection(
            [person[list(bone)] for bone in bones],
            colors=[colours[child] for child, _ in bones],
            linewidths=2.2 if pale else 1.7,
            capstyle='round',
            zorder=1 if pale else 3,
        )
        axes.add_collection(lines)
        if not pale:
            colour = [colours[joint] for joint in np.flatnonzero(seen)]
            axes.scatter(*person[seen].T, s=5.5, c=colour, linewidths=0, zorder=4)


def _project(points: np.ndarray) -> np.ndarray:
    """To the paper's plane, y upwards: pixels run downwards, metres are seen from the side."""
    if points.shape[-1] == 2:
        return points * [1, -1]
    angle = np.deg2rad(25)
    x, y, z = np.moveaxis(points, -1, 0)
    return np.stack([x * np.cos(angle) + z * np.sin(angle), y + 0.15 * z], axis=-1)


def _colour(layout: Layout, joint: int) -> str:
    left, right = zip(*layout.pairs, strict=True) if layout.pairs else ((), ())
    return LEFT if joint in left else RIGHT if joint in right else MIDDLE


def _limits(*clips: Clip) -> tuple[np.ndarray, float]:
    """Middle and half side of the square that holds all clips."""
    points = np.concatenate([_project(clip.keypoint)[clip.score > 0] for clip in clips])
    if not len(points):
        return np.zeros(2), 1.0
    low, high = np.percentile(points, [0.2, 99.8], axis=0)
    return (low + high) / 2, float((high - low).max() / 2 * 1.1 + 1e-3)


def _stage(axes, limits: tuple[np.ndarray, float]) -> None:
    (x, y), half = limits
    axes.set(xlim=(x - half, x + half), ylim=(y - half, y + half), xticks=[], yticks=[])
    axes.set_aspect('equal')
    axes.set_facecolor('#f7f8fa')
    for side in axes.spines.values():
        side.set_visible(False)


def _heading(axes, text: str, at: np.ndarray, first: bool) -> None:
    axes.axis('off')
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.text(0, 0.3, text, fontsize=11.5, weight='bold', color=LEFT, va='center')
    axes.axhline(0.0, color='#e3e7ed', linewidth=1)
    if not first:
        return
    widths = np.array([1.75, 1, *[1] * SHOWN, 1.5])
    middles = (np.cumsum(widths) - widths / 2) / widths.sum()
    heads = ['the clip', *(f'frame {frame + 1}' for frame in at), 'its liveliest joint over time']
    for x, head in zip(middles[1:], heads, strict=True):
        axes.text(x, 0.3, head, fontsize=8.5, color=FAINT, ha='center', va='center')


def _label(axes, name: str, what: str, strength: str) -> None:
    axes.axis('off')
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.text(0, 0.84, name, fontsize=11, weight='bold', color=INK, va='center')
    axes.text(0, 0.68, '\n'.join(textwrap.wrap(what, 34)[:4]), fontsize=8, color=INK, va='top')
    axes.text(0, 0.08, strength, fontsize=7.5, color=FAINT, va='center')


def _trace(axes, clip: Clip, changed: Clip, at: np.ndarray) -> None:
    """The coordinate that moves most, over time; gaps where the joint is missing."""
    motion = own_motion(clip.keypoint, clip.score)[:, 0]
    person, joint = np.unravel_index(motion.argmax(), motion.shape)
    path = clip.keypoint[person, :, joint]
    axis = int(path.std(axis=0).argmax())
    for one, colour, width in ((clip, PALE, 2.6), (changed, RIGHT, 1.4)):
        way = one.keypoint[person, :, joint, axis].astype(float)
        way[one.score[person, :, joint] == 0] = np.nan
        axes.plot(way, color=colour, linewidth=width, solid_capstyle='round')
    for frame in at:
        axes.axvline(frame, color='#e9ecf1', linewidth=0.8, zorder=0)
    axes.set(xticks=[], yticks=[], xlim=(0, FRAMES - 1))
    axes.margins(y=0.15)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_facecolor('#fbfbfc')

"""Pictures of spotted segments: a timeline, and a video with skeleton and labels."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mg_plugins.data.layouts import Layout
from mg_plugins.files import replacing

from .decode import runs
from .segments import Segment, Segments

if TYPE_CHECKING:
    from PIL import Image

#: Longer side of the annotated video in pixels, and its frames a second at most.
SIDE, RATE = 640, 30.0


def draw_timeline(
    path: Path, segments: Segments, title: str, present: np.ndarray, times: np.ndarray
) -> None:
    """Classes over time as bars, darker where more confident; gaps without a person are hatched.

    Args:
        path: .png to write.
        segments: Of one recording.
        title: Put above; says where it is synthetic.
        present: (T,) bool, frames with a person.
        times: (T + 1,) seconds of the frames and of the end.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    classes = sorted({row.label for row in segments})
    figure = Figure(figsize=(10, 1.6 + 0.32 * max(len(classes), 1)), layout='constrained')
    axes = figure.subplots()
    for start, stop in runs(~present):
        axes.axvspan(times[start], times[stop], facecolor='none', edgecolor='0.7', hatch='///')
    for row in segments:
        level = classes.index(row.label)
        axes.barh(
            level, row.end - row.start, left=row.start, height=0.7, color='tab:blue',
            edgecolor='white', alpha=0.25 + 0.75 * row.confidence,
        )  # fmt: skip
    axes.set_yticks(range(len(classes)), [name.replace('$', r'\$') for name in classes])
    axes.set_ylim(len(classes) - 0.5 if classes else 0.5, -0.5)
    axes.set_xlim(0, max(segments.duration, 1e-3))
    axes.set_xlabel('seconds (darker: more confident; hatched: nobody seen)')
    axes.set_title(title.replace('$', r'\$'), fontsize=10)
    if not classes:
        axes.text(0.5, 0.5, 'no gesture found', transform=axes.transAxes, ha='center', va='center')
    with replacing(path) as temporary:
        FigureCanvasAgg(figure).print_png(str(temporary))


def write_video(
    path: Path,
    keypoint: np.ndarray,
    score: np.ndarray,
    times: np.ndarray,
    layout: Layout,
    segments: Segments,
    size: tuple[int, int] | None = None,
    frames: Iterable[tuple[np.ndarray, float, object]] | None = None,
) -> None:
    """An H.264 video with skeleton and label; frames keep their times.

    Args:
        path: .mp4 to write.
        keypoint: (M, T, V, C) coordinates; of 3D ones x and y are drawn.
        score: (M, T, V).
        times: (T + 1,) seconds of the frames and of the end.
        layout: Of the V joints.
        segments: Of the recording.
        size: (width, height) of the picture that 2D coordinates are in.
        frames: Pictures to draw on, as `pose.frames_of` gives them; black without.
    """
    import av
    from PIL import Image

    points, (width, height) = _on_screen(keypoint, score, size)
    pictures = iter(frames) if frames is not None else itertools.repeat((None,))
    with replacing(path) as temporary, av.open(str(temporary), 'w', format='mp4') as container:
        options = dict(crf='26', preset='veryfast')
        stream = container.add_stream('libx264', rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, 'yuv420p'
        stream.codec_context.time_base = Fraction(1, 1000)
        written = -1000
        for t in range(keypoint.shape[1]):
            image = next(pictures, (None,))[0]
            if round(times[t] * 1000) < written + 1000 / RATE - 1:
                continue
            if image is None:
                picture = Image.new('RGB', (width, height))
            else:
                picture = Image.fromarray(image).resize((width, height))
            now = [s for s in segments if s.start <= times[t] < s.end]
            draw_people(picture, points[:, t], score[:, t], layout, labels(now, segments.source))
            frame = av.VideoFrame.from_ndarray(np.asarray(picture), format='rgb24')
            written = max(round(times[t] * 1000), written + 1)
            frame.pts, frame.time_base = written, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def draw_people(
    picture: Image.Image,
    points: np.ndarray,
    score: np.ndarray,
    layout: Layout,
    texts: tuple[str, ...] = (),
) -> None:
    """Draw skeletons, points (M, V, 2) with score (M, V), and lines of text onto a PIL picture."""
    from PIL import ImageDraw

    line, canvas = max(2, picture.width // 200), ImageDraw.Draw(picture)
    for own, seen in zip(points, score > 0, strict=True):
        for child, parent in layout.bones:
            if seen[child] and seen[parent]:
                ends = [tuple(own[child]), tuple(own[parent])]
                canvas.line(ends, fill=(90, 200, 255), width=line)
        for x, y in own[seen]:
            canvas.ellipse((x - line, y - line, x + line, y + line), fill=(255, 200, 60))
    if texts:
        lines = _lines(texts, picture.size)
        picture.paste(lines, mask=lines)


def labels(now: Iterable[Segment], source: str) -> tuple[str, ...]:
    """What stands on a picture: where the model comes from, and the gestures of the moment."""
    marks = (source.upper(),) if source else ()
    return marks + tuple(f'{row.label} {row.confidence:.2f}' for row in now)


@lru_cache(maxsize=32)
def _lines(texts: tuple[str, ...], size: tuple[int, int]) -> Image.Image:
    """Lines of text on nothing, kept: outlined letters cost more than all other drawing."""
    from PIL import Image, ImageDraw, ImageFont

    picture, font = Image.new('RGBA', size), ImageFont.load_default(max(12, size[1] // 18))
    for row, text in enumerate(texts):
        ImageDraw.Draw(picture).text(
            (8, 6 + row * 1.3 * font.size), text.encode('latin-1', 'replace').decode('latin-1'),
            fill='white', font=font, stroke_width=2, stroke_fill='black',
        )  # fmt: skip
    return picture.crop((0, 0, *picture.getbbox()[2:]))


def _on_screen(
    keypoint: np.ndarray, score: np.ndarray, size: tuple[int, int] | None
) -> tuple[np.ndarray, tuple[int, int]]:
    """Coordinates (M, T, V, 2) in pixels of a picture of even sides, and its (width, height)."""
    points = keypoint[..., :2].astype(np.float32)
    if size is not None:
        scale = min(1.0, SIDE / max(size))
        width, height = (max(2, int(side * scale) // 2 * 2) for side in size)
        return points * scale, (width, height)
    if keypoint.shape[-1] == 3:
        points[..., 1] *= -1  # upwards
    some = points[score > 0]
    some = some[:: max(1, len(some) // 100_000)]
    low, high = np.percentile(some if len(some) else np.eye(2), [0.5, 99.5], axis=0)
    extent = max(float((high - low).max()), 1e-6) * 1.2
    return (points - (low + high) / 2) / extent * 480 + (320, 240), (640, 480)


def frame_ends(times: Sequence[float], fps: float) -> np.ndarray:
    """(T + 1,) seconds: the frames' times, and the end one frame after the last."""
    times = np.asarray(times, float)
    return np.append(times, (times[-1] if len(times) else 0) + 1 / fps)

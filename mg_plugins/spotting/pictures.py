"""All that is written of one recording, with a timeline, a video and a page; a webcam's window."""

import base64
import itertools
import os
import re
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

import jinja2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mg_plugins.data.layouts import Layout, get_layout
from mg_plugins.errors import counted
from mg_plugins.files import replacing, write_text
from mg_plugins.pose import Estimator, PoseTrack, as_track, frames_of
from mg_plugins.pose.estimate import Person, VideoInfo

from .decode import runs
from .segments import Segment, Segments

Texts = tuple[str, ...]  # lines on a picture
#: Longer side of the annotated video in pixels, and its frames a second at most.
SIDE, RATE = 640, 30.0
#: Seconds of a webcam that are spotted anew, how often, and how long an ended gesture still counts.
CHUNK, EVERY, RECENT = 8.0, 0.5, 0.5
#: A larger video is linked, not embedded.
LARGEST_EMBEDDED = 24 << 20
#: Drawing a longer recording takes longer than everything else.
LONGEST_VIDEO = 1800.0
TEMPLATE = jinja2.Template(
    Path(__file__).with_name('report_template.html').read_text(encoding='utf-8'),
    trim_blocks=True,
    autoescape=True,
    undefined=jinja2.StrictUndefined,
)


def write_outputs(
    folder: Path,
    track: PoseTrack,
    segments: Segments,
    warning: str = '',
    video: Path | None = None,
    long_video: bool = False,
) -> None:
    """Write table, ELAN and Praat files, timeline, annotated video and report into a folder.

    ``warning`` is what a reader should know of the model; ``video`` is drawn on, black without.
    """
    segments.write_csv(folder / 'segments.csv')
    segments.write_json(folder / 'segments.json')
    segments.write_textgrid(folder / 'segments.TextGrid')
    present, ends = (track.score > 0).any((0, 2)), frame_ends(track.times, track.fps)
    title, notes = folder.name, [warning] if warning else []
    if segments.source:
        title += f' ({segments.source} model)'
        notes.append('SYNTHETIC: the model has seen synthetic data only; it shows the machinery.')
    if not present.any():
        notes.append('Nobody was seen in this recording.')
    draw_timeline(folder / 'timeline.png', segments, title, present, ends)
    annotated = None
    if ends[-1] <= LONGEST_VIDEO or long_video:
        annotated = folder / 'annotated.mp4'
        write_video(annotated, track, segments, frames_of(video) if video else None)
    else:
        notes.append('No annotated video beyond half an hour; --long-video draws it.')
    segments.write_eaf(folder / 'segments.eaf', annotated)
    write_report(folder / 'report.html', segments, title, present, ends, annotated, notes)


def write_report(
    path: Path,
    segments: Segments,
    title: str,
    present: np.ndarray,
    times: np.ndarray,
    video: Path | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Write the page; ``present`` and ``times`` are those of `draw_timeline`, notes come first."""
    duration = max(segments.duration, 1e-3)
    classes: dict[str, list[Segment]] = {}
    for row in segments:
        classes.setdefault(row.label, []).append(row)
    lengths = {name: [row.end - row.start for row in rows] for name, rows in classes.items()}
    source = quote(video.name) if video else ''
    if video and video.stat().st_size <= LARGEST_EMBEDDED:
        source = 'data:video/mp4;base64,' + base64.b64encode(video.read_bytes()).decode()
    page = TEMPLATE.render(
        title=title,
        notes=notes,
        segments=segments,
        classes=dict(sorted(classes.items(), key=lambda item: -len(item[1]))),
        lengths=lengths,
        duration=duration,
        share=sum(map(sum, lengths.values())) / duration,
        seen=present.mean() if len(present) else 0,
        gaps=[(times[start], times[stop]) for start, stop in runs(~present)],
        video=source,
        mean=np.mean,
        counted=counted,
        clock=_clock,
    )
    write_text(path, page)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f'{hours}:{minutes:02d}:{rest:04.1f}' if hours else f'{minutes}:{rest:04.1f}'


def draw_timeline(
    path: Path, segments: Segments, title: str, present: np.ndarray, times: np.ndarray
) -> None:
    """Bars over time of segments and of gaps in ``present`` (T,); ``times`` (T + 1,) in seconds."""
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
        figure.savefig(temporary, format='png')


def write_video(
    path: Path, track: PoseTrack, segments: Segments, frames: Iterable[tuple] | None = None
) -> None:
    """An H.264 video of skeleton and label on ``frames`` of `pose.frames_of`, or black."""
    import av

    points, (width, height) = _on_screen(track)
    score, layout = track.score, get_layout(track.layout)
    pictures = iter(frames) if frames is not None else itertools.repeat((None,))
    with replacing(path) as temporary, av.open(str(temporary), 'w', format='mp4') as container:
        options = dict(crf='26', preset='veryfast')
        stream = container.add_stream('libx264', rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, 'yuv420p'
        stream.codec_context.time_base = Fraction(1, 1000)
        written = -1000
        for t, time in enumerate(track.times):
            image = next(pictures, (None,))[0]
            if round(time * 1000) < written + 1000 / RATE - 1:
                continue
            picture = Image.new('RGB', (width, height))
            if image is not None:
                picture = Image.fromarray(image).resize((width, height))
            now = [s for s in segments if s.start <= time < s.end]
            draw_people(picture, points[:, t], score[:, t], layout, labels(now, segments.source))
            frame = av.VideoFrame.from_ndarray(np.asarray(picture), format='rgb24')
            written = max(round(time * 1000), written + 1)
            frame.pts, frame.time_base = written, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def draw_people(
    picture: Image.Image, points: np.ndarray, score: np.ndarray, layout: Layout, texts: Texts = ()
) -> None:
    """Draw skeletons, points (M, V, 2) with score (M, V), and lines of text onto a PIL picture."""
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


def labels(now: Iterable[Segment], source: str) -> Texts:
    """What stands on a picture: where the model comes from, and the gestures of the moment."""
    marks = (source.upper(),) if source else ()
    return marks + tuple(f'{row.label} {row.confidence:.2f}' for row in now)


@lru_cache(maxsize=32)
def _lines(texts: Texts, size: tuple[int, int]) -> Image.Image:
    """Lines of text on nothing, kept: outlined letters cost more than all other drawing."""
    picture, font = Image.new('RGBA', size), ImageFont.load_default(max(12, size[1] // 18))
    for row, text in enumerate(texts):
        ImageDraw.Draw(picture).text(
            (8, 6 + row * 1.3 * font.size), text.encode('latin-1', 'replace').decode('latin-1'),
            fill='white', font=font, stroke_width=2, stroke_fill='black',
        )  # fmt: skip
    return picture.crop((0, 0, *picture.getbbox()[2:]))


def _on_screen(track: PoseTrack) -> tuple[np.ndarray, tuple[int, int]]:
    """Coordinates (M, T, V, 2) in pixels of a picture of even sides, and its (width, height)."""
    points = track.keypoint[..., :2].astype(np.float32)
    if track.size is not None:
        scale = min(1.0, SIDE / max(track.size))
        width, height = (max(2, int(side * scale) // 2 * 2) for side in track.size)
        return points * scale, (width, height)
    if track.keypoint.shape[-1] == 3:
        points[..., 1] *= -1  # upwards
    some = points[track.score > 0]
    some = some[:: max(1, len(some) // 100_000)]
    low, high = np.percentile(some if len(some) else np.eye(2), [0.5, 99.5], axis=0)
    extent = max(float((high - low).max()), 1e-6) * 1.2
    return (points - (low + high) / 2) / extent * 480 + (320, 240), (640, 480)


def frame_ends(times: Sequence[float], fps: float) -> np.ndarray:
    """(T + 1,) seconds: the frames' times, and the end one frame after the last."""
    times = np.asarray(times, float)
    return np.append(times, (times[-1] if len(times) else 0) + 1 / fps)


def display() -> bool:
    """Whether there is a display for a window, and an OpenCV that opens windows."""
    import cv2

    names = ('DISPLAY', 'WAYLAND_DISPLAY')
    there = sys.platform in ('darwin', 'win32') or any(map(os.environ.get, names))
    return there and not re.search(r'GUI:\s+NONE', cv2.getBuildInformation())


class LiveView:
    """An estimator that shows what another one saw and what is spotted; q ends as Ctrl-C does."""

    def __init__(self, estimator: Estimator, spot: Callable[..., Segments]) -> None:
        self.estimator, self.spot = estimator, spot
        self.name, self.layout = estimator.name, estimator.layout
        self.past: deque[tuple[float, Sequence[Person]]] = deque()
        self.texts: Texts = ()
        self.due = EVERY

    def __call__(self, image: np.ndarray, time: float) -> Sequence[Person]:
        """Persons in one frame; the picture is shown with them."""
        import cv2

        persons = self.estimator(image, time)
        self.past.append((time, persons))
        while self.past[0][0] < time - CHUNK:
            self.past.popleft()
        if time >= self.due:
            self.due = time + EVERY
            times, found = zip(*self.past, strict=True)
            info = VideoInfo(image.shape[1], image.shape[0], 30.0, 0)
            track = as_track(np.subtract(times, times[0]), found, self.layout, info).smoothed()
            segments = self.spot(track, 'camera')
            now = [row for row in segments if row.end >= track.times[-1] - RECENT]
            self.texts = labels(now, segments.source)
        picture, seen = Image.fromarray(image), as_track([time], [persons], self.layout, None)
        points, score = seen.keypoint[:, 0], seen.score[:, 0]
        draw_people(picture, points, score, get_layout(self.layout), self.texts)
        cv2.imshow('mg_plugins: q ends', np.asarray(picture)[..., ::-1])
        if cv2.waitKey(1) & 0xFF == ord('q'):
            signal.raise_signal(signal.SIGINT)
        return persons

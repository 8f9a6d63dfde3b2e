"""Everything written of one recording; the report is one self-contained page, a click seeks."""

import base64
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import jinja2
import numpy as np

from mg_plugins.errors import counted
from mg_plugins.files import write_text
from mg_plugins.pose import PoseTrack, frames_of

from .decode import runs
from .pictures import draw_timeline, frame_ends, write_video
from .segments import Segment, Segments

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
    folder.mkdir(parents=True, exist_ok=True)
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

"""Everything written of one recording; the report is one self-contained page, a click seeks."""

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

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
TEMPLATE = Path(__file__).with_name('report_template.html')


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
    by_class: dict[str, list[Segment]] = {}
    for row in segments:
        by_class.setdefault(row.label, []).append(row)
    lengths = {name: [row.end - row.start for row in rows] for name, rows in by_class.items()}
    share, seen = sum(map(sum, lengths.values())) / duration, present.mean() if len(present) else 0
    summary = (
        f'{counted(len(segments), "gestures")} of {counted(len(by_class), "classes")} in '
        f'{_clock(duration)}; {60 * len(segments) / duration:.1f} a minute, {100 * share:.0f}% of '
        f'the time; somebody was seen in {100 * seen:.0f}% of the frames.'
    )
    gaps = ''.join(
        f'<i style="{_place(times[a], times[b], duration)}"></i>' for a, b in runs(~present)
    )
    bars = {name: [_bar(row, duration) for row in by_class[name]] for name in sorted(by_class)}
    counts = [
        (
            escape(name), len(rows), f'{60 * len(rows) / duration:.2f}',
            f'{np.mean(lengths[name]):.2f}', f'{sum(lengths[name]):.1f}',
            f'{np.mean([row.confidence for row in rows]):.2f}',
        )
        for name, rows in sorted(by_class.items(), key=lambda item: -len(item[1]))
    ]  # fmt: skip
    rows = [
        (
            f'<button data-start="{row.start:.3f}">{escape(row.label)}</button>',
            _clock(row.start), _clock(row.end), row.person, f'{row.confidence:.2f}',
        )
        for row in segments
    ]  # fmt: skip
    player = '<p>No annotated video was made.</p>'
    if video is not None:
        source = quote(video.name)
        if video.stat().st_size <= LARGEST_EMBEDDED:
            source = 'data:video/mp4;base64,' + base64.b64encode(video.read_bytes()).decode()
        player = f'<video controls playsinline preload="metadata" src="{source}"></video>'
    page = TEMPLATE.read_text(encoding='utf-8').format(
        title=escape(title),
        notes=''.join(f'<p class="note">{escape(note)}</p>' for note in notes),
        summary=summary,
        video=player,
        timeline=''.join(
            _track(escape(name), gaps + ''.join(own))
            for name, own in (bars or {'no gesture found': []}).items()
        )
        + (_track('', '<div id="cursor"></div>') if video else ''),
        counts=_table(('class', 'count', 'a minute', 'mean s', 'total s', 'confidence'), counts),
        rows=_table(('class', 'start', 'end', 'person', 'confidence'), rows),
        duration=f'{duration:.3f}',
    )
    write_text(path, page)


def _track(name: str, content: str) -> str:
    return f'<div class="row"><span>{name}</span><div class="track">{content}</div></div>'


def _place(start: float, end: float, duration: float) -> str:
    return f'left:{100 * start / duration:.3f}%;width:{100 * (end - start) / duration:.3f}%'


def _bar(row: Segment, duration: float) -> str:
    label = escape(f'{row.label}, {_clock(row.start)} to {_clock(row.end)}', quote=True)
    style = f'{_place(row.start, row.end, duration)};opacity:{0.35 + 0.65 * row.confidence:.2f}'
    return (
        f'<button data-start="{row.start:.3f}" title="{label}" aria-label="{label}" '
        f'style="{style}"></button>'
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """An HTML table; cells are escaped already."""
    top = ''.join(f'<th>{name}</th>' for name in head)
    body = ''.join('<tr>' + ''.join(f'<td>{c}</td>' for c in row) + '</tr>' for row in rows)
    empty = f'<tr><td colspan="{len(head)}">none</td></tr>'
    return f'<table><tr>{top}</tr>{body or empty}</table>'


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f'{hours}:{minutes:02d}:{rest:04.1f}' if hours else f'{minutes}:{rest:04.1f}'

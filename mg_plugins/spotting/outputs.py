"""Everything that is written of one recording: table, exports, pictures, report."""

from __future__ import annotations

from pathlib import Path

from mg_plugins.data.layouts import get_layout
from mg_plugins.pose import PoseTrack, frames_of

from .pictures import draw_timeline, frame_ends, write_video
from .report import write_report
from .segments import Segments

#: Drawing a longer recording takes longer than everything else.
LONGEST_VIDEO = 1800.0


def write_outputs(
    folder: Path,
    track: PoseTrack,
    segments: Segments,
    warning: str = '',
    video: Path | None = None,
    long_video: bool = False,
) -> None:
    """Write table, ELAN and Praat files, timeline, annotated video and report into a folder.

    Args:
        folder: Made where it is missing; its name is that of the recording.
        track: The recording.
        segments: Its gestures; what their source says is told in every file.
        warning: What a reader should know of the model.
        video: Its pictures, to draw on; black without.
        long_video: Draw the annotated video beyond half an hour too.
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
        write_video(
            annotated, track.keypoint, track.score, ends, get_layout(track.layout), segments,
            track.size, frames_of(video) if video else None,
        )  # fmt: skip
    else:
        notes.append('No annotated video beyond half an hour; --long-video draws it.')
    segments.write_eaf(folder / 'segments.eaf', annotated)
    write_report(folder / 'report.html', segments, title, present, ends, annotated, notes)

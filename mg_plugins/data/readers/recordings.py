"""Clips of users' own recordings: matched with a labels CSV, cut by frame number."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mg_plugins.data.layouts import get_layout, layout_names
from mg_plugins.data.relayout import joint_parts, relayout

from . import common, people, tables, takes
from .common import Clip, ClipError, Dataset, FormatError, Parsed, Plan
from .sources import Source
from .tables import LabelRow
from .takes import Ready, Take


@dataclass(frozen=True)
class Job:
    """One recording: its name, its files, its rows of the labels (none: one clip, no label)."""

    name: str
    content: Any
    rows: tuple[LabelRow, ...]
    options: dict


def parse_size(text: str | None) -> tuple[int, int] | None:
    """(width, height) of '1280x720'.

    Raises:
        FormatError: Any other text.
    """
    if text is None:
        return None
    match = re.fullmatch(r'(\d+)\s*[x×]\s*(\d+)', text.strip().lower())
    sides = [int(side) for side in match.groups()] if match and len(text) < 40 else [0]
    if not all(0 < side <= tables.LARGEST_SIDE for side in sides):
        raise FormatError(f'--size {text!r} must be WIDTHxHEIGHT in pixels, such as 1280x720')
    return sides[0], sides[1]


def check_options(options: Mapping[str, Any]) -> dict:
    """Options as jobs use them.

    Raises:
        FormatError: One is out of range.
    """
    if options['max_persons'] < 1:
        raise FormatError(f'--max-persons {options["max_persons"]} must be at least 1')
    for name in ('max_score', 'fps'):
        if options[name] is not None and not 0 < options[name] < 1e6:
            raise FormatError(f'--{name.replace("_", "-")} {options[name]:g} must be above 0')
    if options['unit'] not in (None, *takes.UNITS):
        raise FormatError(f'--unit {options["unit"]} must be one of {", ".join(takes.UNITS)}')
    takes.check_layout(options['layout'])
    return dict(options, size=parse_size(options['size']))


def plan_recordings(found: Mapping[str, Any], source: Source, options: Mapping[str, Any]) -> Plan:
    """Match recordings with the labels; one job a recording.

    Args:
        found: Recording name to whatever the format's reader needs.
        source: Named in rejections.
        options: The format's options.

    Raises:
        FormatError: An option or the labels cannot be used.
    """
    options = check_options(options)
    if not options['labels']:
        plan = Plan([Job(name, content, (), options) for name, content in found.items()])
        plan.context['classes'] = None
        return plan
    labels = tables.read_labels(options['labels'], options['classes'], options['first_label'])
    plan = Plan([], labels.rejects, labels.notes, dict(classes=labels.classes))
    mentioned = {reject.clip for reject in labels.rejects}
    for name, rows in labels.rows.items():
        if name not in found:
            detail = f'there is no recording {name!r} in {source.path.name or source}'
            error = [ClipError(common.MISSING_FILE, row.file, row.line, detail) for row in rows]
            plan.rejects += [e.reject(row.frame_dir) for e, row in zip(error, rows, strict=True)]
    for name, content in found.items():
        if name in labels.rows:
            plan.jobs.append(Job(name, content, tuple(labels.rows[name]), options))
        elif name not in mentioned:
            detail = 'the labels do not mention this recording'
            error = ClipError(common.NO_LABEL, labels.file, None, detail)
            plan.rejects.append(error.reject(name))
    return plan


def read_recording(job: Job, read_take: Callable[[Job], Take]) -> Parsed:
    """Cut the clips out of one recording.

    Returns:
        Clips and rejects; `extra` is (layout, {clip id: class name that the file gives}, ids).
    """
    parsed = Parsed()
    rows = job.rows or (LabelRow(job.name, None, job.name, None),)
    file = job.content.name if hasattr(job.content, 'name') else job.name
    size = next((row.size for row in rows if row.size), None)
    try:
        with common.reading(file):
            ready, parsed.counts = takes.finish(read_take(job), job.options, size, file)
    except ClipError as error:
        parsed.rejects += [error.reject(row.frame_dir) for row in rows]
        return parsed
    parsed.extra = (ready.layout, {}, set())
    for row in rows:
        try:
            with common.reading(file):
                annotation = cut_clip(job, row, ready, parsed.counts)
        except ClipError as error:
            parsed.rejects.append(error.reject(row.frame_dir))
        else:
            parsed.clips.append(Clip(annotation, row.file, row.line, row.split))
            parsed.extra[2].add(row.frame_dir)
            if ready.label and row.label is None:
                parsed.extra[1][row.frame_dir] = ready.label
    windows = [(row.label, row.start, row.end) for row in rows if row.start is not None]
    if job.options['keep_recordings'] and windows:
        row = rows[0]
        split = row.split if len({other.split for other in rows}) == 1 else None
        whole = LabelRow(job.name, None, row.file, None, split=split, known=row.known)
        annotation = cut_clip(job, whole, ready, Counter(), allow_broken=True)
        first = ready.first
        inside = [(name, max(a, first) - first, b - first) for name, a, b in windows if b >= first]
        annotation['segments'] = common.make_segments(inside, annotation['total_frames'])
        parsed.clips.append(Clip(annotation, file, None, whole.split))
        parsed.extra[2].add(job.name)
    return parsed


def cut_clip(
    job: Job, row: LabelRow, ready: Ready, counts: Counter[str], allow_broken: bool = False
) -> dict:
    """The annotation of one row of the labels.

    Frames that the files leave out are frames without joints.
    """
    whole = row.start is None
    start, end = (ready.first, ready.last) if whole else (row.start, row.end)
    if end < start:
        raise ClipError(common.END_BEFORE_START, row.file, row.line, f'start {start}, end {end}')
    if start < 0 or end > ready.last:
        detail = f'frames {start} to {end}, but there are only frames {ready.first} to {ready.last}'
        raise ClipError(common.BEYOND_FILE, row.file, row.line, detail)
    if not allow_broken:
        for number in sorted(ready.broken):
            if start <= number <= end:
                raise ready.broken[number]
    found = ready.found.between(start, end)
    frames = end - start + 1
    if not len(found.frame):
        detail = f'nobody was detected in any of the {frames} frames'
        raise ClipError(common.ALL_ZERO, row.file, row.line, detail)
    try:
        keypoint, score, said = people.assemble(
            found, start, frames, job.options['max_persons'], job.options['person'], ready.size
        )
    except ValueError as error:
        raise ClipError(common.ALL_ZERO, row.file, row.line, str(error)) from None
    counts += said
    wanted = get_layout(job.options['layout'] or ready.layout)
    if wanted.joints != ready.layout.joints:
        keypoint, score = relayout(keypoint, score, joint_parts(ready.layout, wanted))
    known = dict(session=job.name, start=start, end=end, fps=ready.fps) | row.known
    annotation = common.make_annotation(
        row.frame_dir, row.label, keypoint, score, ready.size, **known
    )
    common.check_content(annotation, row.file, row.line)
    fingers = [j for j, name in enumerate(wanted.joints) if 'finger' in name]
    if fingers and not score[..., fingers].any():
        counts['clips show no finger'] += 1
    return annotation


def collect_recordings(
    clips: list[Clip], extras: list, plan: Plan, options: Mapping[str, Any]
) -> Dataset:
    """Splits of the user's own choice, classes, layout, and the meta of the set.

    Recordings with other joints than most are rejected, unless --layout brings all to one.
    """
    extras, rejects = [extra for extra in extras if extra], []
    layout = takes.check_layout(options['layout'])
    if layout is None:
        usual, _ = Counter(extra[0] for extra in extras if extra[2]).most_common(1)[0]
        rejects = [
            ClipError(
                common.UNREADABLE,
                clip.file,
                clip.line,
                f'its joints are {extra[0].name}, those of most recordings {usual.name}: give '
                '--layout with one that all can be brought to, or convert it apart',
            ).reject(clip.annotation['frame_dir'])
            for extra in extras
            if extra[0] != usual
            for clip in clips
            if clip.annotation['frame_dir'] in extra[2]
        ]
        left = {reject.clip for reject in rejects}
        clips[:] = [clip for clip in clips if clip.annotation['frame_dir'] not in left]
        layout = usual.name if usual.name in layout_names() else usual.as_dict()
    classes = plan.context['classes']
    split, notes = tables.user_splits(clips, options['val_subjects'])
    if classes is None:
        named = {clip_id: label for _, labels, _ in extras for clip_id, label in labels.items()}
        given = options['classes']
        classes = tables.read_classes(given) if given else sorted(set(named.values()))
        for clip in clips:
            label = named.get(clip.annotation['frame_dir'])
            if label in classes:
                clip.annotation['label'] = classes.index(label)
        bare = sum('label' not in clip.annotation for clip in clips)
        if bare:
            notes.append(f'{bare} clips have no label: give --labels CSV to train on them')
    source = options['format']
    meta = dict(layout=layout, classes=classes, source=source, note='; '.join(notes))
    return Dataset(split, meta, notes, rejects=rejects)

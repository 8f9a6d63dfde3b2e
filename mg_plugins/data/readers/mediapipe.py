"""MediaPipe Pose landmarks (33 joints), a CSV or JSON file a recording.

CSV, one of:

- wide, a row a frame, with a header: columns `x0,y0,z0,visibility0,x1,…` (also counted from 1, also
  `v0`), or `<landmark>_x,<landmark>_y,…` with landmark numbers or MediaPipe's names. Other columns
  are ignored; a row whose landmark cells are all empty is a frame without a person;
- long, a row a landmark, with a header: `frame,landmark,x,y[,z][,visibility]`; a frame number that
  lacks is a frame without a person.

JSON: a list of frames (or an object with such a list under "frames"). A frame is null or empty, 33
landmarks, a list of persons of 33 landmarks, or an object that holds one of these under
"pose_landmarks", "poseLandmarks" or "landmarks" (`--world`: "pose_world_landmarks",
"poseWorldLandmarks" or "worldLandmarks"). A landmark is `{"x": …, "y": …, "z": …, "visibility": …}`
or `[x, y, z, visibility]`.

Image landmarks are fractions of the picture; `--size` makes them pixels. `--world` reads world
landmarks instead: metres, three coordinates, no picture. The visibility is the score (1 where it is
not given).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mg_plugins.data.layouts import get_layout

from . import common, parsing, recordings
from .common import Clip, ClipError, Dataset, Parsed, Plan
from .people import Frame
from .recordings import Job
from .sources import Entry, Source

JOINTS = 33
EXPECTS = 'a folder of MediaPipe Pose landmark files <clip>.csv or <clip>.json, or one such file'
IMAGE_KEYS = ('pose_landmarks', 'poseLandmarks', 'landmarks', 'landmark')
WORLD_KEYS = ('pose_world_landmarks', 'poseWorldLandmarks', 'worldLandmarks', 'landmark')
AXES = {'x': 0, 'y': 1, 'z': 2, 'visibility': 3, 'v': 3, 'vis': 3}
# Image landmarks may leave the picture, but not by this many pictures: then they are pixels.
FARTHEST = 10.0
# A recording longer than this has frame numbers that are something else, such as times.
LONGEST = 1_000_000


def plan(source: Source, options: Mapping[str, Any]) -> Plan:
    """One job a recording."""
    source = source.path
    paths = [source] if source.is_file() else sorted(source.rglob('*'))
    labels = Path(options['labels'] or '').resolve()
    paths = [p for p in paths if p.suffix in ('.csv', '.json') and p.resolve() != labels]
    if not paths:
        raise Source(source).refuse(EXPECTS)
    root = source.parent if source.is_file() else source
    found: dict[str, Path] = {}
    rejects = []
    for path in paths:
        name = path.relative_to(root).with_suffix('').as_posix()
        if name in found:
            error = ClipError(common.DUPLICATE, path.name, None, f'kept: {found[name].name}')
            rejects.append(error.reject(name))
        else:
            found[name] = path
    plan = recordings.plan_recordings(found, root, options, sized=not options['world'])
    plan.rejects += rejects
    return plan


def read_frames(job: Job) -> list[Frame | ClipError | None]:
    """Frames of one recording."""
    shown, world = job.shown(job.content), job.options['world']
    if job.content.suffix == '.csv':
        frames = read_csv(Entry(shown, job.content).lines(), shown)
    else:
        frames = read_json(recordings.load_json(job.content, shown), shown, world)
    return [finish_frame(frame, shown, job) for frame in frames]


def finish_frame(
    frame: tuple[np.ndarray, int | None] | ClipError | None, shown: str, job: Job
) -> Frame | ClipError | None:
    """A frame of persons (P, 33, 4) as x, y, z, visibility, in pixels or in metres."""
    if frame is None or isinstance(frame, ClipError):
        return frame
    persons, line = frame
    if job.options['world']:
        return recordings.make_frame(persons[..., :3], persons[..., 3], shown, line)
    if np.abs(persons[..., :2]).max() > FARTHEST:
        detail = f'x and y are fractions of the picture, found {np.abs(persons[..., :2]).max():g}'
        return ClipError(common.UNREADABLE, shown, line, detail)
    # All windows of a recording come from the same pictures, so one size serves.
    size = job.options['size'] or job.rows[0].size
    points = persons[..., :2] * np.array(size, np.float32)
    return recordings.make_frame(points, persons[..., 3], shown, line)


def read_csv(lines: list[str], shown: str) -> list:
    """Frames of a CSV file: (persons, line), None or an error for each.

    Raises:
        ClipError: No header that we know.
    """
    if not lines:
        raise ClipError(common.EMPTY, shown, None, 'the file is empty')
    header = [name.strip().lower() for name in lines[0].split(',')]
    if {'frame', 'landmark', 'x', 'y'} <= set(header):
        return read_long(header, lines, shown)
    cells = wide_columns(header, shown)
    return [
        read_wide_row(line, len(header), cells, shown, number)
        for number, line in enumerate(lines[1:], 2)
    ]


def wide_columns(header: list[str], shown: str) -> list[tuple[int, int, int]]:
    """(column, landmark, axis) of every landmark cell of a wide table.

    Raises:
        ClipError: Not every landmark has x and y.
    """
    names = {name: index for index, name in enumerate(get_layout('mediapipe33').joints)}
    cells = []
    for column, name in enumerate(header):
        if match := re.fullmatch(r'(x|y|z|v|vis|visibility)_?(\d+)', name):
            axis, landmark = match.groups()
        elif match := re.fullmatch(r'(.+?)[_.](x|y|z|v|vis|visibility)', name):
            landmark, axis = match.groups()
        else:
            continue
        landmark = landmark.strip().replace(' ', '_')
        index = int(landmark) if landmark.isdigit() else names.get(landmark)
        if index is not None:
            cells.append((column, index, AXES[axis]))
    first = min((landmark for _, landmark, _ in cells), default=0)
    # Counted from 1, landmark 0 is not there and 33 is.
    if first == 1 and max(landmark for _, landmark, _ in cells) == JOINTS:
        cells = [(column, landmark - 1, axis) for column, landmark, axis in cells]
    needed = {(landmark, axis) for landmark in range(JOINTS) for axis in (0, 1)}
    missing = needed - {(landmark, axis) for _, landmark, axis in cells}
    if missing or len({cell[1:] for cell in cells}) < len(cells):
        detail = (
            f'the header must give x and y of {JOINTS} landmarks once each (x0,y0,… or '
            f'nose_x,nose_y,…) or be frame,landmark,x,y; found {len(needed - missing)} of '
            f'{len(needed)} columns'
        )
        raise ClipError(common.UNREADABLE, shown, 1, detail)
    return [cell for cell in cells if cell[1] < JOINTS]


def read_wide_row(
    line: str, width: int, cells: list[tuple[int, int, int]], shown: str, number: int
) -> tuple[np.ndarray, int] | ClipError | None:
    """One row of a wide table."""
    if not line.strip():
        return ClipError(common.EMPTY, shown, number, 'blank line among the rows')
    texts = line.split(',')
    if len(texts) != width:
        reason = common.SHORT_ROW if len(texts) < width else common.LONG_ROW
        return ClipError(reason, shown, number, f'{len(texts)} cells, expected {width}')
    if not any(texts[column].strip() for column, _, _ in cells):
        return None
    person = np.zeros((1, JOINTS, 4), np.float32)
    person[..., 3] = 1
    for column, landmark, axis in cells:
        value = parsing.parse_float(texts[column])
        if value is None:
            detail = f'{parsing.shorten(texts[column])!r} in column {column + 1} is not a number'
            return ClipError(common.NON_NUMERIC, shown, number, detail)
        if not np.isfinite(value):
            detail = f'{parsing.shorten(texts[column])!r} in column {column + 1} is not finite'
            return ClipError(common.NAN, shown, number, detail)
        person[0, landmark, axis] = value
    return person, number


def read_long(header: list[str], lines: list[str], shown: str) -> list:
    """Frames of a long table."""
    names = {name: str(index) for index, name in enumerate(get_layout('mediapipe33').joints)}
    axes = [(column, AXES[name]) for column, name in enumerate(header) if name in AXES]
    at_frame, at_landmark = header.index('frame'), header.index('landmark')
    frames: dict[int, Any] = {}
    frame: int | None = None
    for number, line in enumerate(lines[1:], 2):
        texts = [text.strip() for text in line.split(',')]
        error = None
        if len(texts) != len(header):
            reason = common.SHORT_ROW if len(texts) < len(header) else common.LONG_ROW
            error = ClipError(reason, shown, number, f'{len(texts)} cells, expected {len(header)}')
        else:
            landmark = texts[at_landmark].lower()
            index = parsing.parse_int(names.get(landmark, landmark))
            this = parsing.parse_int(texts[at_frame])
            values = [parsing.parse_float(texts[column]) for column, _ in axes]
            if this is None or index is None or None in values:
                error = ClipError(common.NON_NUMERIC, shown, number, 'a cell is not a number')
            elif not np.isfinite(values).all():
                error = ClipError(common.NAN, shown, number, 'a coordinate is not finite')
            elif not 0 <= index < JOINTS:
                detail = f'landmark {index}, expected 0 to {JOINTS - 1}'
                error = ClipError(common.UNREADABLE, shown, number, detail)
            frame = frame if this is None else this
        if frame is None:
            raise error
        if error is not None:
            frames[frame] = error
        elif not isinstance(frames.get(frame), ClipError):
            person, _ = frames.setdefault(frame, (np.zeros((1, JOINTS, 4), np.float32), number))
            person[0, index, 3] = 1
            for (_, axis), value in zip(axes, values, strict=True):
                person[0, index, axis] = value
    if not frames:
        return []
    first, last = min(frames), max(frames)
    if last - first >= LONGEST:
        detail = f'frames {first} to {last}: are these numbers of frames?'
        raise ClipError(common.UNREADABLE, shown, None, detail)
    return [frames.get(number) for number in range(first, last + 1)]


def read_json(content: Any, shown: str, world: bool) -> list:
    """Frames of a JSON file: (persons, None), None or an error for each.

    Raises:
        ClipError: There is no list of frames.
    """
    if isinstance(content, dict):
        content = content.get('frames')
    if not isinstance(content, list):
        raise ClipError(common.UNREADABLE, shown, None, 'there is no list of frames')
    keys = WORLD_KEYS if world else IMAGE_KEYS
    frames = []
    for number, frame in enumerate(content):
        try:
            persons = find_persons(frame, keys)
            frames.append((np.stack(persons), None) if persons else None)
        except ValueError as error:
            detail = f'frame {number}: {error}'
            frames.append(ClipError(common.UNREADABLE, shown, None, detail))
    return frames


def find_persons(frame: Any, keys: tuple[str, ...]) -> list[np.ndarray]:
    """Persons (33, 4) of one JSON frame.

    Raises:
        ValueError: The frame has none of the known forms.
    """
    if isinstance(frame, dict):
        held = [key for key in keys if key in frame]
        if not held:
            raise ValueError(f'none of the keys {", ".join(keys[:3])} is there')
        frame = frame[held[0]]
        return find_persons(frame, keys)
    if not frame:
        return []
    if not isinstance(frame, list):
        raise ValueError(f'expected landmarks, found {parsing.shorten(repr(frame))}')
    if is_landmark(frame[0]):
        return [read_person(frame)]
    return [person for part in frame for person in find_persons(part, keys)]


def is_landmark(item: Any) -> bool:
    if isinstance(item, dict):
        return 'x' in item and 'y' in item
    return isinstance(item, list) and bool(item) and isinstance(item[0], (int, float))


def read_person(landmarks: list) -> np.ndarray:
    """float32 (33, 4): x, y, z, visibility.

    Raises:
        ValueError: Another number of landmarks, or one that is no landmark.
    """
    if len(landmarks) != JOINTS:
        raise ValueError(f'{len(landmarks)} landmarks, expected {JOINTS}')
    person = np.zeros((JOINTS, 4), np.float32)
    person[:, 3] = 1
    for index, landmark in enumerate(landmarks):
        if not is_landmark(landmark):
            raise ValueError(f'landmark {index} has no x and y')
        if isinstance(landmark, dict):
            landmark = [
                landmark['x'], landmark['y'], landmark.get('z', 0), landmark.get('visibility', 1)
            ]  # fmt: skip
        try:
            values = np.array(landmark[:4], np.float32)
        except (TypeError, ValueError):
            raise ValueError(f'landmark {index} holds something that is not a number') from None
        person[index, : len(values)] = values
    return person


def read(job: Job) -> Parsed:
    """Cut the labelled clips out of one recording."""
    return recordings.read_recording(job, read_frames, sized=not job.options['world'])


def collect(clips: list[Clip], extras: list, plan: Plan, options: Mapping[str, Any]) -> Dataset:
    """Splits of the user's own choice."""
    return recordings.collect_recordings(clips, plan, options, 'mediapipe33', 'mediapipe')

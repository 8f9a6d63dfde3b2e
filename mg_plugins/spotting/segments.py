"""Spotted gestures as one table type: rows of recording, person, class, times and confidence.

Everything that spots makes it, and every picture, export and scenario is made from it.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from mg_plugins.errors import UserError
from mg_plugins.files import read_json, replacing, write_json

#: Columns of the .csv: the field of a `Segment`, its kind, and how it is written.
COLUMNS = {
    'recording': ('recording', str, ''),
    'person': ('person', int, ''),
    'class': ('label', str, ''),
    'start_s': ('start', float, '.3f'),
    'end_s': ('end', float, '.3f'),
    'start_frame': ('start_frame', int, ''),
    'end_frame': ('end_frame', int, ''),
    'confidence': ('confidence', float, '.4f'),
}


class SegmentError(UserError):
    """A table of segments that cannot be read or written."""


@dataclass(frozen=True, order=True)
class Segment:
    """One gesture in a recording.

    Attributes:
        start: Seconds from the beginning of the recording.
        end: Seconds; after ``start``.
        label: Class name.
        person: Number of the person in the recording, from 0.
        confidence: In [0, 1]; 1 for ground truth.
        start_frame: First frame, from 0.
        end_frame: Frame after the last.
        recording: Name of the recording.
    """

    start: float
    end: float
    label: str
    person: int = 0
    confidence: float = 1.0
    start_frame: int = 0
    end_frame: int = 0
    recording: str = ''


@dataclass
class Segments:
    """Segments of one or several recordings, in order of time.

    Attributes:
        rows: The segments.
        source: What every output says of where the model's training data came from, such as
            ``'synthetic'``.
        duration: Seconds of the recording, 0 where unknown; ELAN and Praat need it.
    """

    rows: list[Segment] = field(default_factory=list)
    source: str = ''
    duration: float = 0.0

    def __post_init__(self) -> None:
        self.rows = sorted(self.rows, key=lambda s: (s.recording, s.start, s.end, s.person))
        for row in self.rows:
            times = (row.start, row.end, row.confidence)
            if not all(map(math.isfinite, times)) or not 0 <= row.start < row.end:
                raise SegmentError(
                    f'segment {row.label!r} of {row.recording!r} lasts from {row.start} to '
                    f'{row.end} s: expected a start from 0 and an end after it'
                )
        self.duration = max([self.duration, *(row.end for row in self.rows)])

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Segment]:
        return iter(self.rows)

    def persons(self) -> list[int]:
        """Numbers of the persons that have a segment; person 0 where nobody has."""
        return sorted({row.person for row in self.rows}) or [0]

    def write_csv(self, path: Path) -> None:
        """Write the table; a synthetic source is told in a last column."""
        extra = {'source': self.source} if self.source else {}
        with replacing(path) as temporary, temporary.open('w', newline='', encoding='utf-8') as f:
            writer = csv.writer(f)
            writer.writerow([*COLUMNS, *extra])
            for row in self.rows:
                cells = [format(getattr(row, name), how) for name, _, how in COLUMNS.values()]
                writer.writerow([*map(_safe_cell, cells), *extra.values()])

    def write_json(self, path: Path) -> None:
        """Write ``dict(source, duration, segments=[...])``."""
        rows = [asdict(row) for row in self.rows]
        write_json(path, dict(source=self.source, duration=self.duration, segments=rows))

    def write_eaf(self, path: Path, media: Path | None = None) -> None:
        """Write an ELAN file: a tier for each person, class names as annotations."""
        from pympi import Eaf

        eaf = Eaf(author='mg_plugins')
        eaf.remove_tier('default')
        if media is not None:
            eaf.add_linked_file(str(media), relpath=f'./{media.name}')
        if self.source:
            eaf.add_property('source', self.source)
        for person in self.persons():
            eaf.add_tier(self._tier(person))
        for row in self.rows:
            first, last = round(row.start * 1000), round(row.end * 1000)
            name = _text(row.label)
            eaf.add_annotation(self._tier(row.person), first, max(last, first + 1), name)
        with replacing(path) as temporary:
            temporary.unlink()  # pympi keeps what it overwrites as a .bak
            eaf.to_file(str(temporary))

    def write_textgrid(self, path: Path) -> None:
        """Write a Praat TextGrid: an interval tier a person.

        Praat's intervals cannot overlap: of two that do, the later begins where the earlier ends.
        """
        from pympi.Praat import TextGrid

        grid = TextGrid(xmin=0, xmax=max(self.duration, 0.001))
        tiers = {person: grid.add_tier(self._tier(person)) for person in self.persons()}
        ends = dict.fromkeys(tiers, 0.0)
        for row in self.rows:
            start = max(row.start, ends[row.person])
            if start < row.end:
                tiers[row.person].add_interval(start, row.end, _text(row.label))
                ends[row.person] = row.end
        with replacing(path) as temporary:
            grid.to_file(str(temporary))

    def _tier(self, person: int) -> str:
        return f'person {person}' + (f' ({self.source})' if self.source else '')


def read_segments(path: Path, recording: str = '') -> Segments:
    """Read a table that `Segments` wrote, or an ELAN file with class names as annotations.

    Args:
        path: A .csv, .json or .eaf file.
        recording: Name of the recording in an .eaf file; its stem by default.

    Raises:
        SegmentError: Another kind of file, or one that cannot be read.
    """
    path = Path(path)
    if path.suffix not in ('.csv', '.json', '.eaf'):
        raise SegmentError(f'{path}: segments are read from .csv, .json or .eaf')
    try:
        if path.suffix == '.json':
            content = read_json(path)
            rows = [Segment(**row) for row in content['segments']]
            return Segments(rows, str(content['source']), float(content['duration']))
        if path.suffix == '.eaf':
            return Segments(list(_eaf_rows(path, recording or path.stem)))
        with path.open(newline='', encoding='utf-8-sig') as file:
            table = list(csv.DictReader(file))
        missing = [name for name in COLUMNS if table and name not in table[0]]
        if missing:
            expected = ', '.join(COLUMNS)
            raise SegmentError(f'{path} lacks the column {missing[0]}; expected {expected}')
        rows = [
            Segment(**{field: kind(row[name]) for name, (field, kind, _) in COLUMNS.items()})
            for row in table
        ]
        return Segments(rows, (table[0].get('source') or '') if table else '')
    except UserError:
        raise
    except Exception as error:
        raise SegmentError(f'{path} holds no segments: {error!r}') from error


def _eaf_rows(path: Path, recording: str) -> Iterator[Segment]:
    from pympi import Eaf

    eaf = Eaf(str(path))
    for number, tier in enumerate(eaf.get_tier_names()):
        match = re.match(r'person (\d+)', tier)
        person = int(match[1]) if match else number
        for first, last, label, *_ in eaf.get_annotation_data_for_tier(tier):
            yield Segment(first / 1000, last / 1000, label, person, recording=recording)


def frame_segments(
    found: Iterable[tuple[int, int, int, float]],
    classes: Sequence[str],
    times: Sequence[float],
    recording: str = '',
    person: int = 0,
) -> list[Segment]:
    """Segments from decoded spans.

    Args:
        found: (class index, start, end, confidence), frames, end excluded.
        classes: Class names.
        times: (T + 1) presentation times of the frames and of the recording's end, in seconds.
        recording: Name of the recording.
        person: Number of the person.
    """
    return [
        Segment(
            round(float(times[start]), 3), round(float(times[end]), 3), classes[label], person,
            round(float(confidence), 4), int(start), int(end), recording,
        )
        for label, start, end, confidence in found
    ]  # fmt: skip


def _text(value: str) -> str:
    """Text without the control characters that XML and TextGrid forbid."""
    return re.sub(r'[\x00-\x1f\x7f]', ' ', value)


def _safe_cell(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(tuple('=+-@\t\r')) else text

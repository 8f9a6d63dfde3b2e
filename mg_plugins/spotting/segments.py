"""Spotted gestures as one table type, from which pictures, exports and scenarios are made."""

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


@dataclass(frozen=True, order=True)
class Segment:
    """One gesture in a recording."""

    start: float  # seconds from the beginning of the recording
    end: float  # seconds; after ``start``
    label: str  # class name
    person: int = 0  # number of the person in the recording
    confidence: float = 1.0  # in [0, 1]; 1 for ground truth
    start_frame: int = 0
    end_frame: int = 0  # the frame after the last
    recording: str = ''


@dataclass
class Segments:
    """Segments of recordings in order of time; one that is no span of time is a `UserError`."""

    rows: list[Segment] = field(default_factory=list)
    source: str = ''  # of the model's training data, such as ``'synthetic'``; every output says it
    duration: float = 0.0  # seconds, which ELAN and Praat need; 0 where unknown

    def __post_init__(self) -> None:
        self.rows = sorted(self.rows, key=lambda s: (s.recording, s.start, s.end, s.person))
        for row in self.rows:
            times = (row.start, row.end, row.confidence)
            if not all(map(math.isfinite, times)) or not 0 <= row.start < row.end:
                raise UserError(
                    f'segment {row.label!r} of {row.recording!r} lasts from {row.start} to '
                    f'{row.end} s: expected a start from 0 and an end after it'
                )
        self.duration = max([self.duration, *(row.end for row in self.rows)])

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Segment]:
        return iter(self.rows)

    def write_csv(self, path: Path) -> None:
        """Write the table; a synthetic source is told in a last column."""
        extra = {'source': self.source} if self.source else {}
        with replacing(path) as temporary, temporary.open('w', newline='', encoding='utf-8') as f:
            writer = csv.writer(f)
            writer.writerow([*COLUMNS, *extra])
            for row in self.rows:
                cells = [format(getattr(row, name), how) for name, _, how in COLUMNS.values()]
                # No spreadsheet shall take a cell for a formula.
                cells = [f"'{c}" if c.startswith(tuple('=+-@\t\r')) else c for c in cells]
                writer.writerow([*cells, *extra.values()])

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
            eaf.add_linked_file(media.resolve().as_uri(), relpath=f'./{media.name}')
        if self.source:
            eaf.add_property('source', self.source)
        tiers = self._tiers()
        for tier in tiers.values():
            eaf.add_tier(tier)
        for row in self.rows:
            first, last = round(row.start * 1000), round(row.end * 1000)
            eaf.add_annotation(tiers[row.person], first, max(last, first + 1), _text(row.label))
        with replacing(path) as temporary:
            temporary.unlink()  # pympi keeps what it overwrites as a .bak
            eaf.to_file(str(temporary))

    def write_textgrid(self, path: Path) -> None:
        """Write a Praat TextGrid: an interval tier a person."""
        from pympi.Praat import TextGrid

        grid = TextGrid(xmin=0, xmax=max(self.duration, 0.001))
        tiers = {person: grid.add_tier(name) for person, name in self._tiers().items()}
        ends = dict.fromkeys(tiers, 0.0)  # Praat's intervals cannot overlap: the later one is cut
        for row in self.rows:
            start = max(row.start, ends[row.person])
            if start < row.end:
                tiers[row.person].add_interval(start, row.end, _text(row.label))
                ends[row.person] = row.end
        with replacing(path) as temporary:
            grid.to_file(str(temporary))

    def _tiers(self) -> dict[int, str]:
        """Name of the tier of each person that has a segment; of person 0 where nobody has."""
        persons = sorted({row.person for row in self.rows} or {0})
        return {n: f'person {n}' + (f' ({self.source})' if self.source else '') for n in persons}


def read_segments(path: Path) -> Segments:
    """Read a .csv or .json file that `Segments` wrote; another one is a `UserError`."""
    path = Path(path)
    if path.suffix not in ('.csv', '.json'):
        raise UserError(f'{path}: segments are read from .csv or .json')
    try:
        if path.suffix == '.json':
            content = read_json(path)
            rows = [Segment(**row) for row in content['segments']]
            return Segments(rows, str(content['source']), float(content['duration']))
        with path.open(newline='', encoding='utf-8-sig') as file:
            table = list(csv.DictReader(file))
        if missing := [name for name in COLUMNS if table and name not in table[0]]:
            expected = ', '.join(COLUMNS)
            raise UserError(f'{path} lacks the column {missing[0]}; expected {expected}')
        rows = [
            Segment(**{field: kind(row[name]) for name, (field, kind, _) in COLUMNS.items()})
            for row in table
        ]
        return Segments(rows, (table[0].get('source') or '') if table else '')
    except UserError:
        raise
    except Exception as error:
        raise UserError(f'{path} holds no segments: {error!r}') from error


def frame_segments(
    found: Iterable[tuple[int, int, int, float]],
    classes: Sequence[str],
    times: Sequence[float],
    recording: str = '',
    person: int = 0,
) -> list[Segment]:
    """Segments from spans of `decode`; ``times`` (T + 1) are the frames' seconds and the end's."""
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

"""Annotations as arrays: one ``.npz`` file, or a ``.mg`` folder whose arrays stay on the disk.

Both keep the clips one after the other: ``keypoint`` (sum of M*T, V, C) and ``keypoint_score``
(sum of M*T, V). ``.mg`` is for sets that do not fit into the memory.

``.npz``: ``shape`` (clips, 2) with M and T, ``offset`` (clips + 1,) rows, and ``record``, a UTF-8
JSON text as bytes with ``split``, ``meta`` and the other fields of every annotation.

``.mg``: ``keypoint.npy``, ``keypoint_score.npy``, ``clips.npy`` (clips, 5) with the first row, M,
T, the label (-1 for none) and the end of the clip's line, ``records.jsonl`` with a line of the
other fields a clip, and ``index.json`` with the clips' ``names``, ``split`` (numbers of clips) and
``meta``.
"""

import json
import math
import os
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mg_plugins.files import read_json, replacing

from .checks import Split, problems
from .unpickle import AnnotationError

ARRAYS = ('keypoint', 'keypoint_score')
_APART = (*ARRAYS, 'frame_dir', 'label', 'total_frames')
VERSION = 1
# A packed .npz may not become more than so many times its size.
_MOST_UNPACKED = 50
# Bytes of the header of an .npy file, whatever the number of rows.
HEADER = 128


class ClipFolder(Sequence):
    """The clips of a ``.mg`` folder (or its ``rows`` (K,)), each made and checked when asked for.

    Its arrays are views of the files, so processes share them and none copies them.
    """

    def __init__(self, path: str | os.PathLike, rows: np.ndarray | None = None) -> None:
        self.path = Path(path)
        try:
            index = read_json(self.path / 'index.json')
            if index['version'] != VERSION:
                raise ValueError(f'it has version {index["version"]!r}, expected {VERSION}')
            self._names, self.meta = index['names'], index['meta']
            self.split = {
                name: [self._names[row] for row in clips] for name, clips in index['split'].items()
            }
            self._keypoint, self._score, self._clips = (
                np.load(self.path / f'{name}.npy', mmap_mode='r', allow_pickle=False)
                for name in (*ARRAYS, 'clips')
            )
            self._records = np.memmap(self.path / 'records.jsonl', np.uint8, 'r')
            if not self._is_whole():
                raise ValueError('its files do not belong together')
        except Exception as error:
            # numpy, JSON and the system each have errors of their own for what is not as written.
            raise AnnotationError(f'{path} cannot be read as clips: {error}') from error
        self.rows = np.arange(len(self._clips)) if rows is None else rows

    def _is_whole(self) -> bool:
        first, persons, frames, _, end = np.asarray(self._clips).T
        size, points, scores = persons * frames, self._keypoint, self._score
        return (
            points.ndim == 3
            and scores.shape == points.shape[:2]
            and points.dtype == scores.dtype == np.float32
            and min(persons.min(), frames.min()) > 0
            and (first == np.cumsum(size) - size).all()
            and size.sum() == len(points)
            and (np.diff(end, prepend=0) > 0).all()
            and end[-1] == len(self._records)
            and len(set(self._names)) == len(end)
            and set(map(type, self._names)) == {str}
        )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        """One annotation, or those of a slice or an array of indices."""
        if not isinstance(index, (int, np.integer)):
            return ClipFolder(self.path, self.rows[index])
        row = int(self.rows[index])
        first, persons, frames, label, end = self._clips[row].tolist()
        begin = int(self._clips[row - 1, 4]) if row else 0
        last = first + persons * frames
        record = json.loads(self._records[begin:end].tobytes())
        _unpacked(record, self._keypoint[first:last], self._score[first:last], (persons, frames))
        record |= dict(frame_dir=self._names[row], total_frames=frames)
        if label >= 0:
            record['label'] = label
        if wrong := next(problems(record), None):
            raise AnnotationError(f'{self.path}: clip {record["frame_dir"]!r}: {wrong}')
        return record

    def __reduce__(self) -> tuple:
        return ClipFolder, (self.path, self.rows)


def clip_names(clips: Sequence[dict]) -> list[str]:
    """Name of every clip, without reading those of a folder."""
    if isinstance(clips, ClipFolder):
        return [clips._names[row] for row in clips.rows]
    return [clip['frame_dir'] for clip in clips]


def clip_labels(clips: Sequence[dict]) -> np.ndarray:
    """Label (N) of every clip, -1 where there is none."""
    if isinstance(clips, ClipFolder):
        return np.asarray(clips._clips[:, 3])[clips.rows]
    return np.array([clip.get('label', -1) for clip in clips], dtype=np.int64)


def save_folder(path: Path, split: Split, annotations: Iterable[dict], meta: dict) -> None:
    """Write a ``.mg`` folder whole or not at all, taking the clips one by one."""
    if path.exists() and not (path / 'index.json').is_file():
        raise AnnotationError(f'{path} is there and is no folder of clips: choose another name')
    with replacing(path, folder=True) as temporary:
        names, clips, row, end, shape = [], [], 0, 0, ()
        with (
            (temporary / 'keypoint.npy').open('wb') as keypoints,
            (temporary / 'keypoint_score.npy').open('wb') as scores,
            (temporary / 'records.jsonl').open('wb') as records,
        ):
            # The headers, which need the number of rows, come last.
            for file in (keypoints, scores):
                file.write(bytes(HEADER))
            for annotation in annotations:
                fields = {k: v for k, v in annotation.items() if k not in _APART}
                persons, frames, *shape = annotation['keypoint'].shape
                keypoints.write(annotation['keypoint'].data)
                scores.write(annotation['keypoint_score'].data)
                names.append(annotation['frame_dir'])
                end += records.write(_json(fields) + b'\n')
                clips.append((row, persons, frames, annotation.get('label', -1), end))
                row += persons * frames
            for file, own in ((keypoints, shape), (scores, shape[:1])):
                file.seek(0)
                header = dict(descr='<f4', fortran_order=False, shape=(row, *own))
                np.lib.format.write_array_header_1_0(file, header)
        np.save(temporary / 'clips.npy', np.array(clips, np.int64))
        rows = {name: row for row, name in enumerate(names)}
        split = {name: [rows[clip] for clip in wanted] for name, wanted in split.items()}
        index = dict(version=VERSION, names=names, split=split, meta=meta)
        (temporary / 'index.json').write_bytes(_json(index) + b'\n')


def save_npz(path: Path, content: dict) -> None:
    """Write the ``.npz`` form."""
    annotations = content['annotations']
    shape = np.array([annotation['keypoint'].shape[:2] for annotation in annotations], np.int64)
    records = [{k: v for k, v in one.items() if k not in ARRAYS} for one in annotations]
    packed = {
        key: np.concatenate([one[key].reshape(-1, *one[key].shape[2:]) for one in annotations])
        for key in ARRAYS
    }
    packed |= dict(shape=shape, offset=np.cumsum([0, *shape.prod(1)]))
    packed['record'] = np.frombuffer(_json(content | dict(annotations=records)), np.uint8)
    with replacing(path) as temporary, temporary.open('wb') as file:
        np.savez(file, **packed)


def load_npz(path: Path) -> dict:
    """Read the ``.npz`` form; clips are views of the two large arrays."""
    try:
        stored = read_arrays(path)
        content = json.loads(stored['record'].tobytes().decode())
        records, shape, offset = content['annotations'], stored['shape'], stored['offset']
        keypoint, score = (stored[key] for key in ARRAYS)
        whole = len(records) == len(shape) and (np.diff(offset) == shape.prod(1)).all()
        if not whole or offset[0] != 0 or not offset[-1] == len(keypoint) == len(score):
            raise ValueError('its "shape" and "offset" do not match its arrays')
        for record, own, first, last in zip(records, shape, offset, offset[1:], strict=False):
            _unpacked(record, keypoint[first:last], score[first:last], own)
    except Exception as error:
        # The zip, zlib, array and JSON readers each have errors of their own for a damaged file.
        said = f'it lacks {error}' if isinstance(error, KeyError) else error
        raise AnnotationError(f'{path} cannot be read as .npz annotations: {said}') from error
    return content


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz`` file that hold what they claim, and do not unpack to too much."""
    with zipfile.ZipFile(path) as file:
        members = file.infolist()
        most = _MOST_UNPACKED * path.stat().st_size + 2**20
        if sum(member.file_size for member in members) > most:
            raise ValueError(f'it unpacks to more than {_MOST_UNPACKED} times its size')
        for member in members:
            with file.open(member) as array:
                major, _ = np.lib.format.read_magic(array)
                read = getattr(np.lib.format, f'read_array_header_{major}_0')
                shape, _, dtype = read(array)
                if dtype.hasobject:
                    raise ValueError('Object arrays are refused')
                size = math.prod(map(int, shape)) * dtype.itemsize
                if size + array.tell() != member.file_size:
                    raise ValueError(f'{member.filename} is not as large as its header says')
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def _unpacked(record: dict, keypoint: np.ndarray, score: np.ndarray, shape: Sequence[int]) -> None:
    """Give a record its arrays, and pairs that JSON made lists their type."""
    record['keypoint'] = np.asarray(keypoint).reshape(*shape, *keypoint.shape[1:])
    record['keypoint_score'] = np.asarray(score).reshape(*shape, -1)
    for key in ('img_shape', 'original_shape'):
        if isinstance(record.get(key), list):
            record[key] = tuple(record[key])


def _json(value: dict) -> bytes:
    """JSON with numpy's numbers and arrays as plain ones."""
    try:
        plain = dict(default=lambda value: value.tolist(), allow_nan=False)
        return json.dumps(value, ensure_ascii=False, **plain).encode()
    except (AttributeError, TypeError, ValueError) as error:
        raise AnnotationError(f'this form holds plain values only: {error}') from error

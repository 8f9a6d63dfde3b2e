"""Annotation files: ``dict(split={name: [frame_dir, ...]}, annotations=[...], meta=dict(...))``.

One annotation is a clip or recording of M persons, T frames, V joints, C = 2 pixel or 3 metre
coordinates. All but the first two lines are only there where known:

    dict(frame_dir: str, total_frames: int = T,
         keypoint: float32 (M, T, V, C), keypoint_score: float32 (M, T, V),  # not detected: 0
         label: int from 0, img_shape, original_shape: (height, width),      # of pictures
         session: str, subject: str, start: int, end: int (inclusive), fps: float,
         outcome: int | str,
         segments: [dict(label, start, end), ...],     # of a recording: frames, end exclusive
         frame_times: float64 (T,))                    # seconds; only where frames are irregular

`meta` names ``layout``, ``classes``, ``source`` and ``note``. ``.pkl`` is MMAction2's pickle; for
the other forms see `storage`.
"""

import logging
import os
import pickle
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from mg_plugins.errors import counted
from mg_plugins.files import replacing

from . import checks
from .layouts import LayoutError, get_layout
from .storage import ClipFolder, clip_labels, clip_names, load_npz, save_folder, save_npz
from .unpickle import AnnotationError, load_pickle

SUFFIXES = ('.pkl', '.npz', '.mg')
_log = logging.getLogger('mg_plugins')


def load_annotations(path: str | os.PathLike | Sequence[str | os.PathLike]) -> dict:
    """Read an annotation file written by us, MMAction2 or PYSKL (a bare list of annotations too).

    Of several files the clips are put together; one without splits is 'train', 'val' or 'test', by
    its place. Pickles may contain numbers, strings, built-in containers and numpy arrays of numbers
    or text; anything else is refused before it can run. Coordinates become float32, NaN a missing
    joint, and (x, y, score) given as three channels of a picture coordinates and score; clips
    without any person or frame are left out. What was changed or looks odd is logged as a warning.
    An AnnotationError names the file and, where there is one, the clip.

    Returns:
        dict with ``split`` and ``meta`` (perhaps empty), ``annotations`` (a list or `ClipFolder`)
        and ``notes``, the warnings.
    """
    if isinstance(path, (str, os.PathLike)):
        content = _load(Path(path))
    else:
        paths = [Path(one) for one in path]
        path = ', '.join(map(str, paths))
        content = _together([_load(one) for one in paths], paths, path)
    clips = content['annotations']
    known = set(clip_names(clips)) if content['split'] else ()
    content['split'], said = checks.checked_split(content['split'], known, path)
    content['notes'] += said + checks.check_labels(content, clip_labels(clips), path)
    for note in content['notes']:
        _log.warning('%s: %s', path, note)
    return content


def save_annotations(
    path: str | os.PathLike, split: dict, annotations: Iterable[dict], meta: dict | None = None
) -> None:
    """Write a ``.pkl``, ``.npz`` or ``.mg`` annotation file, whole or not at all.

    Coordinates and scores are stored as float32; missing scores are filled in (1 where a joint has
    coordinates). ``split`` goes from names to clip names (``frame_dir``), of which an unknown one
    is an AnnotationError; a ``.mg`` folder takes the annotations one by one.
    """
    path, meta = Path(path), dict(meta or {})
    _check_suffix(path)
    _check_split_names(split, path)
    split = {name: list(clips) for name, clips in split.items()}

    def clips() -> Iterator[dict]:
        known = set()
        for annotation in checks.each(map(_stored, annotations), path):
            known.add(annotation['frame_dir'])
            yield annotation
        for name, wanted in split.items():
            if unknown := [clip for clip in wanted if clip not in known]:
                lacking = f'{counted(len(unknown), "clips")} without annotation'
                raise AnnotationError(f'split {name!r} names {lacking}, such as {unknown[0]!r}')
        if not known and path.suffix != '.pkl':
            raise AnnotationError('there are no annotations to write')

    if path.suffix == '.mg':
        return save_folder(path, split, clips(), meta)
    content = dict(split=split, annotations=list(clips()), meta=meta)
    if path.suffix == '.npz':
        return save_npz(path, content)
    with replacing(path) as temporary, temporary.open('wb') as file:
        # Protocol 4 is what every supported Python and numpy 1.26 and 2 can read.
        pickler = pickle.Pickler(file, protocol=4)
        pickler.fast = True  # its memo would keep a second copy of every array
        pickler.dump(content)


def check_annotations(
    annotations: Iterable[dict], where: str | os.PathLike = 'annotations'
) -> None:
    """Refuse, as of ``where``, the first wrong annotation; numpy integers become int in place."""
    for _ in checks.each(annotations, where):
        pass


def summarise(content: dict) -> dict:
    """Counts over what `load_annotations` returns, for tools and logs.

    ``persons`` are the largest M, ``class_counts`` by label, ``subjects`` distinct, ``splits`` the
    numbers of clips; ``undetected`` goes from a body part of the layout to the share of clips in
    which none of its joints is ever detected (``all`` for clips without any).
    """
    meta, labels, seen, subjects = content['meta'], Counter(), [], set()
    persons = joints = dims = 0
    for annotation in content['annotations']:
        people, _, joints, dims = annotation['keypoint'].shape
        persons = max(persons, people)
        labels[annotation.get('label', -1)] += 1
        if 'subject' in annotation:
            subjects.add(str(annotation['subject']))
        seen.append((checks.filled_scores(annotation) > 0).any((0, 1)))
    classes = max([len(meta.get('classes') or ()), *(label + 1 for label in labels)])
    counts = [labels[label] for label in range(classes)]
    splits = {name: len(clips) for name, clips in content['split'].items()}
    undetected = _undetected(np.array(seen), meta.get('layout')) if seen else {}
    known = dict(clips=len(seen), persons=persons, joints=joints, dims=dims, class_counts=counts)
    return known | dict(subjects=sorted(subjects), splits=splits, undetected=undetected, meta=meta)


def _undetected(seen: np.ndarray, layout: Any) -> dict[str, float]:
    """Share of clips without any joint of a part, from (clips, V) joints ever detected."""
    parts, regions = {'all': range(seen.shape[1])}, {}
    with suppress(LayoutError):
        regions = get_layout(layout).regions
    for part, joints in regions.items():
        # A wrist belongs to its arm as well: a hand is seen by what is beyond it.
        arm = regions.get(part.replace('hand', 'arm'), ())
        parts[part] = [joint for joint in joints if joint not in arm] or joints
    shares = {
        part: float(1 - seen[:, list(joints)].any(1).mean())
        for part, joints in parts.items()
        if max(joints) < seen.shape[1]
    }
    return {part: share for part, share in shares.items() if share}


def _load(path: Path) -> dict:
    _check_suffix(path)
    if not path.exists():
        raise AnnotationError(f'{path} does not exist; tools/prepare_data.py writes one')
    if path.suffix == '.mg':
        folder = ClipFolder(path)
        return dict(split=folder.split, annotations=folder, meta=folder.meta, notes=[])
    content = read_file(path)
    annotations, notes = checks.mended(content['annotations'], content['meta'])
    if content['annotations'] and not annotations:
        raise AnnotationError(f'{path}: no clip has a person and a frame')
    check_annotations(annotations, path)
    return dict(content, annotations=annotations, notes=notes)


def read_file(path: Path) -> dict:
    """``split``, ``annotations`` and ``meta`` of one file; its clips are not looked at."""
    content = load_npz(path) if path.suffix == '.npz' else load_pickle(path)
    if isinstance(content, list):
        content = dict(annotations=content)
    if not isinstance(content, dict) or not isinstance(content.get('annotations'), list):
        expected = 'expected a dict with the key "annotations" (a list), or a list'
        got = checks.describe(content)
        raise AnnotationError(f'{path} holds no annotations: {expected}, got {got}')
    split, meta = content.get('split'), content.get('meta') or {}
    if not isinstance(meta, dict):
        raise AnnotationError(f'{path}: "meta" is {checks.describe(meta)}, expected a dict')
    if split is None or (isinstance(split, (list, tuple)) and not split):
        split = {}
    if isinstance(split, dict):  # names that are numbers become text, arrays and sets lists
        split = {_text(name): _listed(clips) for name, clips in split.items()}
    _check_split_names(split, path)
    return dict(split=split, annotations=content['annotations'], meta=meta)


def _listed(clips: Any) -> Any:
    clips = clips.tolist() if isinstance(clips, np.ndarray) else clips
    clips = sorted(clips, key=str) if isinstance(clips, set) else clips
    return [_text(clip) for clip in clips] if isinstance(clips, (list, tuple)) else clips


def _text(name: Any) -> Any:
    return str(name) if type(name) is int or isinstance(name, np.integer) else name


def _together(contents: list[dict], paths: list[Path], where: str) -> dict:
    """The clips of several files as those of one."""
    split, annotations = {}, []
    names = ['train', 'val', 'test', *map(str, paths)]
    for content, name in zip(contents, names, strict=False):
        alone = {name: clip_names(content['annotations'])}
        for part, clips in (content['split'] or alone).items():
            split.setdefault(part, []).extend(clips)
        annotations.extend(content['annotations'])
    check_annotations(annotations, where)
    classes = {tuple(content['meta'].get('classes') or ()) for content in contents} - {()}
    if len(classes) > 1:
        raise AnnotationError(f'{where}: they name different classes; prepare them as one set')
    meta = {key: value for content in reversed(contents) for key, value in content['meta'].items()}
    notes = [note for content in contents for note in content['notes']]
    return dict(split=split, annotations=annotations, meta=meta, notes=notes)


def _stored(annotation: Any) -> Any:
    """A copy with float32 arrays, a score, and a frame count; the checks judge the rest."""
    keypoint = checks.coordinates(annotation)
    if keypoint is None:
        return annotation
    with np.errstate(over='ignore'):
        arrays = dict(keypoint=keypoint, keypoint_score=checks.filled_scores(annotation))
        arrays = {key: np.ascontiguousarray(array, np.float32) for key, array in arrays.items()}
    annotation = annotation | arrays
    annotation.setdefault('total_frames', keypoint.shape[1])
    return annotation


def _check_suffix(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise AnnotationError(f'annotation file {path} must end in .pkl, .npz or .mg')


def _check_split_names(split: Any, where: Path) -> None:
    parts = split.items() if isinstance(split, dict) else [(None, ())]
    listed = all(isinstance(clips, (list, tuple, set)) for _, clips in parts)
    if not listed or not all(isinstance(one, str) for part, own in parts for one in (part, *own)):
        raise AnnotationError(f'{where}: "split" must be a dict of split name to clip names')

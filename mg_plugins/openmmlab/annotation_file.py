"""Any GCN config of this project on an annotation file of one's own: `use_data`."""

import dataclasses
import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from mg_plugins.augment.base import AUGMENTATIONS, Augmentation
from mg_plugins.augment.chain import OneOf, build_steps
from mg_plugins.contrast.mm.hooks import fitting_queue
from mg_plugins.data.annotations import load_annotations, save_annotations, summarise
from mg_plugins.data.layouts import Layout, LayoutError, get_layout, layout_names
from mg_plugins.data.mm.transforms import set_everywhere
from mg_plugins.errors import counted
from mg_plugins.files import cache_folder
from mg_plugins.openmmlab import settings
from mg_plugins.openmmlab.settings import LaunchError, datasets, steps
from mg_plugins.spotting.mm import use_recordings

#: Names of training and evaluation splits, looked for in this order.
PAIRS = (('xsub_train', 'xsub_val'), ('train', 'val'), ('train', 'test'))
#: Steps of an epoch below which a pre-training's batch size, momentum and epochs are not for a set.
FEW_STEPS = 8
OURS = (
    'Take one of this project, e.g. configs/stgcn_mgfuse_imigue.py, aagcn_mgfuse_imigue.py, '
    'stgcnpp_mgfuse_imigue.py, or stbcl_stgcn_imigue.py to learn without labels: whatever set they '
    'are named after, --ann-file gives them yours'
)


def put_together(paths: Sequence[str]) -> str:
    """One file, in the cache, with the clips of several: those to train, validate and test on.

    Files without splits of their own are the splits train, val and test, by their place.
    """
    there = [path for path in paths if Path(path).exists()]
    about = [(os.path.abspath(path), os.stat(path).st_mtime_ns) for path in there]
    key = hashlib.sha256(repr(about).encode()).hexdigest()[:8]
    out = cache_folder() / f'{"_".join(Path(path).stem for path in paths)}_{key}.pkl'
    if len(about) < len(paths) or not out.exists():
        content = load_annotations(paths)
        save_annotations(out, content['split'], content['annotations'], content['meta'])
    return str(out)


def use_data(
    cfg: Config,
    path: str | os.PathLike,
    layout: str | os.PathLike | Mapping | None = None,
    splits: Sequence[str] | None = None,
    testing: bool = False,
) -> None:
    """Bring a config to an annotation file, in place, and print what was changed.

    The model, its schedule, the length of clips and the positions of the fusion stay, and two or
    three coordinates need no change: a model gets three values a joint and feature, the third of
    which is the score in pictures. Without ``layout`` the file names its own; without ``splits``
    those of the config are taken where the file has them, else the first of `PAIRS`. When
    ``testing``, a file with one split is tested on it.
    """
    if (cfg.get('model') or {}).get('type') == 'MGSpotter':
        settings.announce('YOUR DATA', use_recordings(cfg, path, layout, splits), 'cyan')
        return
    _check_config(cfg)
    content = load_annotations(path)
    about = summarise(content)
    # Such as the config that an earlier run on this data left in its work directory.
    again = bool(cfg.get('work_dir')) and {d['ann_file'] for d in datasets(cfg)} == {str(path)}
    if not about['clips']:
        raise LaunchError(f'{path} holds no clips')
    if testing and not about['class_counts']:
        raise LaunchError(
            f'{path} has neither labels nor class names, so there is nothing to test: predict by '
            f'`python tools/recognize.py {path} --config CONFIG --checkpoint CHECKPOINT`, or give '
            'tools/prepare_data.py --labels FILE'
        )
    joints = _joints(path, about, layout)
    chosen = _splits(cfg, path, about['splits'], splits, testing)
    clips = set(content['split'][chosen['train_dataloader']])
    counts = Counter(c.get('label') for c in content['annotations'] if c['frame_dir'] in clips)
    classes = len(about['class_counts'])

    for loader, dataset in settings.loaded(cfg):
        # Subjects were chosen, and classes named, for the config's own data.
        for key in ('data_root', 'subjects', 'exclude_subjects', 'metainfo', 'layout'):
            dataset.pop(key, None)
        dataset.update(type='MGPoseDataset', split=chosen[loader])
        if layout is not None:
            dataset.layout = _plain(joints)
    # Nothing replaces this file.
    cfg.pop('synthetic', None)
    values = dict(layout=_plain(joints), num_joints=joints.num_joints)
    set_everywhere(cfg, dict(values, ann_file=str(path), num_classes=classes))
    for step in steps(cfg):
        if step.get('mode') in ('2d', '3d'):
            step['mode'] = f'{about["dims"]}d'

    test = chosen.get('test_dataloader') or chosen.get('val_dataloader')
    names = dict.fromkeys([chosen['train_dataloader'], *([test] if test else [])])
    told = [
        f'{path}: {counted(about["clips"], "clips")}, '
        + ', '.join(f'{n} in split {name!r}' for name in names for n in [about['splits'][name]]),
        counted(joints.num_joints, f'joints of layout {joints.name!r}, ')
        + f'{about["dims"]} coordinates each',
        *([counted(classes, 'classes')] if 'cls_head' in cfg.model else []),
        *_fit_sizes(cfg, about['persons'], len(clips), [max(counts[k], 1) for k in range(classes)]),
        *_fit_augmentations(cfg, joints),
        *([] if again else _fit_folders(cfg, path)),
    ]
    settings.announce('YOUR DATA', told, 'cyan')


def of_data(folder: str | os.PathLike, path: str | os.PathLike) -> str:
    """A work directory's name on other data: that of the data's file is added."""
    return f'{str(folder).rstrip("/")}_{Path(path).stem}'


def _check_config(cfg: Config) -> None:
    """Refuse a config whose data or model is not described by layouts."""
    kind = str((cfg.get('model') or {}).get('type')).removeprefix('mmaction.')
    if kind not in settings.WITH_GCN:
        raise LaunchError(
            f'--ann-file is for {", ".join(settings.WITH_GCN)}; this config has a {kind}. {OURS}'
        )
    read = Counter(loader for loader, _ in settings.loaded(cfg))
    for loader in settings.LOADERS:
        if read[loader] > 1 or (loader == 'train_dataloader' and not read[loader]):
            raise LaunchError(
                f'--ann-file takes the place of one file, but {loader} reads {read[loader]}. {OURS}'
            )
    for dataset in datasets(cfg):
        types = [step['type'].removeprefix('mmaction.') for step in dataset.get('pipeline', ())]
        if 'MGNormalize' not in types or 'GenSkeFeat' in types:
            raise LaunchError(
                "--ann-file needs a pipeline of this project's transforms, which take any joint "
                "layout and begin with MGNormalize; this config has MMAction2's own or others: "
                f'{", ".join(types)}. {OURS}'
            )


def _joints(path: str | os.PathLike, about: Mapping, layout: Any) -> Layout:
    """The layout of the file's joints."""
    named = about['meta'].get('layout') if layout is None else layout
    if not named:
        raise LaunchError(
            f'{path} does not name the layout of its {about["joints"]} joints: say it by --layout '
            f'NAME (one of {", ".join(layout_names())}) or --layout FILE.json'
        )
    joints = get_layout(named)
    if joints.num_joints != about['joints']:
        raise LaunchError(
            f'{path} has {about["joints"]} joints, but layout {joints.name!r} has '
            f'{joints.num_joints}: say the right one by --layout'
        )
    return joints


def _plain(layout: Layout) -> str | ConfigDict:
    """A layout as configs have it, by its name where everybody knows that one."""
    known = layout.name in layout_names() and get_layout(layout.name) == layout
    return layout.name if known else ConfigDict(layout.as_dict())


def _splits(
    cfg: Config, path: Any, counts: Mapping[str, int], wanted: Sequence[str] | None, testing: bool
) -> dict[str, str]:
    """Name of the split of every loader that the config has."""
    present = [name for name, clips in counts.items() if clips]
    own = {loader: dataset.get('split') for loader, dataset in settings.loaded(cfg)}
    if wanted is None and set(own.values()) <= set(present):
        return own
    has = ', '.join(present) or 'none'
    if wanted is not None:
        if absent := [name for name in wanted if name not in present]:
            raise LaunchError(f'{path} has no clips in split {absent[0]!r}; its splits: {has}')
        train, test = wanted
        if train == test:
            raise LaunchError(f'--splits names {train!r} twice: test on clips that did not train')
    elif testing and len(present) == 1:
        train = test = present[0]
    elif len(present) < 2:
        found = f'one split only, {has!r}' if present else 'no split'
        raise LaunchError(
            f'{path} has {found}: training and testing need two: run tools/prepare_data.py with '
            '--val-subjects LIST, or with a column "split" (train or val) in the labels'
        )
    else:
        found = [pair for pair in PAIRS if set(pair) <= set(present)]
        if not found:
            raise LaunchError(f'{path} has the splits {has}: say by --splits TRAIN TEST which')
        train, test = found[0]
    chosen = {loader: train if loader == 'train_dataloader' else test for loader in own}
    if wanted is None and (train, test) == ('train', 'val') and 'test' in present:
        chosen.update({loader: 'test' for loader in own if loader == 'test_dataloader'})
    return chosen


def _fit_sizes(cfg: Config, persons: int, clips: int, counts: list[int]) -> Iterator[str]:
    """Fit what depends on numbers of persons, of training clips and of those of each class."""
    formats = [step for step in steps(cfg) if step['type'] == 'FormatGCNInput']
    seen = min((step.get('num_person', 2) for step in formats), default=persons)
    if persons > seen:
        yield (
            f'{persons} persons in some clips, of whom the model sees '
            f'{"the first" if seen == 1 else f"{seen}"}, as in the config (num_person)'
        )
    # Fewer keys than there are clips, or a query's negatives would show all of them, old.
    head = cfg.model.get('head') or {}
    size = head.get('queue_size', 0)
    if size > 2 * clips / 3:
        head.queue_size = fitting_queue(clips)
        yield f'queue of {head.queue_size} keys instead of {size}, for {clips} training clips'
    # Learning without labels goes by steps: a large batch of a small set makes few.
    number = -(-clips // cfg.train_dataloader.get('batch_size', 1))
    if 'head' in cfg.model and number < FEW_STEPS:
        yield (
            f'only {counted(number, "steps")} an epoch of {counted(clips, "clips")} with this '
            'batch size: set train_dataloader.batch_size lower, or take '
            'configs/stbcl_stgcn_msr_action3d.py, which is set for a few hundred clips'
        )
    loss = (cfg.model.get('cls_head') or {}).get('loss_cls') or {}
    if 'counts' in loss:
        loss.counts = counts
        yield f'class counts of {loss.type}: those of the training clips'


def _fit_augmentations(cfg: Config, layout: Layout) -> Iterator[str]:
    """Leave out augmentations of body parts that the layout does not have."""
    left_out: dict[str, str] = {}

    def fits(step: Augmentation) -> bool:
        try:
            step.check(layout)
        except LayoutError as error:
            left_out[step.name] = str(error)
        return step.name not in left_out

    def fitting(chain: Any) -> Any:
        built = build_steps(chain)
        if not any(isinstance(step, OneOf) for step in built) and all(map(fits, built)):
            return chain
        return [
            ConfigDict(type=step.name, chains=[fitting(c) for c in step.chains], p=step.p)
            if isinstance(step, OneOf)
            else ConfigDict(type=step.name, **dataclasses.asdict(step))
            for step in built
            if isinstance(step, OneOf) or fits(step)
        ]

    preprocessor = cfg.model.get('data_preprocessor') or {}
    if preprocessor.get('views'):
        preprocessor['views'] = [fitting(chain) for chain in preprocessor['views']]
    for pipeline in settings.pipelines(cfg):
        # By its class: building the step itself would want its options to be right as well.
        known = [(step, AUGMENTATIONS.get(step['type'])) for step in pipeline]
        pipeline[:] = [step for step, kind in known if kind is None or fits(kind())]
        multiple = [step for step in pipeline if step['type'] == 'MultiView']
        for view in (view for step in multiple for view in step['views']):
            view['chain'] = fitting(view.get('chain', ()))
    for name, why in left_out.items():
        yield f'without {name}: {why}'


def _fit_folders(cfg: Config, path: str | os.PathLike) -> Iterator[str]:
    """Runs on other data get a folder of their own, and start from pre-trainings on that data."""
    if cfg.get('work_dir'):
        cfg.work_dir = of_data(cfg.work_dir, path)
    start = cfg.get('load_from')
    if start and Path(start).parts[0] == 'work_dirs':
        own = Path(of_data(Path(start).parent, path)) / Path(start).name
        cfg.load_from = str(own)
        yield f'starts from {own}'

"""The synthetic set in place of data that is not there, said so wherever a figure appears."""

from collections.abc import Set
from pathlib import Path

from mmengine.config import Config, ConfigDict

from mg_plugins.data.classes import get_classes
from mg_plugins.data.layouts import layout_names
from mg_plugins.data.synthetic import ensure_synthetic
from mg_plugins.data.synthetic_plan import SyntheticOptions, gesture_table
from mg_plugins.openmmlab import settings
from mg_plugins.openmmlab.settings import LaunchError, backbone_of, datasets

# A run on the synthetic set ends within minutes on two CPU cores with these.
SMALL_BACKBONE = dict(base_channels=32, num_stages=6, inflate_stages=[3, 5], down_stages=[3, 5])
SMALL_WIDTH = 128
SMALL_QUEUE = 128
CLIP_LEN = 48
BATCH_SIZE = 16
SCHEDULE = dict(max_epochs=12, val_interval=4)


def missing_data(cfg: Config) -> list[str]:
    """Annotation files of a config that do not exist, as the config names them."""
    files = {d['ann_file']: Path(d.get('data_root') or '') / d['ann_file'] for d in datasets(cfg)}
    return [name for name, path in files.items() if name and not path.exists()]


def how_to_get(cfg: Config, missing: list[str]) -> str:
    """What is missing, where it comes from, and the command that prepares it."""
    known, named = gesture_table()['datasets'], Path(missing[0]).name
    own = (cfg.get('synthetic') or {}).get('dataset')
    real = known.get(own or next((name for name in known if name in named), None), {})
    where = real.get('source', 'Prepare your own')
    command = real.get('prepare', 'python tools/prepare_data.py --help')
    return f'Not found: {", ".join(missing)}\n{where}.\nPrepare it with: {command}'


def use_synthetic(cfg: Config, missing: list[str], keep: Set[str] = frozenset()) -> None:
    """Point a config to the synthetic set, in place: a small model, minutes on two CPU cores.

    The config's own ``synthetic`` entry (options of `make_synthetic`) says which set; without one
    it follows from the graph's layout and the number of classes. Dotted keys in ``keep`` are the
    user's and left alone. Figures are named by what the data say of themselves (`SyntheticHook`).
    """
    path = ensure_synthetic(**synthetic_options(cfg))
    for loader, dataset in settings.loaded(cfg):
        upstream = [s for s in dataset['pipeline'] if s['type'] == 'GenSkeFeat']
        dataset.update(type='MGPoseDataset', ann_file=str(path), data_root=None)
        dataset.split = 'xsub_train' if loader == 'train_dataloader' else 'xsub_val'
        dataset.with_score = not any(s.get('dataset') == 'nturgb+d' for s in upstream)
    shorten(cfg, keep)
    # It names a metric that is called otherwise now.
    (cfg.get('default_hooks', {}).get('checkpoint') or {}).pop('save_best', None)
    told = [
        f'{how_to_get(cfg, missing)}\n',
        'This run goes on with the embedded synthetic set, a smaller model and a short schedule. '
        'It shows that everything works; its figures say synthetic and mean nothing for real data.',
    ]
    if cfg.work_dir:
        cfg.work_dir = f'{cfg.work_dir.rstrip("/").removesuffix("_synthetic")}_synthetic'
        told += f'\nWork directory: {cfg.work_dir}', 'Use --require-data to stop here instead.'
    settings.announce('SYNTHETIC DATA', told, 'yellow')


def shorten(cfg: Config, keep: Set[str] = frozenset()) -> None:
    """Make a config's training a matter of minutes, in place, but for dotted keys in ``keep``."""

    def mine(prefix: str) -> bool:
        return any(key.startswith(prefix) for key in keep)

    inner = backbone_of(cfg)
    if inner.get('type') in ('STGCN', 'AAGCN') and not mine('model.'):
        inner.update(SMALL_BACKBONE)
        if inner is not cfg.model.backbone and 'positions' in cfg.model.backbone:
            # Positions that were named for the whole model need not exist in the small one.
            cfg.model.backbone.positions = 'auto'
        for part in (cfg.model, cfg.model.get('cls_head', {})):
            if 'in_channels' in part:
                part.in_channels = SMALL_WIDTH
        if 'head' in cfg.model:
            cfg.model.head.queue_size = min(cfg.model.head.queue_size, SMALL_QUEUE)
    for step in settings.steps(cfg):
        for key, value in (('clip_len', CLIP_LEN), ('num_clips', 1)):
            if key in step:
                step[key] = value
    for name, loader in ((name, cfg.get(name)) for name in settings.LOADERS if cfg.get(name)):
        if not mine(f'{name}.batch_size'):
            loader.batch_size = BATCH_SIZE if name == 'train_dataloader' else 2 * BATCH_SIZE
        if not mine(f'{name}.num_workers'):
            loader.update(num_workers=0, persistent_workers=False)
        if loader.dataset.get('type') == 'RepeatDataset':
            loader.dataset.times = 1
    own = {key: cfg.train_cfg[key] for key in SCHEDULE if f'train_cfg.{key}' in keep}
    cfg.train_cfg = dict(type='EpochBasedTrainLoop', **SCHEDULE | own)
    if not mine('param_scheduler'):
        cfg.param_scheduler = settings.cosine(cfg.train_cfg.max_epochs)
    if not mine('optim_wrapper'):
        cfg.optim_wrapper.optimizer = ConfigDict(type='AdamW', lr=2e-3, weight_decay=0.01)


def synthetic_options(cfg: Config) -> dict:
    """Options of the synthetic set: the config's own, brought to its joints and classes."""
    layout = backbone_of(cfg).get('graph_cfg', {}).get('layout')
    # MMAction2's own names; its recognizers see NTU in metres and COCO in pixels.
    upstream = {'nturgb+d': ('ntu60', 'ntu25'), 'coco': ('ma52', 'coco17')}
    options = dict(cfg.get('synthetic') or {})
    layout = layout if isinstance(layout, str) else 'of its own'
    if layout in upstream:
        dataset, layout = upstream[layout]
        options = dict(dataset=dataset, clips=1200) | options
    elif not options or layout not in layout_names():
        raise LaunchError(
            f'there is no synthetic set for a config over the graph {layout!r}: only for GCN '
            f'configs over one of {", ".join([*upstream, *layout_names()])}, with an entry such '
            "as synthetic=dict(dataset='imigue')."
        )
    own = SyntheticOptions(dataset=options['dataset']).variant
    if layout != own['layout']:
        options['layout'] = layout
    classes = own['classes']
    number = classes if isinstance(classes, int) else len(get_classes(classes))
    wanted = cfg.model.get('cls_head', {}).get('num_classes', number)
    if wanted != number:
        options['classes'] = wanted
    return options

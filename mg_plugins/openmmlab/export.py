"""A trained recognizer as an ONNX file that says what to feed it."""

import json
import statistics
import time
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from torch import nn

from mg_plugins.data import dataset_names, get_classes, load_annotations
from mg_plugins.data.mm.transforms import read_config
from mg_plugins.errors import UserError
from mg_plugins.files import replacing
from mg_plugins.openmmlab.launch import build_model
from mg_plugins.openmmlab.settings import backbone_of
from mg_plugins.openmmlab.weights import weights_in

INPUT, OUTPUT = 'keypoint', 'scores'
#: What PyTorch and ONNX Runtime may differ by, over the largest score.
TOLERANCE = 1e-4


class Scores(nn.Module):
    """A GCN recognizer as clips (N, M, T, V, C) to scores (N, classes) before the softmax."""

    def __init__(self, recognizer: nn.Module) -> None:
        super().__init__()
        self.backbone, self.cls_head = recognizer.backbone, recognizer.cls_head

    def forward(self, keypoint: torch.Tensor) -> torch.Tensor:
        return self.cls_head(self.backbone(keypoint))


@dataclass
class Description:
    """What an exported model takes and gives; in the file's metadata under ``mg_plugins``."""

    layout: str
    persons: int
    joints: int
    channels: int  # of a joint
    clip_len: int  # frames as trained; the model takes any number
    classes: list[str]  # names in the order of the scores
    normalisation: list[dict]  # the transforms that move, turn or scale coordinates
    pipeline: list[dict]  # all transforms of the config's test pipeline, in order
    input: str = 'N clips, M persons, T frames, V joints, C channels'  # order of axes


def load(config: str | Path, checkpoint: str | Path) -> tuple[Config, Scores]:
    """The config of a recognizer of skeletons, and its model with the weights of a checkpoint."""
    cfg = read_config(config)
    recognizer = build_model(cfg)
    if not hasattr(recognizer, 'backbone') or not hasattr(recognizer, 'cls_head'):
        raise UserError(
            f'{config} builds a {type(recognizer).__name__}, which has no backbone with a '
            'classification head: give the config of a recognizer'
        )
    given = weights_in(checkpoint)
    try:
        recognizer.load_state_dict(given)
    except RuntimeError as error:
        raise UserError(
            f'{checkpoint} does not fit the model of {config}; the config that a run trained with '
            f'lies in its work directory: {" ".join(str(error).split())[:300]}'
        ) from error
    return cfg, Scores(recognizer).eval()


def describe(cfg: Config, model: Scores, classes: list[str] | None = None) -> Description:
    """What the model of a config takes and gives, from the config's test pipeline.

    Without ``classes`` they have the names in the annotation file, those of the data set that the
    layout belongs to, or numbers.
    """
    pipeline = json.loads(json.dumps(cfg.test_dataloader.dataset.pipeline, default=str))
    find = {key: value for step in pipeline for key, value in step.items()}
    graph = backbone_of(cfg)
    layout = find.get('layout') or graph.get('graph_cfg', {}).get('layout', 'unknown')
    if 'clip_len' not in find:
        raise UserError('the test pipeline of the config names no clip_len: sample clips in it')
    graphs = [m for n, m in model.named_buffers() if n.rpartition('.')[2] == 'A']
    norms = [m.num_features for m in model.modules() if isinstance(m, nn.BatchNorm1d)]
    if not graphs or not norms:
        raise UserError(
            f'a {type(model.backbone).__name__} has no skeleton graph A with a norm over its input'
            ': only graph networks such as STGCN and AAGCN are exported'
        )
    joints, width = graphs[0].shape[-1], norms[0]
    persons = graph.get('num_person', find.get('num_person', 2))
    channels = graph.get('in_channels', 3)
    number = cfg.model.cls_head.num_classes
    if classes is None:
        own = cfg.test_dataloader.dataset.get('ann_file') or ''
        meta = load_annotations(own)['meta'] if own and Path(own).exists() else {}
        usual = get_classes(layout) if layout in dataset_names() else ()
        named = (list(names) for names in (meta.get('classes') or (), usual))
        numbers = [str(i) for i in range(number)]
        classes = next((names for names in named if len(names) == number), numbers)
    if len(classes) != number:
        raise UserError(f'{len(classes)} class names were given, the model has {number} classes')
    if width % (joints * channels):
        raise UserError(f'the model normalises {width} numbers a frame, not {joints} joints')
    normal = [s for s in pipeline if 'ormalize' in s['type'] or 'Align' in s['type']]
    return Description(
        layout, persons, int(joints), channels, find['clip_len'], classes, normal, pipeline
    )


def write_onnx(model: nn.Module, about: Description, out: Path, opset: int = 18) -> None:
    """Write a model of (N, M, T, V, C) with its metadata; N and T stay free."""
    import onnx

    free, example = torch.export.Dim.DYNAMIC, clips(about, 2, about.clip_len)
    options = dict(dynamo=True, opset_version=opset, dynamic_shapes=({0: free, 2: free},))
    options |= dict(input_names=[INPUT], output_names=[OUTPUT], verbose=False)
    with torch.no_grad():
        proto = torch.onnx.export(model, (example,), **options).model_proto
    for key, value in {'mg_plugins': asdict(about), 'classes': about.classes}.items():
        proto.metadata_props.add(key=key, value=json.dumps(value))
    with replacing(out) as temporary:
        onnx.save(proto, temporary)


def clips(about: Description, n: int, frames: int) -> torch.Tensor:
    """Random clips (N, M, T, V, C) of the size that a model takes, the same each time."""
    size = n, about.persons, frames, about.joints, about.channels
    return torch.randn(size, generator=torch.Generator().manual_seed(0))


def session(path: Path, threads: int = 1):
    """ONNX Runtime's session of a file, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])


def compare(model: nn.Module, about: Description, path: Path) -> dict[int, float]:
    """Largest difference of scores between PyTorch and a file, by clip length, as a share."""
    run = session(path)
    found = {}
    for frames in (about.clip_len, about.clip_len // 2 + 1, 2 * about.clip_len):
        x = clips(about, 3, frames)
        with torch.no_grad():
            wanted = model(x).numpy()
        off = np.abs(run.run(None, {INPUT: x.numpy()})[0] - wanted).max()
        found[frames] = float(off / max(1.0, np.abs(wanted).max()))
    if max(found.values()) > TOLERANCE:
        raise UserError(f'{path} differs from PyTorch by {found} (frames: difference)')
    return found


def latency(model: nn.Module, about: Description, path: Path, rounds: int = 30) -> dict[str, float]:
    """Median seconds for one clip, by PyTorch and by ONNX Runtime, in turns."""
    run, x = session(path, torch.get_num_threads()), clips(about, 1, about.clip_len)
    calls = {'PyTorch': partial(model, x)}
    calls['ONNX Runtime'] = partial(run.run, None, {INPUT: x.numpy()})
    times: dict[str, list[float]] = {name: [] for name in calls}
    with torch.no_grad():
        for _, (name, call) in product(range(rounds), calls.items()):
            begin = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(taken[2:]) for name, taken in times.items()}

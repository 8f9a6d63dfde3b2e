"""``DualStreamContrast``: :class:`DualStream` as a model of MMEngine, built from configs."""

import zlib
from copy import deepcopy
from functools import partial

import torch
from mmaction.registry import MODELS
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from torch import Tensor

from mg_plugins.contrast.learner import DualStream, Terms
from mg_plugins.contrast.masked import MaskedMotion
from mg_plugins.contrast.queue import ContrastError
from mg_plugins.contrast.streams import SEGMENTS

#: Clips are told apart by a hash below this. SyncBuffersHook averages buffers in float32, in which
#: such numbers stay whole on up to 64 ranks; two clips that share one lose a negative.
CLIP_NUMBERS = 2**18


@MODELS.register_module()
class DualStreamContrast(DualStream, BaseModel):
    """Learns without labels, see :class:`DualStream`.

    ``backbone`` is the graph stream's name in checkpoints, as in a recognizer, so ``load_from``
    takes a pre-training's checkpoint as it is. :class:`MomentumHook` moves the momentum encoders.

    Args:
        backbone: Config of any GCN backbone.
        in_channels: Channels C of what it returns.
        sequence: Config of the second stream, usually ``GRUStream``, without its ``channels`` and
            ``segments``, which are those of the graph stream.
        segments: Segments of time that both streams are averaged in.
        fusion: How both are fused: ``'concat'`` or ``'balance'``.
        head: Config of the head of each stream, by default ``InfoNCEHead``.
        mining: Config of ``NearestNeighbourMining``, or ``None``.
        masked: Options of :class:`MaskedMotion`, of a ``SkeletonTransformer``; or ``None``.
        shuffle_bn: Shuffle keys across ranks, for their batch normalisation. With MMEngine's
            ``sync_bn='torch'`` (GPUs only) it is not needed.
        data_preprocessor: Config of what makes the views, usually ``ContrastPreprocessor``.
        init_cfg: As for every MMEngine model.
        **terms: Weights, the fields of :class:`Terms`: within, cross, fused, masked, extreme, drop.

    Raises:
        ContrastError: If weights are negative, or leave nothing to learn from.
    """

    def __init__(
        self,
        backbone: dict,
        in_channels: int,
        sequence: dict | None = None,
        segments: int = SEGMENTS,
        fusion: str = 'concat',
        head: dict | None = None,
        mining: dict | None = None,
        masked: dict | None = None,
        shuffle_bn: bool = True,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
        **terms: float,
    ) -> None:
        if sequence is not None:
            sequence = MODELS.build(dict(sequence, channels=in_channels, segments=segments))
        graph = MODELS.build(backbone)
        DualStream.__init__(
            self,
            graph,
            in_channels,
            sequence,
            segments,
            fusion,
            partial(MODELS.build, dict(type='InfoNCEHead') | (head or {})),
            Terms(**terms),
            None if mining is None else MODELS.build(mining),
            None if masked is None else MaskedMotion(graph, **masked),
            shuffle_bn,
        )
        # What BaseModel's own constructor, which ran without arguments, would have set.
        views = data_preprocessor or dict(type='ContrastPreprocessor')
        self.data_preprocessor = MODELS.build(views)
        self.init_cfg = deepcopy(init_cfg)

    def init_weights(self) -> None:
        """Initialise, and start the momentum encoders as copies."""
        super().init_weights()
        self.copy_to_momentum()

    def forward(self, inputs: Tensor, data_samples: list | None = None, mode: str = 'tensor'):
        """Losses, samples with ``features`` (by stream, each (1, D)), or main features (N, D).

        Args:
            inputs: Views (N, views, M, T, V, C) for ``'loss'``; else clips, likewise.
            data_samples: What is known of each clip; its ``frame_dir`` tells clips apart.
            mode: ``'loss'``, ``'predict'`` or ``'tensor'``.
        """
        if mode == 'loss':
            clips = clip_numbers(data_samples, len(inputs), inputs.device)
            return DualStream.forward(self, inputs, clips)
        if mode == 'predict':
            features = self.extract(inputs)
            for row, sample in enumerate(data_samples):
                own = {name: value[row : row + 1] for name, value in features.items()}
                sample.features = InstanceData(**own)
            return data_samples
        if mode == 'tensor':
            return self._features(self._encoders(), inputs[:, 0])[0][self.main_stream]
        raise ContrastError(f"mode must be 'loss', 'predict' or 'tensor', got {mode!r}")


def clip_numbers(data_samples: list | None, number: int, device: torch.device) -> Tensor:
    """A number (N,) that tells clips apart, from their ``frame_dir``; −1 where it is not known."""
    names = [sample.get('frame_dir') for sample in data_samples or [{}] * number]
    hashes = [None if name is None else zlib.crc32(str(name).encode()) for name in names]
    numbers = [-1 if value is None else value % CLIP_NUMBERS for value in hashes]
    return torch.tensor(numbers, dtype=torch.int64, device=device)

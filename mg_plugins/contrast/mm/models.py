"""Registered with MMAction2: the preprocessor that makes views, the pre-training, what follows."""

import zlib
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import fields
from functools import partial
from typing import Any

import torch
from mmaction.models.heads import GCNHead
from mmaction.models.recognizers import BaseRecognizer
from mmaction.registry import MODELS
from mmengine.dist import get_rank
from mmengine.logging import MessageHub
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mg_plugins.augment.batched import BatchedViews
from mg_plugins.contrast.learner import DualStream, Terms
from mg_plugins.contrast.losses import ContrastError, InfoNCE, NearestNeighbours, SupConLoss
from mg_plugins.contrast.masked import MaskedMotion, SkeletonTransformer
from mg_plugins.contrast.streams import SEGMENTS, GraphPool, GRUStream, StreamFusion
from mg_plugins.data.layouts import Layout

STREAMS = ('fused', 'graph', 'sequence')
ENCODERS = ('backbone', 'sequence', 'fusion')
PRETRAINING = ('momentum.', 'projectors.', 'heads.', 'masked.')
#: Clips are told apart by a hash below this. SyncBuffersHook averages buffers in float32, in which
#: such numbers stay whole on up to 64 ranks; two clips that share one lose a negative.
CLIP_NUMBERS = 2**18

MODELS.register_module(module=SkeletonTransformer)
MODELS.register_module(module=GRUStream)
MODELS.register_module('InfoNCEHead', module=InfoNCE)
MODELS.register_module(module=SupConLoss)


@MODELS.register_module()
class ContrastPreprocessor(BaseDataPreprocessor):
    """Stacks clips; in training it makes the views of each batch, unless the clips come as views.

    With ``views`` a training pipeline ends in ``MGResample``, ``FormatGCNInput`` and
    ``PackActionInputs``, without ``MGSkeFeat``: scores come along as last channel, and the views'
    features are made here. A pipeline of evaluation ends as ever, in the same features.

    Args:
        views: For each view (query, key, extreme) a recipe's name or a list of augmentations;
            ``None`` where the pipeline makes the views (``MultiView``).
        layout: Name, dict or file of the joint layout; only ``views`` need it.
        feat: Features of all views: one or several of joint, bone, joint_motion, bone_motion.
    """

    def __init__(
        self,
        views: Sequence | None = None,
        layout: str | dict | Layout | None = None,
        feat: str | Sequence[str] = 'joint',
        non_blocking: bool = False,
    ) -> None:
        super().__init__(non_blocking=non_blocking)
        self.views, self._generator = None, None
        if views is not None:
            if layout is None:
                raise ContrastError('ContrastPreprocessor with views needs the joint layout')
            self.views = BatchedViews(layout, [dict(chain=chain, feat=feat) for chain in views])

    def forward(self, data: dict, training: bool = False) -> dict:
        """Inputs (N, views or crops, M, T, V, C) float32 and data samples, on the device."""
        data = self.cast_data(data)
        inputs = data['inputs']
        inputs = (inputs if isinstance(inputs, Tensor) else torch.stack(list(inputs))).float()
        if training and self.views is not None:
            joints = self.views.layout.num_joints
            if inputs.dim() != 6 or inputs.shape[4] != joints:
                raise ContrastError(
                    f'views need clips (N, 1, M, T, {joints}, coordinates and score), '
                    f'got {tuple(inputs.shape)}: leave MGSkeFeat out of the training pipeline'
                )
            if self._generator is None:
                # MMEngine gives all ranks one seed; their clips should not be turned alike.
                seed = torch.initial_seed() + get_rank()
                self._generator = torch.Generator().manual_seed(seed)
            clips = inputs[:, 0]
            inputs = self.views(clips[..., :-1], clips[..., -1], self._generator)
        return dict(data, inputs=inputs)


@MODELS.register_module()
class DualStreamContrast(DualStream, BaseModel):
    """Learns without labels, see :class:`DualStream`.

    ``backbone`` is the graph stream's name in checkpoints, as in a recognizer, so ``load_from``
    takes a pre-training's checkpoint as it is. :class:`MomentumHook` moves the momentum encoders.

    Args:
        backbone: Config of any GCN backbone that returns ``in_channels`` channels.
        sequence: Config of the second stream, usually ``GRUStream``, without its ``channels`` and
            ``segments``, which are those of the graph stream.
        head: Config of the head of each stream, by default ``InfoNCEHead``.
        mining: Config of ``NearestNeighbourMining``, or ``None``.
        masked: Options of :class:`MaskedMotion`, of a ``SkeletonTransformer``; or ``None``.
        data_preprocessor: Config of what makes the views, usually ``ContrastPreprocessor``.
        **options: ``layout``, ``fusion`` and ``shuffle_bn`` of :class:`DualStream` (the last is not
            needed with MMEngine's ``sync_bn='torch'``, GPUs only), and weights, the fields of
            :class:`Terms`: within, cross, fused, masked, extreme, drop.
    """

    def __init__(
        self,
        backbone: dict,
        in_channels: int,
        sequence: dict | None = None,
        segments: int = SEGMENTS,
        head: dict | None = None,
        mining: dict | None = None,
        masked: dict | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
        **options: Any,
    ) -> None:
        if sequence is not None:
            sequence = MODELS.build(dict(sequence, channels=in_channels, segments=segments))
        graph = MODELS.build(backbone)
        terms = {f.name: options.pop(f.name) for f in fields(Terms) if f.name in options}
        DualStream.__init__(
            self,
            graph,
            in_channels,
            sequence,
            segments,
            head=partial(MODELS.build, dict(type='InfoNCEHead') | (head or {})),
            terms=Terms(**terms),
            mining=None if mining is None else MODELS.build(mining),
            masked=None if masked is None else MaskedMotion(graph, **masked),
            **options,
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

        Inputs are (N, views or crops, M, T, V, C); the ``frame_dir`` of samples tells clips apart.
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

    def parse_losses(self, losses: dict) -> tuple[Tensor, dict]:
        """The sum, and what is logged: no contrast of a batch that finds the queues empty."""
        total, log = super().parse_losses(losses)
        if self.pairs and 'contrast/acc' not in log:
            log = {k: v for k, v in log.items() if k in ('loss', 'loss_masked') and self.masked}
        return total, log


def clip_numbers(data_samples: list | None, number: int, device: torch.device) -> Tensor:
    """A number (N,) that tells clips apart, from their ``frame_dir``; −1 where it is not known."""
    names = [sample.get('frame_dir') for sample in data_samples or [{}] * number]
    numbers = [-1 if n is None else zlib.crc32(str(n).encode()) % CLIP_NUMBERS for n in names]
    return torch.tensor(numbers, dtype=torch.int64, device=device)


@MODELS.register_module()
class RecognizerDualStream(BaseRecognizer):
    """Classifies the features of :class:`DualStreamContrast`, frozen (linear probe) or fine-tuned.

    Names of all parts are those of the pre-training, so ``load_from`` its checkpoint. Any head of
    ``RecognizerGCN`` fits, without ``in_channels``: it is given the features as (N, 1, D, 1, 1).
    Arguments that are not named here are those of the pre-training.

    Args:
        stream: Which features: ``'fused'``, ``'graph'`` or ``'sequence'``; by default what there
            is, fused before graph.
        frozen: Train the head alone, over features of evaluation mode.
    """

    def __init__(
        self,
        backbone: dict,
        in_channels: int,
        cls_head: dict,
        sequence: dict | None = None,
        segments: int = SEGMENTS,
        layout: str | dict | None = None,
        fusion: str = 'concat',
        stream: str | None = None,
        frozen: bool = False,
        data_preprocessor: dict | None = None,
    ) -> None:
        pool = GraphPool(segments, layout)
        widths = pool.widths(in_channels, sequence is not None)
        stream = stream or list(widths)[-1]
        if stream not in widths:
            raise ContrastError(
                f'stream is {stream!r}, expected one of {", ".join(STREAMS)}; those other than '
                'graph need the config of sequence'
            )
        cls_head = dict(dict(in_channels=widths[stream]), **cls_head)
        super().__init__(backbone, cls_head, data_preprocessor=data_preprocessor)
        self.stream, self.frozen, self.pool = stream, frozen, pool
        if stream != 'graph':
            self.sequence = MODELS.build(dict(sequence, channels=in_channels, segments=segments))
        if stream == 'fused':
            self.fusion = StreamFusion(widths['graph'], widths['sequence'], fusion)
        for part in self._encoders() if frozen else ():
            part.requires_grad_(False)
        self.register_load_state_dict_pre_hook(drop_pretraining)

    def _encoders(self) -> list[nn.Module]:
        return [part for name, part in self.named_children() if name in ENCODERS]

    def train(self, mode: bool = True) -> 'RecognizerDualStream':
        """Training mode, but for what is frozen."""
        super().train(mode)
        for part in self._encoders() if self.frozen else ():
            part.eval()
        return self

    def extract_feat(self, inputs: Tensor, stage: str = 'backbone', **kwargs) -> tuple:
        """Features (N · crops, 1, D, 1, 1) of (N, crops, M, T, V, C); at stage 'head' scores."""
        clips = inputs.flatten(0, 1)
        maps = self.backbone(clips)
        features = self.pool(maps)
        if self.stream != 'graph':
            second = self.sequence(clips, maps)
            features = second if self.stream == 'sequence' else self.fusion(features, second)
        features = features[:, None, :, None, None]
        return (self.cls_head(features) if stage == 'head' else features), {}


def drop_pretraining(module: nn.Module, state: dict[str, Tensor], *args) -> None:
    """Leave out of a checkpoint what only a pre-training needs, so that no log lists it."""
    for name in [name for name in state if name.startswith(PRETRAINING)]:
        del state[name]


@MODELS.register_module()
class NearestNeighbourMining(NearestNeighbours):
    """:class:`NearestNeighbours` at the Runner's epoch."""

    def forward(self, views: list[Tensor]) -> Tensor | None:
        self.epoch = MessageHub.get_current_instance().get_info('epoch', 0)
        return super().forward(views)


@MODELS.register_module()
class GCNSupConHead(GCNHead):
    """MMAction2's ``GCNHead`` that also pulls together what has the same label.

    ``cls_head=dict(type='GCNSupConHead')`` over an existing config is all it takes; ``supcon`` has
    options of :class:`SupConLoss`. Each rank contrasts its own batch, so the batch should hold
    several clips of a class.
    """

    def __init__(self, *args, supcon: dict | None = None, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if self.multi_class:
            raise ContrastError('GCNSupConHead needs one label a clip, not multi_class=True')
        self.supcon = SupConLoss(self.in_channels, **(supcon or {}))

    def loss(self, feats: Tensor, data_samples: list, **kwargs) -> dict[str, Tensor]:
        """Losses of ``GCNHead`` and ``loss_supcon``, from feature maps (N, M, C, T, V)."""
        losses = super().loss(feats, data_samples, **kwargs)
        labels = torch.cat([sample.gt_label.view(-1) for sample in data_samples])
        losses['loss_supcon'] = self.supcon(feats.mean((1, 3, 4)), labels.to(feats.device))
        return losses

"""``DualStreamContrast``: momentum contrast of two streams of a clip, within and across."""

import zlib
from collections.abc import Mapping
from copy import deepcopy

import torch
from mmaction.registry import MODELS
from mmengine.dist import get_rank, get_world_size
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mg_plugins.contrast.functional import NEVER, distribution_loss, drop_energetic, info_nce
from mg_plugins.contrast.mm.heads import embed, projector
from mg_plugins.contrast.mm.preprocessor import ContrastPreprocessor
from mg_plugins.contrast.queue import ContrastError, gather, shuffled, unshuffled
from mg_plugins.contrast.streams import StreamFusion, pool_graph

#: Clips are told apart by a hash below this. SyncBuffersHook averages buffers in float32, in which
#: such numbers stay whole on up to 64 ranks; two clips that share one lose a negative.
CLIP_NUMBERS = 2**18
#: Steps without a step of the momentum encoders after which something must be wrong.
PATIENCE = 256


@MODELS.register_module()
class DualStreamContrast(BaseModel):
    """Learns without labels by telling apart which views show the same clip.

    The graph stream is any GCN backbone; ``backbone`` is its name in checkpoints, as in a
    recognizer, so ``load_from`` takes a pre-training's checkpoint as it is. Keys come from slow
    copies of all parts (momentum contrast, MoCo v2 of Chen et al., 2020), moved by
    :class:`mg_plugins.contrast.mm.hooks.MomentumHook`, and each stream has a queue. Queries are
    compared with their own stream's keys, with the other stream's, and once more after the fusion.

    Without ``sequence`` this is SkeletonCLR (one stream, two views); ``extreme`` and ``mining``
    then make it AimCLR (Guo et al., AAAI 2022).

    Args:
        backbone: Config of any backbone that returns (N, M, C, T, V).
        in_channels: Channels C of what it returns.
        sequence: Config of the second stream, ``GRUStream`` or ``TemporalPooling``; its width
            is C, so leave ``channels`` out.
        fusion: How both are fused: ``'balance'``, ``'mean'`` or ``'concat'``.
        head: Config of the head of each stream, its ``dim`` the width of all embeddings.
        within: Weight of contrast within each stream.
        cross: Weight of contrast across streams, both ways.
        fused: Weight of contrast of the fused features.
        extreme: Weight of learning from a third, extreme view by its distribution over the keys
            (D3M); 0 takes two views.
        drop: Share of the extreme view's graph features that is dropped, the most distinctive
            ones, for one more such view; 0 for none.
        mining: Config of ``NearestNeighbourMining``, or ``None``.
        shuffle_bn: Shuffle keys across ranks, for their batch normalisation. With MMEngine's
            ``sync_bn='torch'`` (GPUs only) it is not needed.
        data_preprocessor: Config of what makes the views, usually ``ContrastPreprocessor``.
        init_cfg: As for every MMEngine model.

    Raises:
        ContrastError: If weights are negative, or leave nothing to learn from.
    """

    def __init__(
        self,
        backbone: dict,
        in_channels: int,
        sequence: dict | None = None,
        fusion: str = 'balance',
        head: dict | None = None,
        within: float = 1.0,
        cross: float = 0.5,
        fused: float = 1.0,
        extreme: float = 0.0,
        drop: float = 0.0,
        mining: dict | None = None,
        shuffle_bn: bool = True,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        given = data_preprocessor is not None
        super().__init__(
            MODELS.build(data_preprocessor) if given else ContrastPreprocessor(), init_cfg
        )
        weights = dict(within=within, cross=cross, fused=fused, extreme=extreme)
        bad = {name: weight for name, weight in weights.items() if weight < 0}
        if bad:
            raise ContrastError(f'weights must not be negative, got {bad}')
        if not 0 <= drop < 1 or (drop and not extreme):
            raise ContrastError(f'drop={drop} must be in [0, 1) and needs extreme > 0')
        self.pairs = _pairs(sequence is not None, within, cross, fused)
        if not self.pairs:
            raise ContrastError(f'nothing is contrasted with these weights: {weights}')
        if sequence is not None and fusion == 'balance' and not fused:
            raise ContrastError("fusion='balance' learns from fused > 0; take 'mean' or 'concat'")
        self.extreme, self.drop, self.shuffle_bn = extreme, drop, shuffle_bn
        head = dict(type='InfoNCEHead') | (head or {})
        dim = head.setdefault('dim', 128)

        self.backbone = MODELS.build(backbone)
        widths = dict(graph=in_channels)
        if sequence is not None:
            self.sequence = MODELS.build(dict(sequence, channels=in_channels))
            self.fusion = StreamFusion(in_channels, fusion)
            widths.update(sequence=in_channels, fused=self.fusion.channels)
        self.streams = tuple(widths)
        used = {name for query, key, _ in self.pairs for name in (query, key)}
        self.projectors = nn.ModuleDict(
            {name: projector(width, dim) for name, width in widths.items() if name in used}
        )
        self.heads = nn.ModuleDict({n: MODELS.build(head) for n in widths if n in used})
        self.mining = None if mining is None else MODELS.build(mining)
        names = ('backbone', 'sequence', 'fusion', 'projectors')
        self.parts = tuple(name for name in names if hasattr(self, name))
        self.momentum = nn.ModuleDict({n: deepcopy(getattr(self, n)) for n in self.parts})
        self.momentum.requires_grad_(False)
        #: This rank's embeddings of the last batch, by stream, for hooks.
        self.queries: dict[str, Tensor] = {}
        self._since_update = 0

    @property
    def main_stream(self) -> str:
        """The stream whose features stand for a clip: ``'fused'``, or ``'graph'`` where alone."""
        return self.streams[-1]

    def init_weights(self) -> None:
        """Initialise, and start the momentum encoders as copies."""
        super().init_weights()
        self.copy_to_momentum()

    @torch.no_grad()
    def copy_to_momentum(self) -> None:
        """Make the momentum encoders equal to the encoders."""
        for name in self.parts:
            self.momentum[name].load_state_dict(getattr(self, name).state_dict())

    @torch.no_grad()
    def update_momentum(self, momentum: float) -> None:
        """Move the momentum encoders: ``slow ← momentum · slow + (1 − momentum) · fast``."""
        self._since_update = 0
        for name in self.parts:
            slow = list(self.momentum[name].parameters())
            fast = list(getattr(self, name).parameters())
            if slow:
                torch._foreach_lerp_(slow, fast, 1 - momentum)

    def forward(self, inputs: Tensor, data_samples: list | None = None, mode: str = 'tensor'):
        """Losses, samples with ``features`` (by stream, each (1, D)), or main features (N, D).

        Args:
            inputs: Views (N, views, M, T, V, C) for ``'loss'``; else clips, likewise.
            data_samples: What is known of each clip; its ``frame_dir`` tells clips apart.
            mode: ``'loss'``, ``'predict'`` or ``'tensor'``.
        """
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        if mode == 'predict':
            features = self.extract(inputs, None)
            for row, sample in enumerate(data_samples):
                own = {name: value[row : row + 1] for name, value in features.items()}
                sample.features = InstanceData(**own)
            return data_samples
        if mode == 'tensor':
            return self._features(self._encoders(), inputs[:, 0])[0][self.main_stream]
        raise ContrastError(f"mode must be 'loss', 'predict' or 'tensor', got {mode!r}")

    @torch.no_grad()
    def extract(self, inputs: Tensor, stream: str | None = 'fused') -> Tensor | dict[str, Tensor]:
        """Features before projection, of the encoder in evaluation mode, for probes.

        Args:
            inputs: Clips (N, M, T, V, C), or (N, crops, M, T, V, C): crops are averaged.
            stream: ``'fused'``, ``'graph'`` or ``'sequence'``; ``None`` gives all in a dict.

        Returns:
            (N, D) float32.

        Raises:
            ContrastError: If the model has no such stream.
        """
        if stream is not None and stream not in self.streams:
            raise ContrastError(f'stream must be one of {", ".join(self.streams)}, got {stream!r}')
        clips = inputs if inputs.dim() == 6 else inputs[:, None]
        training = self.training
        self.eval()
        features, _ = self._features(self._encoders(), clips.flatten(0, 1))
        self.train(training)
        features = {k: v.float().view(*clips.shape[:2], -1).mean(1) for k, v in features.items()}
        return features if stream is None else features[stream]

    def loss(self, inputs: Tensor, data_samples: list | None = None) -> dict[str, Tensor]:
        """Losses by pair of streams, and figures of the last pair, from views of a batch.

        Args:
            inputs: Views (N, views, M, T, V, C): query, key and, where asked for, an extreme one.
            data_samples: What is known of each clip.

        Raises:
            ContrastError: If views are missing, or nothing moves the momentum encoders.
        """
        self._check(inputs)
        clips = clip_numbers(data_samples, len(inputs), inputs.device)
        features, _ = self._features(self._encoders(), inputs[:, 0])
        queries = self._embeddings(self._encoders(), features)
        extremes = self._extremes(inputs[:, 2]) if self.extreme else []
        keys = self._keys(inputs[:, 1])
        own = {name: parts[get_rank()] for name, parts in keys.items()}

        losses = {}
        shown = self.pairs[-1][:2]
        for query, key, weight in self.pairs:
            name = query if query == key else f'{query}_to_{key}'
            head = self.heads[key]
            logits = head.logits(queries[query], own[key], clips)
            others = [head.logits(e[query], own[key], clips) for e in extremes if query in e]
            positives = self.mining([logits, *others]) if self.mining is not None else None
            losses[f'loss_{name}'] = weight * info_nce(logits, positives)
            if others:
                extreme = sum(distribution_loss(other, logits) for other in others) / len(others)
                losses[f'loss_{name}_extreme'] = self.extreme * weight * extreme
            if (query, key) == shown:
                losses.update(figures(logits, head.temperature))
        if 'fused' in features:
            with torch.no_grad():
                share = self.fusion.share(features['graph'], features['sequence'])
            losses['contrast/share_graph'] = share.mean()
        numbers = torch.cat(gather(clips))
        for name, parts in keys.items():
            self.heads[name].queue.put(torch.cat(parts), numbers)
        self.queries = {name: value.detach() for name, value in queries.items()}
        return losses

    def _check(self, inputs: Tensor) -> None:
        wanted = 3 if self.extreme else 2
        if inputs.dim() != 6 or inputs.shape[1] != wanted:
            raise ContrastError(
                f'DualStreamContrast(extreme={self.extreme}) learns from {wanted} views, (N, '
                f'{wanted}, M, T, V, C), got {tuple(inputs.shape)}: set as many in '
                'data_preprocessor.views'
            )
        self._since_update += 1
        if self._since_update > PATIENCE:
            raise ContrastError(
                f'the momentum encoders have not moved for {PATIENCE} steps: add '
                "dict(type='MomentumHook') to custom_hooks, or call update_momentum"
            )

    def _encoders(self) -> dict[str, nn.Module]:
        return {name: getattr(self, name) for name in self.parts}

    def _features(
        self, parts: Mapping[str, nn.Module], clips: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Features (N, D) by stream and the graph stream's map, of clips (N, M, T, V, C)."""
        maps = parts['backbone'](clips)
        features = dict(graph=pool_graph(maps))
        if 'sequence' in self.streams:
            features['sequence'] = parts['sequence'](clips, maps)
            features['fused'] = parts['fusion'](features['graph'], features['sequence'])
        return features, maps

    def _embeddings(
        self, parts: Mapping[str, nn.Module], features: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        projectors = parts['projectors']
        return {n: embed(projectors[n], f) for n, f in features.items() if n in projectors}

    def _extremes(self, clips: Tensor) -> list[dict[str, Tensor]]:
        """Embeddings of the extreme view, and of it with its distinctive features dropped."""
        features, maps = self._features(self._encoders(), clips)
        views = [self._embeddings(self._encoders(), features)]
        if self.drop and 'graph' in self.projectors:
            dropped = dict(graph=pool_graph(drop_energetic(maps, self.drop)))
            views.append(self._embeddings(self._encoders(), dropped))
        return views

    @torch.no_grad()
    def _keys(self, clips: Tensor) -> dict[str, list[Tensor]]:
        """Keys by stream, a tensor (n, D) for each rank, of this rank's view (n, M, T, V, C)."""
        dealt = self.shuffle_bn and get_world_size() > 1
        if dealt:
            clips, places = shuffled(clips)
        features, _ = self._features(self.momentum, clips)
        keys = self._embeddings(self.momentum, features)
        if dealt:
            return {name: unshuffled(key, places) for name, key in keys.items()}
        return {name: gather(key) for name, key in keys.items()}


def _pairs(
    dual: bool, within: float, cross: float, fused: float
) -> tuple[tuple[str, str, float], ...]:
    """(stream of queries, stream of keys, weight) of every term of the loss."""
    pairs = [('graph', 'graph', within)]
    if dual:
        pairs += [('sequence', 'sequence', within)]
        pairs += [('graph', 'sequence', cross), ('sequence', 'graph', cross)]
        pairs += [('fused', 'fused', fused)]
    return tuple(pair for pair in pairs if pair[2])


def clip_numbers(data_samples: list | None, number: int, device: torch.device) -> Tensor:
    """A number (N,) that tells clips apart, from their ``frame_dir``; −1 where it is not known."""
    names = [sample.get('frame_dir') for sample in data_samples or [{}] * number]
    hashes = [None if name is None else zlib.crc32(str(name).encode()) for name in names]
    numbers = [-1 if value is None else value % CLIP_NUMBERS for value in hashes]
    return torch.tensor(numbers, dtype=torch.int64, device=device)


@torch.no_grad()
def figures(logits: Tensor, temperature: float) -> dict[str, Tensor]:
    """Share of queries whose own key is the most similar, and mean similarities, for the log."""
    possible = logits[:, 1:] > NEVER
    negative = (logits[:, 1:] * possible).sum() / possible.sum().clamp_min(1)
    return {
        'contrast/acc': (logits.argmax(1) == 0).float().mean(),
        'contrast/positive': logits[:, 0].mean() * temperature,
        'contrast/negative': negative * temperature,
    }

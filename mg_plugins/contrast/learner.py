"""``DualStream``: momentum contrast of two streams of a clip; docs/contrast.md has an example."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mg_plugins.data.layouts import Layout

from . import losses
from .losses import ContrastError
from .masked import MaskedMotion
from .probes import evaluating
from .streams import SEGMENTS, GraphPool, StreamFusion

#: Steps without a step of the momentum encoders after which something must be wrong.
PATIENCE = 256
PARTS = ('backbone', 'sequence', 'fusion', 'projectors')


@dataclass(frozen=True)
class Terms:
    """What a `DualStream` learns from, by which weight; a negative one is a ContrastError."""

    within: float = 1.0  # contrast within each stream
    cross: float = 0.0  # contrast across streams, both ways
    fused: float = 1.0  # contrast of the fused features
    extreme: float = 0.0  # a third, extreme view, by its distribution over the keys (D3M of AimCLR)
    masked: float = 1.0  # masked motion prediction, where it is asked for
    drop: float = 0.0  # share of the most distinctive graph features that one more such view lacks

    def __post_init__(self) -> None:
        bad = {name: weight for name, weight in asdict(self).items() if weight < 0}
        if bad:
            raise ContrastError(f'weights must not be negative, got {bad}')
        if self.drop >= 1 or (self.drop and not self.extreme):
            raise ContrastError(f'drop={self.drop} must be in [0, 1) and needs extreme > 0')

    def pairs(self, dual: bool) -> tuple[tuple[str, str, float], ...]:
        """(stream of queries, stream of keys, weight) of every term of the loss."""
        pairs = [('graph', 'graph', self.within)]
        if dual:
            pairs += [('sequence', 'sequence', self.within)]
            pairs += [('graph', 'sequence', self.cross), ('sequence', 'graph', self.cross)]
            pairs += [('fused', 'fused', self.fused)]
        return tuple(pair for pair in pairs if pair[2])


class DualStream(nn.Module):
    """Learns without labels by telling apart which views show the same clip.

    Queries come from the encoders, keys from slow copies of them (momentum contrast, MoCo v2 of
    Chen et al., 2020) that see the other view, and each stream has a queue of earlier keys. Queries
    are compared with their own stream's keys, with the other stream's (inter-skeleton contrast,
    Thoker et al., ACM MM 2021), and once more after the fusion.

    Without ``sequence`` this is SkeletonCLR (one stream, two views); ``terms.extreme`` and
    ``mining`` then make it AimCLR (Guo et al., AAAI 2022).

    Args:
        backbone: The graph stream: clips (N, M, T, V, C_in) to maps (N, M, channels C, T, V).
        sequence: The second stream: `GRUStream`, or any module that takes clips and maps and
            returns (N, segments · C).
        segments, layout: How maps are averaged over time and limbs, see `GraphPool`.
        fusion: How both are fused, see `StreamFusion`.
        head: Makes the head of each stream; its ``dim`` is the width of all embeddings.
        terms: Weights of the losses; a ContrastError where they leave nothing to learn from.
        mining: Further positives out of the queue.
        masked: Learn from masked motion prediction of a `SkeletonTransformer`, too.
        shuffle_bn: Shuffle keys across ranks, for their batch normalisation.
    """

    def __init__(
        self,
        backbone: nn.Module,
        channels: int,
        sequence: nn.Module | None = None,
        segments: int = SEGMENTS,
        layout: str | Mapping | Layout | None = None,
        fusion: str = 'concat',
        head: Callable[[], losses.InfoNCE] = losses.InfoNCE,
        terms: Terms | None = None,
        mining: losses.NearestNeighbours | None = None,
        masked: MaskedMotion | None = None,
        shuffle_bn: bool = True,
    ) -> None:
        super().__init__()
        self.terms = terms or Terms()
        self.pairs = self.terms.pairs(sequence is not None)
        if not self.pairs and masked is None:
            raise ContrastError(f'nothing is contrasted with these weights: {self.terms}')
        if sequence is not None and fusion == 'balance' and self.pairs and not self.terms.fused:
            raise ContrastError("fusion='balance' learns from fused > 0; take 'concat'")
        self.shuffle_bn, self.mining, self.masked = shuffle_bn, mining, masked
        self.backbone = backbone
        self.pool = GraphPool(segments, layout)
        self.widths = widths = self.pool.widths(channels, sequence is not None)
        self.streams = tuple(widths)
        if sequence is not None:
            self.sequence = sequence
            self.fusion = StreamFusion(widths['graph'], widths['sequence'], fusion)
        used = [name for name in widths if any(name in pair[:2] for pair in self.pairs)]
        self.heads = nn.ModuleDict({name: head() for name in used})
        made = {name: losses.projector(widths[name], own.dim) for name, own in self.heads.items()}
        self.projectors = nn.ModuleDict(made)
        self.parts = tuple(name for name in PARTS if hasattr(self, name))
        slow = self.parts if self.pairs else ()
        self.momentum = nn.ModuleDict({name: deepcopy(getattr(self, name)) for name in slow})
        self.momentum.requires_grad_(False)
        #: This rank's embeddings of the last batch, by stream.
        self.queries: dict[str, Tensor] = {}
        self._since_update = 0

    @property
    def main_stream(self) -> str:
        """The stream whose features stand for a clip: ``'fused'``, or ``'graph'`` where alone."""
        return self.streams[-1]

    @torch.no_grad()
    def copy_to_momentum(self) -> None:
        """Make the momentum encoders equal to the encoders."""
        for name, slow in self.momentum.items():
            slow.load_state_dict(getattr(self, name).state_dict())

    @torch.no_grad()
    def update_momentum(self, momentum: float) -> None:
        """Move the momentum encoders: ``slow ← momentum · slow + (1 − momentum) · fast``."""
        self._since_update = 0
        for name, part in self.momentum.items():
            slow, fast = list(part.parameters()), list(getattr(self, name).parameters())
            if slow:
                torch._foreach_lerp_(slow, fast, 1 - momentum)

    @torch.no_grad()
    def extract(self, inputs: Tensor, stream: str | None = None) -> Tensor | dict[str, Tensor]:
        """Features (N, D) float32 before projection, of the encoders in evaluation mode.

        Of clips (N, M, T, V, C), or (N, crops, M, T, V, C), whose crops are averaged; of the stream
        ``'fused'``, ``'graph'`` or ``'sequence'``, or of all in a dict.
        """
        if stream is not None and stream not in self.streams:
            raise ContrastError(f'stream must be one of {", ".join(self.streams)}, got {stream!r}')
        clips = inputs if inputs.dim() == 6 else inputs[:, None]
        with evaluating(self):
            features, _ = self._features(self._encoders(), clips.flatten(0, 1))
        features = {k: v.float().view(*clips.shape[:2], -1).mean(1) for k, v in features.items()}
        return features if stream is None else features[stream]

    def forward(self, views: Tensor, clips: Tensor | None = None) -> dict[str, Tensor]:
        """Losses by pair of streams (``loss_…``), and figures of the last pair (``contrast/…``).

        While the queue is empty there is nothing to tell apart: losses are 0, and no figures. Views
        (N, views, M, T, V, C) are query, key and, where asked for, an extreme one; with two more,
        the graph stream learns from these, the sequence stream from the first two. Clips are
        numbers (N,) that tell them apart, int64, −1 where it is not known.
        """
        wanted = 3 if self.terms.extreme else 2
        dual = views.dim() == 6 and views.shape[1] == wanted + 2  # the last two: the graph stream's
        more = 'sequence' in self.streams and self.masked is None
        if views.dim() != 6 or not (views.shape[1] == wanted or more and dual):
            raise ContrastError(
                f'{type(self).__name__} with extreme={self.terms.extreme} learns from {wanted} '
                f'views, (N, {wanted}, M, T, V, C)'
                + (', or two more, for the graph stream,' * more)
                + f' got {tuple(views.shape)}: give as many, in a config by data_preprocessor.views'
            )
        self._since_update += 1
        if self._since_update > PATIENCE:
            raise ContrastError(
                f'the momentum encoders have not moved for {PATIENCE} steps: call '
                "update_momentum, or add dict(type='MomentumHook') to a config's custom_hooks"
            )
        if clips is None:
            clips = torch.full((len(views),), -1, device=views.device)
        found = {}
        if self.masked is not None:
            found['loss_masked'] = self.terms.masked * self.masked(self.backbone, views[:, 0])
        if not self.pairs:
            return found
        own_view = views[:, -2] if dual else None
        queries, _ = self._embeddings(self._encoders(), views[:, 0], own_view)
        extremes = self._extremes(views[:, 2]) if self.terms.extreme else []
        keys = self._keys(views[:, [1, -1]] if dual else views[:, 1:2])
        own = {name: parts[ranks()[0]] for name, parts in keys.items()}

        for query, key, weight in self.pairs:
            name = query if query == key else f'{query}_to_{key}'
            head = self.heads[key]
            logits = head.logits(queries[query], own[key], clips)
            others = [head.logits(e[query], own[key], clips) for e in extremes if query in e]
            positives = self.mining([logits, *others]) if self.mining is not None else None
            found[f'loss_{name}'] = weight * losses.info_nce(logits, positives)
            if others:
                apart = [losses.distribution_loss(other, logits) for other in others]
                extreme = self.terms.extreme * weight
                found[f'loss_{name}_extreme'] = extreme * (sum(apart) / len(apart))
            if (query, key) == self.pairs[-1][:2] and logits.shape[1] > 1:
                found.update(figures(logits, head.temperature))
        numbers = torch.cat(gather(clips))
        for name, parts in keys.items():
            self.heads[name].queue.put(torch.cat(parts), numbers)
        self.queries = {name: value.detach() for name, value in queries.items()}
        return found

    def _encoders(self) -> dict[str, nn.Module]:
        return {name: getattr(self, name) for name in self.parts}

    def _features(
        self, parts: Mapping[str, nn.Module], clips: Tensor, graph: Tensor | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Features (N, D) by stream, and the map of the graph stream, maybe of another view."""
        maps = parts['backbone'](clips if graph is None else graph)
        features = dict(graph=self.pool(maps))
        if 'sequence' in self.streams:
            second = parts['sequence'](clips, maps)
            if second.shape[1:] != (self.widths['sequence'],):
                raise ContrastError(
                    f'the sequence stream gives features {tuple(second.shape)}, (N, channels · '
                    f'segments = {self.widths["sequence"]}) were expected: build it with the '
                    'channels and segments of the graph stream'
                )
            features['sequence'] = second
            features['fused'] = parts['fusion'](features['graph'], second)
        return features, maps

    def _embeddings(
        self, parts: Mapping[str, nn.Module], clips: Tensor, graph: Tensor | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Embeddings (N, D) by stream, and what else `_features` gives."""
        features, maps = self._features(parts, clips, graph)
        made = {n: losses.embed(p, features[n]) for n, p in parts['projectors'].items()}
        return made, maps

    def _extremes(self, clips: Tensor) -> list[dict[str, Tensor]]:
        """Embeddings of the extreme view, and of it with its distinctive features dropped."""
        whole, maps = self._embeddings(self._encoders(), clips)
        if not self.terms.drop or 'graph' not in self.projectors:
            return [whole]
        dropped = self.pool(losses.drop_energetic(maps, self.terms.drop))
        return [whole, dict(graph=losses.embed(self.projectors['graph'], dropped))]

    @torch.no_grad()
    def _keys(self, clips: Tensor) -> dict[str, list[Tensor]]:
        """Keys by stream, a tensor (n, D) for each rank, of this rank's (n, 1 or 2, M, T, V, C)."""
        back = gather
        if self.shuffle_bn and ranks()[1] > 1:
            clips, places = shuffled(clips)
            back = partial(unshuffled, places=places)
        # Of two views the first is the sequence stream's, the second that of the graph stream.
        keys, _ = self._embeddings(self.momentum, *clips.unbind(1))
        return {name: back(key) for name, key in keys.items()}


@torch.no_grad()
def figures(logits: Tensor, temperature: float) -> dict[str, Tensor]:
    """Share of queries whose own key is the most similar, and mean similarities, for the log."""
    possible = logits[:, 1:] > losses.NEVER
    negative = (logits[:, 1:] * possible).sum() / possible.sum().clamp_min(1)
    return {
        'contrast/acc': (logits.argmax(1) == 0).float().mean(),
        'contrast/positive': logits[:, 0].mean() * temperature,
        'contrast/negative': negative * temperature,
    }


def ranks() -> tuple[int, int]:
    """This process's rank and the number of ranks; (0, 1) where nothing is distributed."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


@torch.no_grad()
def gather(values: Tensor) -> list[Tensor]:
    """The tensors (n, …) of all ranks, in the order of ranks; n may differ between ranks."""
    _, number_of_ranks = ranks()
    if number_of_ranks == 1:
        return [values]
    number = torch.tensor([len(values)], device=values.device)
    numbers = [torch.zeros_like(number) for _ in range(number_of_ranks)]
    dist.all_gather(numbers, number)
    largest = int(max(numbers))
    padded = values.new_zeros(largest, *values.shape[1:])
    padded[: len(values)] = values
    parts = [torch.empty_like(padded) for _ in range(number_of_ranks)]
    dist.all_gather(parts, padded)
    return [part[: int(n)] for part, n in zip(parts, numbers, strict=True)]


@torch.no_grad()
def shuffled(values: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Deal the values of all ranks out again at random, as many to each rank as it had.

    Batch normalisation of keys then sees other clips than that of queries, which could otherwise
    tell a query's key by the statistics they share (shuffled batch norm of He et al., MoCo).
    Returns the values (n, …) that this rank was dealt, and where each rank's own (n,) were dealt.
    """
    parts = gather(values)
    numbers = [len(part) for part in parts]
    order = torch.randperm(sum(numbers), device=values.device)
    if len(parts) > 1:
        dist.broadcast(order, 0)
    dealt = torch.cat(parts)[order.split(numbers)[ranks()[0]]]
    return dealt, list(order.argsort().split(numbers))


@torch.no_grad()
def unshuffled(values: Tensor, places: list[Tensor]) -> list[Tensor]:
    """What became of each rank's own values, from what became (n, …) of those dealt to it."""
    every = torch.cat(gather(values))
    return [every[at] for at in places]

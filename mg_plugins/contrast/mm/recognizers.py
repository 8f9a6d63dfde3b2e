"""What follows a pre-training: recognizers over its features, its weights, few labels."""

from mmaction.models.recognizers import BaseRecognizer
from mmaction.registry import MODELS
from torch import Tensor, nn

from mg_plugins.contrast.queue import ContrastError
from mg_plugins.contrast.streams import SEGMENTS, StreamFusion, pool_graph

STREAMS = ('fused', 'graph', 'sequence')
PRETRAINING = ('momentum.', 'projectors.', 'heads.', 'masked.')


@MODELS.register_module()
class RecognizerDualStream(BaseRecognizer):
    """Classifies the features of :class:`DualStreamContrast`, frozen (linear probe) or fine-tuned.

    Names of all parts are those of the pre-training, so ``load_from`` its checkpoint. Any head of
    ``RecognizerGCN`` fits: it is given the features as (N, 1, D, 1, 1).

    Args:
        backbone: As in the pre-training.
        in_channels: As in the pre-training.
        cls_head: Config of the head; leave its ``in_channels`` out, it is the stream's width.
        sequence: As in the pre-training; ``None`` without a second stream.
        segments: As in the pre-training.
        fusion: As in the pre-training.
        stream: Which features: ``'fused'``, ``'graph'`` or ``'sequence'``; by default what there
            is, fused before graph.
        frozen: Train the head alone, over features of evaluation mode.
        data_preprocessor: As for every recognizer.

    Raises:
        ContrastError: If there is no such stream.
    """

    def __init__(
        self,
        backbone: dict,
        in_channels: int,
        cls_head: dict,
        sequence: dict | None = None,
        segments: int = SEGMENTS,
        fusion: str = 'concat',
        stream: str | None = None,
        frozen: bool = False,
        data_preprocessor: dict | None = None,
    ) -> None:
        stream = stream or ('graph' if sequence is None else 'fused')
        channels = in_channels * segments
        width = 2 * channels if stream == 'fused' else channels
        cls_head = dict(dict(in_channels=width), **cls_head)
        super().__init__(backbone, cls_head, data_preprocessor=data_preprocessor)
        if stream not in STREAMS or (sequence is None and stream != 'graph'):
            raise ContrastError(
                f'stream is {stream!r}, expected one of {", ".join(STREAMS)}; those other than '
                'graph need the config of sequence'
            )
        self.stream, self.frozen, self.segments = stream, frozen, segments
        if stream != 'graph':
            self.sequence = MODELS.build(dict(sequence, channels=in_channels, segments=segments))
        if stream == 'fused':
            self.fusion = StreamFusion(channels, fusion)
        if frozen:
            for part in self._encoders():
                part.requires_grad_(False)
        self.register_load_state_dict_pre_hook(drop_pretraining)

    def _encoders(self) -> list[nn.Module]:
        names = ('backbone', 'sequence', 'fusion')
        return [getattr(self, name) for name in names if hasattr(self, name)]

    def train(self, mode: bool = True) -> 'RecognizerDualStream':
        """Training mode, but for what is frozen."""
        super().train(mode)
        if self.frozen:
            for part in self._encoders():
                part.eval()
        return self

    def extract_feat(self, inputs: Tensor, stage: str = 'backbone', **kwargs) -> tuple:
        """Features (N · crops, 1, D, 1, 1), or scores for stage ``'head'``, of clips.

        Args:
            inputs: Clips (N, crops, M, T, V, C).
            stage: ``'backbone'`` or ``'head'``.
        """
        clips = inputs.flatten(0, 1)
        maps = self.backbone(clips)
        features = pool_graph(maps, self.segments)
        if self.stream != 'graph':
            second = self.sequence(clips, maps)
            features = second if self.stream == 'sequence' else self.fusion(features, second)
        features = features[:, None, :, None, None]
        return (self.cls_head(features) if stage == 'head' else features), {}


def drop_pretraining(module: nn.Module, state: dict[str, Tensor], *args) -> None:
    """Leave out of a checkpoint what only a pre-training needs, so that no log lists it."""
    for name in [
        name for name in state if name.startswith(('momentum.', 'projectors.', 'heads.', 'masked.'))
    ]:
        del state[name]

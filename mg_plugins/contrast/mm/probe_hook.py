"""``ProbeHook``: watch how good the features are while they are learned."""

from __future__ import annotations

from mmaction.registry import HOOKS
from mmengine.dist import master_only
from mmengine.hooks import Hook

from mg_plugins.contrast import probes
from mg_plugins.contrast.extract import extract_features
from mg_plugins.contrast.mm.loaders import loader_of
from mg_plugins.contrast.queue import ContrastError


@HOOKS.register_module()
class ProbeHook(Hook):
    """Probes the features of the training clips every few epochs, and at the end.

    Writes ``probe/knn_STREAM`` to the log and the visualizer's backends: the share of training
    clips whose class their nearest neighbours among the *other subjects'* training clips name, or
    among all other training clips where no subjects are known. Test clips are never looked at, so
    the figure may choose a checkpoint or a setting. On synthetic data the name begins with
    ``synthetic/``. Runs on the first rank, on the bare model.

    Args:
        interval: Epochs between two looks.
        neighbours: Of the kNN probe.

    Raises:
        ContrastError: If interval is below 1.
    """

    def __init__(self, interval: int = 10, neighbours: int = 20) -> None:
        if interval < 1:
            raise ContrastError(f'interval must be at least 1 epoch, got {interval}')
        self.interval, self.neighbours = interval, neighbours
        self._loader = None

    @master_only
    def after_train_epoch(self, runner) -> None:
        """Look at the features, where it is time."""
        if not (self.every_n_epochs(runner, self.interval) or self.is_last_train_epoch(runner)):
            return
        if self._loader is None:
            self._loader = loader_of(runner.cfg, 'train')
        model = getattr(runner.model, 'module', runner.model)
        source = self._loader.dataset.metainfo.get('source')
        prefix = 'synthetic/probe' if source == 'synthetic' else 'probe'
        found = {}
        for stream, features in extract_features(model, self._loader).items():
            found[f'{prefix}/knn_{stream}'] = probes.left_out_knn(features, self.neighbours)
            if probes.is_collapsed(features.vectors):
                runner.logger.warning(
                    f'The {stream} features have collapsed: all training clips have the same.'
                )
        runner.visualizer.add_scalars(found, step=runner.iter)
        # The clips are the same for every stream.
        others = 'subjects' if features.of_several else 'clips'
        runner.logger.info(
            f'Training clips by their neighbours among other {others}, epoch {runner.epoch + 1}: '
            + '  '.join(f'{name}: {share:.4f}' for name, share in found.items())
        )

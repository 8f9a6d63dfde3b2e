"""Which training subjects the augmentation study leaves out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmengine.config import Config
from mmengine.registry import init_default_scope

from mg_plugins.experiments.probing import loader_of
from mg_plugins.openmmlab.settings import LaunchError


def training_subjects(cfg: Config) -> tuple[dict[str, int], str]:
    """Number of training clips of each subject, and the clips' source ('synthetic' for those).

    Raises:
        LaunchError: If the clips do not say whose they are.
    """
    init_default_scope('mmaction')
    dataset = loader_of(cfg, 'train').dataset
    subjects = [str(dataset.get_data_info(i).get('subject', '')) for i in range(len(dataset))]
    if '' in subjects:
        raise LaunchError('the study leaves subjects out, and there are clips without a subject')
    order = sorted(set(subjects), key=lambda s: (not s.isdigit(), int(s) if s.isdigit() else 0, s))
    counts = {subject: subjects.count(subject) for subject in order}
    return counts, str(dataset.metainfo.get('source', ''))


def default_folds(subjects: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Two folds without a subject in common, a third of the subjects each, dealt in turn.

    Of 1 3 5 7 9 these are (1, 5) and (3, 7): two thirds stay to learn from.
    """
    size = max(1, round(len(subjects) / 3))
    return tuple(tuple(subjects[first : 2 * size : 2]) for first in (0, 1))


def check_folds(cfg: Config, subjects: Mapping[str, int], folds: Sequence[tuple[str, ...]]) -> None:
    """Refuse folds that cannot be.

    Raises:
        LaunchError: Unknown subjects, subjects in two folds, or too few clips left to learn from.
    """
    named = [subject for fold in folds for subject in fold]
    unknown = sorted(set(named) - set(subjects))
    if unknown:
        raise LaunchError(
            f'no training clips of subjects {", ".join(unknown)}; there are {", ".join(subjects)}'
        )
    if len(set(named)) < len(named):
        raise LaunchError('a subject can be left out in one fold only')
    queue = cfg.model.get('head', {}).get('queue_size', 0)
    for fold in folds:
        rest = sum(subjects.values()) - sum(subjects[s] for s in fold)
        if rest < max(queue, 1):
            raise LaunchError(
                f'without subjects {", ".join(fold)} there are {rest} clips to learn from, and the '
                f'queues hold {queue}: leave fewer subjects out, or set a smaller queue, as by '
                '--cfg-options model.head.queue_size=64'
            )

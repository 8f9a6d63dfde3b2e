"""The arms of a comparison of pre-trainings, as a JSON file lists them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from mg_plugins.contrast.queue import ContrastError
from mg_plugins.experiments.compare import Variant

#: What an arm's encoders start from.
STARTS = ('pre-training', 'synthetic', 'nothing')


@dataclass(frozen=True)
class Arm:
    """One way of pre-training.

    Attributes:
        name: How tables call it.
        config: Config of the pre-training.
        options: ``KEY=VALUE`` settings of it.
        start: One of `STARTS`: the config's own data, the synthetic set in the same layout, or
            first weights as they come, which makes fine-tuning a training from scratch.
    """

    name: str
    config: str
    options: tuple[str, ...] = ()
    start: str = 'pre-training'

    @property
    def folder(self) -> str:
        """The name as a folder."""
        return Variant(self.name, self.config).folder

    def settings(self, left_out: Sequence[str] = ()) -> list[str]:
        """``KEY=VALUE`` settings, with those that test on training subjects left out."""
        if not left_out:
            return list(self.options)
        out = ','.join(left_out)
        return [
            *self.options,
            f'train_dataloader.dataset.exclude_subjects=[{out},]',
            f'test_dataloader.dataset.subjects=[{out},]',
            f'test_dataloader.dataset.split={self._split()}',
        ]

    def _split(self) -> str:
        return Config.fromfile(self.config).train_dataloader.dataset.split


def read_arms(path: str | os.PathLike) -> list[Arm]:
    """Read a JSON list of arms: objects with ``name``, ``config``, ``options`` and ``start``.

    Configs are relative to the file's own folder, unless they stand relative to where one is.

    Raises:
        ContrastError: The file is no such list; the message names the entry.
    """
    try:
        entries = json.loads(Path(path).read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise ContrastError(f'{path} is no JSON list of arms: {error}') from error
    arms = []
    for number, entry in enumerate(entries if isinstance(entries, list) else [entries]):
        known = {'name', 'config', 'options', 'start'}
        if not isinstance(entry, dict) or not {'name', 'config'} <= set(entry) <= known:
            raise ContrastError(
                f'{path}, entry {number}: an arm needs name and config, and may have options and '
                f'start; got {entry}'
            )
        config = Path(path).parent / entry['config']
        config = str(config if config.is_file() else entry['config'])
        arm = Arm(
            entry['name'],
            config,
            tuple(entry.get('options', ())),
            entry.get('start', 'pre-training'),
        )
        if not Path(config).is_file():
            raise ContrastError(f'{path}, entry {number}: there is no config {config}')
        if arm.start not in STARTS:
            raise ContrastError(
                f'{path}, entry {number}: start must be one of {", ".join(STARTS)}, '
                f'got {arm.start!r}'
            )
        arms.append(arm)
    if len({arm.folder for arm in arms}) < len(arms) or not arms:
        raise ContrastError(f'{path}: arms need names of their own, and there must be one')
    return arms

"""Random generators that do not depend on which worker process handles a clip."""

from __future__ import annotations

import numpy as np
import torch

# Clips of larger sets share counters; their draws then depend on the order of the workers too.
SLOTS = 2**17


def rank() -> int:
    """Number of this process among those that train together, 0 where it is alone."""
    ranks = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_rank() if ranks else 0


class SampleRandomness:
    """One generator for each visit of each clip: its seed is (seed, rank, clip, visit).

    The visit counts how often the clip has come by, in memory that dataloader workers share. So
    with the same seed a clip gets the same augmentation on its first visit, its second and so on,
    whatever the number of workers, and another one in every epoch and in every repetition of a
    RepeatDataset or a class-balanced sampler. Counting starts anew with the process: a resumed run
    goes through the same sequence again.

    Args:
        seed: Seed; None draws one from numpy's global state, which MMEngine's Runner seeds.
    """

    def __init__(self, seed: int | None = None) -> None:
        self.seed = int(np.random.randint(2**31)) if seed is None else int(seed)
        self.rank = rank()
        self.visits = torch.zeros(SLOTS, dtype=torch.int32).share_memory_()

    def __setstate__(self, state: dict) -> None:
        # A copy counts for itself, but must still share its count with its own workers.
        self.__dict__.update(state)
        self.visits.share_memory_()

    def of(self, results: dict) -> np.random.Generator:
        """The generator of a sample; the first transform to ask makes it, later ones go on."""
        rng = results.get('mg_rng')
        if rng is None:
            clip = int(results.get('sample_idx', 0))
            visit = int(self.visits[clip % SLOTS])
            self.visits[clip % SLOTS] += 1
            rng = np.random.default_rng((self.seed, self.rank, clip, visit))
            results['mg_rng'] = rng
        return rng

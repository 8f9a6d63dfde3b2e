"""The queue of keys, the same on every rank, and what brings keys of all ranks together."""

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mg_plugins.errors import UserError


class ContrastError(UserError):
    """A setting of contrastive learning that cannot work; the message says what would."""


class MomentumQueue(nn.Module):
    """The last ``size`` keys of width ``dim``, with the clip that each one shows.

    All of it is in the checkpoint. A batch that does not divide the size wraps around, and one that
    is larger leaves its last keys. A size that is no positive integer is a ContrastError.
    """

    def __init__(self, dim: int, size: int) -> None:
        super().__init__()
        if not isinstance(size, int) or size < 1:
            raise ContrastError(f'queue_size must be a positive integer, got {size!r}')
        self.size = size
        self.register_buffer('features', torch.zeros(size, dim))
        self.register_buffer('clips', torch.full((size,), -1, dtype=torch.int64))
        self.register_buffer('pointer', torch.zeros((), dtype=torch.int64))
        self.register_buffer('filled', torch.zeros((), dtype=torch.int64))

    def held(self) -> tuple[Tensor, Tensor]:
        """Keys (F, D) that were put in so far, F ≤ K, and their clips' numbers (F,)."""
        filled = int(self.filled)
        # Copies: autograd still needs them after the next keys have been written.
        return self.features[:filled].clone(), self.clips[:filled].clone()

    @torch.no_grad()
    def put(self, keys: Tensor, clips: Tensor) -> None:
        """Put keys (N, D) of clips (N,) in the place of the oldest ones."""
        keys, clips = keys[-self.size :], clips[-self.size :]
        at = (self.pointer + torch.arange(len(keys), device=keys.device)) % self.size
        self.features[at] = keys.to(self.features.dtype)
        self.clips[at] = clips
        self.pointer.copy_((self.pointer + len(keys)) % self.size)
        self.filled.copy_((self.filled + len(keys)).clamp(max=self.size))

    def extra_repr(self) -> str:
        return f'size={self.size}, dim={self.features.shape[1]}'


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

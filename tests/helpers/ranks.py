"""Run a function on the ranks of one gloo group, in real processes, within a time limit."""

import os
import socket
import time
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta

import torch
import torch.distributed as dist

SECONDS = 180


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def run_on_ranks(function: Callable[..., None], *arguments, ranks: int = 2) -> None:
    """Call ``function(rank, *arguments)`` on every rank of a group that is set up around it.

    The ranks meet over TCP on the loopback interface. Not over a file: its store deletes the file
    when the first rank leaves, and a rank that still wants it waits for it to come back.

    Raises:
        TimeoutError: They did not end within `SECONDS`; all of them are ended first.
    """
    context = torch.multiprocessing.spawn(
        enter, (free_port(), ranks, function, arguments), nprocs=ranks, join=False
    )
    until = time.monotonic() + SECONDS
    try:
        while not context.join(timeout=1):
            if time.monotonic() > until:
                raise TimeoutError(f'{ranks} ranks did not end within {SECONDS} s')
    finally:
        for process in context.processes:
            process.kill()


def enter(rank: int, port: int, ranks: int, function: Callable[..., None], arguments) -> None:
    os.environ['GLOO_SOCKET_IFNAME'] = 'lo'
    torch.set_num_threads(1)
    dist.init_process_group(
        'gloo',
        init_method=f'tcp://127.0.0.1:{port}',
        rank=rank,
        world_size=ranks,
        timeout=timedelta(seconds=SECONDS / 2),
    )
    function(rank, *arguments)
    dist.barrier()
    dist.destroy_process_group()

"""A process that keeps its memory takes few page faults for what it had before."""

import platform
import subprocess
import sys

import pytest

STEPS = """
import resource, sys, torch
from torch import nn
if sys.argv[1] == 'kept':
    from mg_plugins.openmmlab.launch import keep_memory
    keep_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
layers = [[nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()] for _ in range(4)]
network = nn.Sequential(*sum(layers, []))
x = torch.randn(16, 32, 48, 20)
for step in range(8):
    if step == 3:
        before = faults()
    network(x).sum().backward()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='it is a setting of glibc')
def test_what_was_freed_is_not_asked_for_again():
    kept, plain = (
        int(
            subprocess.run(
                [sys.executable, '-c', STEPS, how], capture_output=True, text=True, check=True
            ).stdout
        )
        for how in ('kept', 'plain')
    )
    assert kept < plain / 3, (kept, plain)

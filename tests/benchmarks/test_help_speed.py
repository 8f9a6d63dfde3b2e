"""How soon ``--help`` answers: every tool, beside an interpreter that does nothing.

``pytest tests/benchmarks/test_help_speed.py --benchmark-only`` prints seconds a tool.
"""

import subprocess
import sys

import pytest

from paths import ROOT

TOOLS = sorted(p for p in (ROOT / 'tools').glob('*.py') if p.stem != 'options')


@pytest.mark.parametrize('tool', [None, *TOOLS], ids=lambda p: p.stem if p else 'nothing')
def test_help(benchmark, tool):
    command = [sys.executable, *([str(tool), '--help'] if tool else ['-c', 'print("usage")'])]

    def answer():
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert 'usage' in benchmark.pedantic(answer, rounds=3)

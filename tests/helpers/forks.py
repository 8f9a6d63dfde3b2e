"""Commands run one after the other in forks of one process that has imported their libraries."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence

CODE = """
import importlib, json, os, runpy, sys
for name in sys.argv[2].split(','):
    importlib.import_module(name)
for number, (output, *argv) in enumerate(json.loads(sys.argv[1])):
    pid = os.fork()
    if pid == 0:
        log = os.open(output, os.O_WRONLY | os.O_CREAT)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.argv = argv
        sys.path[0] = os.path.dirname(argv[0])
        try:
            runpy.run_path(argv[0], run_name='__main__')
        except SystemExit as end:
            if end.code:
                raise
        sys.stdout.flush()
        os._exit(0)
    if os.waitpid(pid, 0)[1] != 0:
        sys.exit(f'{argv}\\n{open(output).read()[-3000:]}')
"""


def run_each_in_a_fork(
    modules: str, commands: Sequence[Sequence], cwd: str | os.PathLike
) -> subprocess.CompletedProcess:
    """Run Python scripts, each with a fresh state but for the modules named.

    Args:
        modules: What the process imports first, with commas.
        commands: For each run a file for its output, the script and its arguments.
        cwd: Where.
    """
    return subprocess.run(
        [sys.executable, '-c', CODE, json.dumps(commands, default=str), modules],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={k: v for k, v in os.environ.items() if k != 'MG_FUSE_OPTIONS'},
    )

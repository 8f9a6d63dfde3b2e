"""A real language model behind a real server: `MG_REAL_LLM=1 pytest -m real_llm`.

The model is small and a base model: what it says about gestures means nothing.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
import real_server

from mg_plugins.emotion import save_scenarios, synthetic_scenarios
from mg_plugins.emotion.arms import judged

from paths import HELPERS, ROOT

pytestmark = [
    pytest.mark.real_llm,
    pytest.mark.timeout(3000),
    pytest.mark.skipif(not os.environ.get('MG_REAL_LLM'), reason='MG_REAL_LLM=1 asks for it'),
    pytest.mark.skipif(bool(real_server.missing()), reason='extra [realllm] is not installed'),
]


@pytest.fixture(scope='module')
def url(tmp_path_factory):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    model = tmp_path_factory.mktemp('model') / 'model.gguf'
    server = subprocess.Popen(
        [sys.executable, str(HELPERS / 'real_server.py'), str(port), str(model)],
        stdin=subprocess.PIPE,
        env=os.environ | {'OMP_WAIT_POLICY': 'PASSIVE', 'OMP_NUM_THREADS': '2'},
    )
    for _ in range(300):
        try:
            urllib.request.urlopen(f'http://127.0.0.1:{port}/health', timeout=5)
            break
        except OSError:
            time.sleep(1)
    yield f'http://127.0.0.1:{port}/v1'
    server.kill()
    server.wait()


def test_forty_questions_under_defaults(url, tmp_path):
    scenarios = tmp_path / 's.jsonl'
    cases = judged(synthetic_scenarios(True, subjects=12, sessions=1, clips=80))
    save_scenarios(scenarios, cases[:4])
    command = [sys.executable, str(ROOT / 'tools/eval_emotion.py'), '--scenarios', str(scenarios)]
    command += ['--judge', 'openai', '--model', 'gemma-3-270m', '--base-url', url]
    command += ['--out', str(tmp_path / 'out'), '--no-baselines']
    started = time.monotonic()
    first = subprocess.Popen(command, start_new_session=True)
    while not cached(tmp_path) and first.poll() is None:
        time.sleep(1)
    time.sleep(5)
    first.send_signal(signal.SIGKILL)
    first.wait()
    kept = cached(tmp_path)
    subprocess.run(command, check=True)
    seconds = time.monotonic() - started
    (metrics,) = json.loads((tmp_path / 'out/metrics.json').read_text())['evaluations']
    answered = sum(arm['answered'] for arm in metrics['arms'].values())
    print(f'{answered} of 40 answered, {kept} kept over kill -9, {metrics["total_tokens"]} tokens '
          f'in {metrics["total_replies"]} replies, {seconds:.0f} s')  # fmt: skip
    print('\n'.join(metrics['findings']))
    assert sum(arm['asked'] for arm in metrics['arms'].values()) == 40
    assert answered >= 38 and metrics['cached'] >= 1
    subprocess.run(command, check=True)
    (again,) = json.loads((tmp_path / 'out/metrics.json').read_text())['evaluations']
    assert again['calls'] == 0 and again['arms'] == metrics['arms']
    assert again['total_tokens'] == metrics['total_tokens'] > 0


def cached(folder):
    """Replies in the cache so far: lines but the first."""
    file = folder / 'out/cache.jsonl'
    return max(0, file.read_bytes().count(b'\n') - 1) if file.exists() else 0

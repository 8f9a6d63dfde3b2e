"""How long reading iMiGUE files takes, beside a pandas row loop over the same files.

    python -m pytest tests/data/test_benchmark_readers.py --benchmark-only

The row loop is the usual way to read these files (the code that comes with the release does it
too): `iterrows`, and a list of floats for each joint. Both sides read the same files end to end,
cut the same clips and write the same kind of annotation file. The benchmarks assert nothing about
time; they do check that both sides find the same clips.
"""

import os

import numpy as np
import pytest

from mg_plugins.data.annotations import load_annotations, save_annotations
from mg_plugins.data.prepare import prepare

import make_raw as raw

UPPER_BODY = [*range(8), *range(15, 19), *range(25, 35)]

FILES = int(os.environ.get('MG_BENCHMARK_FILES', 2))
FRAMES = int(os.environ.get('MG_BENCHMARK_FRAMES', 600))
# Clips of 60 frames lie end to end: every row is used, which favours the row loop (the reader
# parses only rows inside of clips; in the release, they are the smaller part).
CLIP = 60


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp('benchmark')
    labels = [f'{1 + i % 31},{i},{i + CLIP - 1}' for i in range(0, FRAMES, CLIP)]
    for number in range(1, FILES + 1):
        raw.write_imigue_video(root, number, labels, FRAMES)
    return root


def row_loop(source, out):
    """The same job with pandas, row by row."""
    import pandas as pd

    annotations = []
    for folder in sorted((source / 'imigue_skeleton_train').iterdir()):
        frames = []
        for _, row in pd.read_csv(folder / f'{folder.name}_light_hand.csv', header=None).iterrows():
            joints = []
            for joint in range(35):
                x, y, score = (float(row[1 + 3 * joint + k]) for k in range(3))
                joints.append([x, y, score])
            frames.append(joints)
        for line in (folder / f'{folder.name}_label.csv').read_text().splitlines():
            gesture, start, end = map(int, line.split(','))
            clip = np.array(frames[start : end + 1], np.float32)[:, UPPER_BODY]
            annotations.append(
                dict(
                    frame_dir=f'{folder.name}_{start:05d}_{end:05d}_{gesture - 1:02d}',
                    label=gesture - 1,
                    img_shape=(720, 1280),
                    original_shape=(720, 1280),
                    total_frames=len(clip),
                    keypoint=clip[None, ..., :2],
                    keypoint_score=clip[None, ..., 2],
                )
            )
    save_annotations(out, {'train': [a['frame_dir'] for a in annotations]}, annotations)


def reader(source, out, workers):
    out.unlink(missing_ok=True)
    prepare('imigue', source, out, workers=workers)


@pytest.fixture(scope='module')
def expected(source, tmp_path_factory):
    """What the row loop finds; made once, and compared with every benchmarked run."""
    out = tmp_path_factory.mktemp('expected') / 'set.pkl'
    row_loop(source, out)
    return load_annotations(out)


def check(out, expected):
    content = load_annotations(out)
    assert content['split'] == expected['split']
    assert len(content['annotations']) == FILES * (FRAMES // CLIP)
    for one, other in zip(content['annotations'], expected['annotations'], strict=True):
        assert one['label'] == other['label']
        np.testing.assert_array_equal(one['keypoint'], other['keypoint'])
        np.testing.assert_array_equal(one['keypoint_score'], other['keypoint_score'])


@pytest.mark.benchmark(group='read iMiGUE files')
@pytest.mark.parametrize('workers', [1, None], ids=['one-worker', 'all-workers'])
def test_reader(benchmark, source, expected, tmp_path, workers):
    out = tmp_path / 'set.pkl'
    benchmark.extra_info.update(files=FILES, frames=FRAMES)
    benchmark.pedantic(reader, (source, out, workers), rounds=5, warmup_rounds=1)
    check(out, expected)


@pytest.mark.benchmark(group='read iMiGUE files')
def test_pandas_row_loop(benchmark, source, expected, tmp_path):
    out = tmp_path / 'set.pkl'
    benchmark.extra_info.update(files=FILES, frames=FRAMES)
    benchmark.pedantic(row_loop, (source, out), rounds=3)
    check(out, expected)

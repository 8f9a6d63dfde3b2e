"""From recordings to gestures: segments, pictures, ELAN and Praat files, a report, scenarios.

python tools/recognize.py RECORDING [RECORDING …] --config CONFIG --checkpoint CKPT --out results/
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from pathlib import Path
from typing import Any

import options

VIDEOS = ('.mp4', '.mov', '.avi', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg', '.wmv', '.flv', '.3gp')
SOUNDS = ('.wav', '.mp3', '.m4a', '.ogg', '.flac', '.aac')
# Drawing a longer recording takes longer than everything else.
LONGEST_VIDEO = 1800.0


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='Spot micro-gestures in videos or skeleton recordings. Writes for each, into '
        'OUT/NAME:\nsegments.csv, segments.json, segments.eaf (ELAN), segments.TextGrid (Praat), '
        'timeline.png,\nannotated.mp4, report.html and scenarios.jsonl.',
        epilog='examples:\n'
        '  python tools/recognize.py --demo talk.mp4\n'
        '  python tools/recognize.py talks/*.mp4 --config configs/spot_imigue.py \\\n'
        '      --checkpoint work_dirs/spot_imigue/iter_300.pth --no-pixels --judge lexicon\n'
        '  python tools/recognize.py openpose_folder/ --size 1280x720 --demo',
    )
    add = parser.add_argument
    add('recordings', nargs='*', metavar='RECORDING', help='videos, or skeleton files or folders')
    add('--camera', type=int, metavar='N', help='record from webcam N until Ctrl-C')
    add('--config', help='config of the model')
    add('--checkpoint', help='its weights, as tools/train.py writes them')
    add('--demo', action='store_true', help='a small model of synthetic data, trained once')
    add('--out', type=Path, default=Path('results'), help='folder (default: results)')
    add('--threshold', type=float, default=0.6, help='for models without a "nothing" class')
    add('--no-pixels', action='store_true', help='draw on black, so that no face is written')
    add('--long-video', action='store_true', help='annotated.mp4 beyond half an hour too')
    add('--transcript', type=Path, help='.srt, .vtt or .json of what was said (one recording)')
    add('--template', default='post_match', help='of the scenarios (default: post_match)')
    add('--judge', help='ask this judge about the scenarios at once, such as lexicon')
    skeletons = parser.add_argument_group('skeleton recordings')
    skeletons.add_argument('--format', default='auto', help='of tools/prepare_data.py')
    skeletons.add_argument('--size', metavar='WxH', help='picture size, where the files lack it')
    skeletons.add_argument('--fps', type=float, help='frames a second, where the files lack it')
    skeletons.add_argument('--layout', help='joint layout, where the files lack it')
    skeletons.add_argument('--smooth', action='store_true', help='fill short gaps and smooth')
    return parser


def main() -> int:
    """Run the command; the exit code is 0, or 1 where a recording could not be used."""
    args = build_parser().parse_args()
    from mg_plugins.errors import UserError

    check(args)
    config, checkpoint = demo() if args.demo else (args.config, args.checkpoint)
    from mg_plugins.spotting.mm import load_spotter

    spotter = load_spotter(config, checkpoint, args.threshold)
    if spotter.source:
        print('SYNTHETIC: this model has seen synthetic data only; its gestures mean nothing.')
    if spotter.warning:
        print(f'warning: {spotter.warning}')
    sources = [Path(name) for name in args.recordings]
    failed, sessions = 0, []
    for source in sources if args.camera is None else [None]:
        try:
            for name, track in read(source, args):
                sessions.append(recognize(name, track, source, spotter, args))
        except UserError as error:
            failed += 1
            print(f'recognize.py: {error}', file=sys.stderr)
    if len(sessions) > 1:
        save_scenarios(args.out / 'scenarios.jsonl', sessions, spotter, args)
    if args.judge and sessions:
        path = args.out / 'scenarios.jsonl'
        alone = len(sessions) == 1
        judge(args.out / sessions[0].id / path.name if alone else path, args, alone)
    return 1 if failed else 0


def check(args: argparse.Namespace) -> None:
    """Refuse what cannot work before anything slow begins.

    Raises:
        UserError: Says what to give instead.
    """
    from mg_plugins.emotion.template import load_template
    from mg_plugins.emotion.transcripts import read_transcript
    from mg_plugins.errors import UserError

    if not args.recordings and args.camera is None:
        raise UserError('no RECORDING was given; --help shows examples')
    if args.recordings and args.camera is not None:
        raise UserError('give recordings or --camera, not both')
    if args.demo and (args.config or args.checkpoint):
        raise UserError('--demo brings its own model: leave out --config and --checkpoint')
    if not args.demo and not args.config:
        raise UserError('give --config and --checkpoint, or --demo for a small synthetic model')
    if not args.demo and not args.checkpoint:
        raise UserError(
            f'--checkpoint is missing; `python tools/train.py {args.config}` trains a model'
        )
    if args.fps is not None and not 0 < args.fps < 1000:
        raise UserError(f'--fps {args.fps} is no number of frames a second')
    load_template(args.template)
    if args.transcript is not None:
        if len(args.recordings) > 1:
            raise UserError('--transcript belongs to one recording; give one')
        read_transcript(args.transcript)


def demo() -> tuple[str, str]:
    """Config and checkpoint of the demo model; the first call trains it, in a minute or two."""
    import os
    import subprocess

    root = Path(__file__).resolve().parents[1]
    from mg_plugins.data.synthetic import CACHE_VARIABLE, ensure_synthetic

    config = root / 'configs' / 'spot_demo.py'
    data = ensure_synthetic(noise=0.0, clips=600)
    default = os.environ.get(CACHE_VARIABLE) or Path.home() / '.cache' / 'mg_plugins'
    text = config.read_bytes() + (config.parent / 'spot_imigue.py').read_bytes()
    folder = Path(default) / f'spot_demo_{hashlib.sha256(text).hexdigest()[:12]}'
    checkpoint = folder / 'iter_200.pth'
    if not checkpoint.is_file():
        print('training the demo model on synthetic data, once …', flush=True)
        # train.py locks its work directory: a second demo at the same time gets its sentence.
        command = [sys.executable, str(root / 'tools' / 'train.py'), str(config), '--seed', '0']
        command += ['--work-dir', str(folder), '--no-validate', '--no-test']
        command += ['--cfg-options', f'train_dataloader.dataset.ann_file={data}']
        done = subprocess.run(command, capture_output=True, text=True)
        if not checkpoint.is_file():
            from mg_plugins.errors import UserError

            raise UserError(f'the demo model could not be trained: {done.stderr.strip()[-400:]}')
    return str(config), str(checkpoint)


def read(source: Path | None, args: argparse.Namespace) -> list[tuple[str, Any]]:
    """Names and tracks of what one argument holds; a folder of skeletons may hold several."""
    from mg_plugins.errors import UserError

    if source is None:
        return [('camera', camera_track(args.camera))]
    if not source.exists():
        raise UserError(f'{source} does not exist; expected a video or a skeleton recording')
    if source.suffix.lower() in (*VIDEOS, *SOUNDS):
        return [(safe_name(source.stem), video_track(source, args.out / 'cache'))]
    return skeleton_tracks(source, args)


def video_track(source: Path, cache: Path) -> Any:
    """Smoothed keypoints of a video, from the cache where it was seen before."""
    from mg_plugins.pose import (
        HolisticEstimator,
        estimate_video,
        frames_of,
        load_track,
        probe_video,
    )

    probe_video(source)
    state = source.stat()
    key = f'{source.resolve()}|{state.st_size}|{state.st_mtime_ns}|{HolisticEstimator.name}'
    path = cache / f'{safe_name(source.stem)}_{hashlib.sha256(key.encode()).hexdigest()[:12]}.npz'
    if path.is_file():
        print(f'{source.name}: keypoints from {path}')
        track = load_track(path)
    else:
        with HolisticEstimator() as estimator, progress(source.name) as bar:

            def show(done: int, total: int) -> None:
                bar.total = total or None
                bar.update(done - bar.n)

            track = estimate_video(frames_of(source), estimator, show)
        track.save(path)
    return smoothed(track)


def camera_track(number: int) -> Any:
    """Smoothed keypoints from a webcam, until Ctrl-C."""
    from mg_plugins.pose import HolisticEstimator, estimate_video
    from mg_plugins.pose.video import camera_frames

    def until_interrupted() -> Any:
        frames = camera_frames(number)
        while True:
            try:
                frame = next(frames)
            except (StopIteration, KeyboardInterrupt):
                return
            yield frame

    print('recording; Ctrl-C ends it')
    with HolisticEstimator() as estimator, progress('camera') as bar:
        track = estimate_video(until_interrupted(), estimator, lambda n, _: bar.update(n - bar.n))
    return smoothed(track)


def skeleton_tracks(source: Path, args: argparse.Namespace) -> list[tuple[str, Any]]:
    """Tracks of skeleton files in any format that tools/prepare_data.py reads."""
    import tempfile

    import numpy as np

    from mg_plugins.data.annotations import load_annotations
    from mg_plugins.data.prepare import prepare
    from mg_plugins.data.readers import READERS
    from mg_plugins.data.readers.detect import detect
    from mg_plugins.data.readers.sources import Source
    from mg_plugins.errors import UserError
    from mg_plugins.pose import PoseTrack

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / 'recording.npz'
        if source.suffix in ('.pkl', '.npz') and is_annotation_file(source):
            content = load_annotations(source)
        else:
            kind = detect(Source(source))[0] if args.format == 'auto' else args.format
            known = READERS[kind].options if kind in READERS else ()
            wishes = dict(size=args.size, layout=args.layout)
            wishes = {k: v for k, v in wishes.items() if v is not None and k in known}
            prepare(kind, source, out, workers=1, **wishes)
            content = load_annotations(out)
    tracks = []
    layout = args.layout or content['meta'].get('layout')
    if not layout:
        raise UserError(f'{source} does not name its joint layout: give --layout')
    for clip in content['annotations']:
        fps = args.fps or clip.get('fps') or 0
        if not fps:
            raise UserError(f'{source} does not say how many frames a second it has: give --fps')
        height, width = clip.get('img_shape') or (None, None)
        score = clip.get('keypoint_score')
        if score is None:
            score = (clip['keypoint'] != 0).any(-1).astype(np.float32)
        times = clip.get('frame_times')
        times = np.arange(clip['total_frames']) / fps if times is None else times - times[0]
        track = PoseTrack(
            np.asarray(clip['keypoint'], np.float32), np.asarray(score, np.float32), times,
            layout, (width, height) if width else None, float(fps),
        )  # fmt: skip
        name = source.stem if len(content['annotations']) == 1 else clip['frame_dir']
        tracks.append((safe_name(name), smoothed(track) if args.smooth else track))
    return tracks


def is_annotation_file(path: Path) -> bool:
    """Whether a .npz or .pkl file is one that this project writes."""
    import numpy as np

    if path.suffix == '.pkl':
        return True
    try:
        with np.load(path, allow_pickle=False) as file:
            return 'record' in file.files
    except Exception:
        return False  # the reader says what is wrong with it


def smoothed(track: Any) -> Any:
    """The track with short gaps filled and jitter removed."""
    from dataclasses import replace

    from mg_plugins.data.layouts import get_layout
    from mg_plugins.pose import smooth_track

    layout = get_layout(track.layout)
    keypoint, score = smooth_track(track.keypoint, track.score, track.times, layout)
    return replace(track, keypoint=keypoint, score=score)


def recognize(name: str, track: Any, source: Path | None, spotter: Any, args: Any) -> Any:
    """Spot gestures in one recording and write every output; returns its emotion session."""
    from mg_plugins.data.layouts import get_layout
    from mg_plugins.emotion.segments import recording_session
    from mg_plugins.errors import UserError
    from mg_plugins.spotting import (
        Segments,
        draw_timeline,
        frame_ends,
        frame_segments,
        write_report,
        write_video,
    )

    if not len(track.times):
        raise UserError(f'{name} has no frames')
    layout, ends = get_layout(track.layout), frame_ends(track.times, track.fps)
    keypoint, score = in_layout(track, layout, spotter.layout)
    rows = []
    with progress(f'{name}: gestures', total=len(track.times) * len(keypoint)) as bar:
        for person, (own, own_score) in enumerate(zip(keypoint, score, strict=True)):
            if own_score.any():
                base = bar.n
                spans = spotter.spot(
                    own, own_score, track.fps, track.size,
                    lambda done, base=base: bar.update(base + done - bar.n),
                )  # fmt: skip
                rows += frame_segments(spans, spotter.classes, ends, name, person)
    segments = Segments(rows, spotter.source, float(ends[-1]))
    folder = args.out / name
    folder.mkdir(parents=True, exist_ok=True)
    segments.write_csv(folder / 'segments.csv')
    segments.write_json(folder / 'segments.json')
    segments.write_textgrid(folder / 'segments.TextGrid')
    present = (track.score > 0).any((0, 2))
    notes = [spotter.warning] if spotter.warning else []
    if spotter.source:
        notes.append('SYNTHETIC: the model has seen synthetic data only; it shows the machinery.')
    if not present.any():
        notes.append('Nobody was seen in this recording.')
    shown = name + (f' ({spotter.source} model)' if spotter.source else '')
    draw_timeline(folder / 'timeline.png', segments, shown, present, ends)
    video = folder / 'annotated.mp4'
    if ends[-1] <= LONGEST_VIDEO or args.long_video:
        pictures = None
        if source is not None and source.suffix.lower() in VIDEOS and not args.no_pixels:
            from mg_plugins.pose import frames_of

            pictures = frames_of(source)
        write_video(video, track.keypoint, track.score, ends, layout, segments, track.size,
                    pictures)  # fmt: skip
    else:
        video = None
        notes.append('No annotated video beyond half an hour; --long-video draws it.')
    segments.write_eaf(folder / 'segments.eaf', video)
    write_report(folder / 'report.html', segments, shown, present, ends, video, notes)
    session = recording_session(name, segments, args.transcript)
    save_scenarios(folder / 'scenarios.jsonl', [session], spotter, args)
    seen = f'somebody in {100 * present.mean():.0f}% of {len(present)} frames'
    print(f'{name}: {len(segments)} gestures, {seen}; see {folder / "report.html"}', flush=True)
    return session


def in_layout(track: Any, layout: Any, wanted: Any) -> tuple[Any, Any]:
    """Keypoints and scores of a track with the joints that the model knows."""
    from mg_plugins.data.relayout import joint_parts, relayout

    if layout.joints == wanted.joints:
        return track.keypoint, track.score
    return relayout(track.keypoint, track.score, joint_parts(layout, wanted))


def save_scenarios(path: Path, sessions: list, spotter: Any, args: argparse.Namespace) -> None:
    """Write scenarios that tools/eval_emotion.py reads; ids are opaque."""
    from mg_plugins.emotion import build, scenarios
    from mg_plugins.emotion.template import load_template

    made = build.build_scenarios(
        sessions, load_template(args.template), source=spotter.source or 'recordings'
    )
    scenarios.save_scenarios(path, made)


def judge(path: Path, args: argparse.Namespace, alone: bool) -> None:
    """Ask a judge about the scenarios by tools/eval_emotion.py, in the arms that can be."""
    import subprocess

    from mg_plugins.errors import UserError

    tool = Path(__file__).with_name('eval_emotion.py')
    command = [sys.executable, str(tool), '--scenarios', str(path), '--judge', args.judge]
    command += ['--out', str(args.out / 'emotion')]
    if alone:
        print('one recording: no placebo arm, which exchanges timelines between recordings')
        command += ['--arms', 'without', 'with']
    done = subprocess.run(command)
    if done.returncode:
        raise UserError(f'the judge ended with status {done.returncode}; recordings are finished')


def progress(what: str, total: int | None = None) -> Any:
    """A bar with frames a second and time left, on a terminal."""
    from tqdm import tqdm

    return tqdm(desc=what, total=total, unit='frame', disable=None, leave=False)


def safe_name(text: str) -> str:
    """A name that is one folder, whatever the recording is called."""
    return re.sub(r'[^\w.-]+', '_', text).strip('._') or 'recording'


if __name__ == '__main__':
    options.run(main, 'Finished recordings are written; the same command goes on from keypoints.')

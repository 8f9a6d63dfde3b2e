"""Spot micro-gestures in videos or skeleton recordings.

Writes for each, into OUT/NAME: segments.csv, segments.json, segments.eaf (ELAN), segments.TextGrid
(Praat), timeline.png, annotated.mp4, report.html and scenarios.jsonl.

examples:
  python tools/recognize.py --demo talk.mp4
  python tools/recognize.py talks/*.mp4 --config configs/spot_imigue.py \\
      --checkpoint work_dirs/spot_imigue/iter_350.pth --no-pixels --judge lexicon
  python tools/recognize.py openpose_folder/ --size 1280x720 --fps 25 --demo
"""

import argparse
import itertools
import os
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import options


def build_parser() -> argparse.ArgumentParser:
    parser = options.parser(__doc__)
    add = parser.add_argument
    add('recordings', nargs='*', metavar='RECORDING', help='videos, or skeleton files or folders')
    add('--camera', type=int, metavar='N', help='webcam N until Ctrl-C; a window shows it')
    add('--config', help='config of the model')
    add('--checkpoint', help='its weights')
    add('--demo', action='store_true', help='a small model of synthetic data, trained once')
    add('--out', type=Path, default=Path('results'), help='folder (default: results)')
    add('--threshold', type=float, default=0.6, help='for models without a "nothing" class')
    what = 'frames of a video to estimate a second; others are interpolated (default: %(default)g)'
    add('--pose-rate', type=float, default=30, metavar='FPS', help=what)
    add('--no-pixels', action='store_true', help='draw on black, so that no face is written')
    add('--long-video', action='store_true', help='annotated.mp4 beyond half an hour too')
    add('--transcript', type=Path, help='.srt, .vtt or .json of what was said (one recording)')
    add('--template', default='post_match', help='of the scenarios (default: post_match)')
    add('--judge', help='ask this judge about the scenarios at once: lexicon')
    skeletons = parser.add_argument_group('skeleton recordings')
    skeletons.add_argument('--size', metavar='WxH', help='picture size, where the files lack it')
    skeletons.add_argument('--fps', type=float, help='frames a second, where the files lack it')
    skeletons.add_argument('--layout', help='joint layout, where the files lack it')
    skeletons.add_argument('--smooth', action='store_true', help='fill short gaps and smooth')
    return parser


def main() -> int:
    """Run the command; the exit code is 0, or 1 where a recording could not be used."""
    args = build_parser().parse_args()
    if wrong := complaint(args):
        print(f'recognize.py: {wrong}', file=sys.stderr)
        return 1
    from mg_plugins.data.readers import tables, takes
    from mg_plugins.emotion.build import load_template
    from mg_plugins.emotion.transcripts import read_transcript
    from mg_plugins.errors import UserError

    template = load_template(args.template)
    if args.transcript:
        read_transcript(args.transcript)
    tables.parse_size(args.size)
    takes.check_layout(args.layout)
    failed, spotters, finished = False, {}, {}
    if not args.demo:
        load(0, spotters, args)
    for source in map(Path, args.recordings) if args.camera is None else [None]:
        try:
            for stem, track in read(source, spotters, args):
                name = free_name(stem, finished)
                finished[name] = recognize(name, track, source, spotters, template, args)
        except UserError as error:
            failed = True
            print(f'recognize.py: {error}', file=sys.stderr)
    sessions, folder = sum(finished.values(), []), args.out
    if len(finished) > 1:
        save_scenarios(folder, sessions, spotters, template)
    elif finished:
        folder /= next(iter(finished))
    if args.judge and sessions:
        ask = [sys.executable, Path(__file__).with_name('eval_emotion.py'), '--judge', args.judge]
        ask += ['--scenarios', folder / 'scenarios.jsonl', '--out', args.out / 'emotion']
        if status := subprocess.run(ask).returncode:
            raise UserError(f'the judge ended with status {status}; recordings are finished')
    return int(failed)


def free_name(stem: str, finished: Collection[str]) -> str:
    """Folder of a recording: its own name, or with a number where that is taken."""
    taken = {*finished, 'cache', 'emotion'}  # the last two are this tool's own
    names = itertools.chain([stem], (f'{stem}_{number}' for number in itertools.count(2)))
    return next(name for name in names if name not in taken)


def complaint(args: argparse.Namespace) -> str:
    """What is wrong with the options, found before anything slow is imported; empty if nothing."""
    above = next(path for path in (args.out, *args.out.parents) if os.path.exists(path))
    checks = (
        (bool(args.recordings) == (args.camera is not None),
         'no RECORDING was given, or --camera too: give one of them; --help shows examples'),
        (args.demo and (args.config or args.checkpoint),
         '--demo brings its own model: leave out --config and --checkpoint'),
        (not args.demo and not (args.config and args.checkpoint),
         'give --config and --checkpoint, or --demo for a small synthetic model; '
         f'`python tools/train.py {args.config or "CONFIG"}` trains one'),
        (args.fps is not None and not 0 < args.fps < 1000, f'--fps {args.fps}: no frames a second'),
        (not 5 <= args.pose_rate < 1000,
         f'--pose-rate {args.pose_rate:g} is not from 5 (gaps to 0.3 s are interpolated) to 1000'),
        (not 0 <= args.threshold <= 1, f'--threshold {args.threshold:g} is not from 0 to 1'),
        (args.transcript and len(args.recordings) > 1,
         '--transcript belongs to one recording; give one'),
        (args.judge not in (None, 'lexicon'),
         f'--judge {args.judge} cannot be asked at once, only lexicon can: leave it out, and run '
         f'`python tools/eval_emotion.py --scenarios {args.out}/…/scenarios.jsonl` afterwards'),
        (not above.is_dir() or not os.access(above, os.W_OK),
         f'--out {args.out} cannot be made: {above} is no folder that can be written to'),
    )  # fmt: skip
    return next((advice for wrong, advice in checks if wrong), '')


def read(source: Path | None, spotters: dict, args: argparse.Namespace) -> Any:
    """Names and tracks of what one argument holds; a folder of skeletons may hold several."""
    from mg_plugins.pose import camera_track, read_tracks
    from mg_plugins.spotting import LiveView, display

    if source is None:
        spot = load(2, spotters, args).segments
        around = [lambda estimator: LiveView(estimator, spot)] * display()
        return [('camera', camera_track(args.camera, args.pose_rate, *around))]
    wishes = dict(size=args.size, layout=args.layout, fps=args.fps)
    return read_tracks(source, args.out / 'cache', args.smooth, args.pose_rate, **wishes)


def recognize(
    name: str, track: Any, source: Path | None, spotters: dict, template: Any, args: Any
) -> list:
    """Spot gestures in one recording and write every output; returns its emotion sessions."""
    from tqdm import tqdm

    from mg_plugins.emotion.sessions import recording_sessions
    from mg_plugins.errors import counted
    from mg_plugins.pose.tracks import VIDEOS
    from mg_plugins.spotting import write_outputs

    spotter = load(track.keypoint.shape[-1], spotters, args)
    total = len(track.times) * len(track.keypoint)
    with tqdm(desc=name, total=total, unit='frame', disable=None, leave=False) as bar:
        segments = spotter.segments(track, name, lambda done: bar.update(done - bar.n))
    pixels = source is not None and source.suffix.lower() in VIDEOS and not args.no_pixels
    folder, video = args.out / name, source if pixels else None
    write_outputs(folder, track, segments, spotter.warning, video, args.long_video)
    persons = track.score.any((1, 2)).nonzero()[0].tolist()
    sessions = recording_sessions(name, segments, persons, args.transcript)
    save_scenarios(folder, sessions, spotters, template)
    share = 100 * (track.score > 0).any((0, 2)).mean()
    seen = f'somebody in {share:.0f}% of {counted(len(track.times), "frames")}'
    found = counted(len(segments), 'gestures')
    print(f'{name}: {found}, {seen}; see {folder / "report.html"}', flush=True)
    return sessions


def load(coordinates: int, spotters: dict, args: argparse.Namespace) -> Any:
    """The model; that of the demo is one for recordings with 2 or with 3 coordinates."""
    from mg_plugins.spotting.mm import load_spotter

    kind = coordinates if args.demo else 0
    if kind not in spotters:
        config, checkpoint = demo(kind) if args.demo else (args.config, args.checkpoint)
        spotters[kind] = spotter = load_spotter(config, checkpoint, args.threshold)
        if spotter.source:
            print('SYNTHETIC: this model has seen synthetic data only; its gestures mean nothing.')
        if spotter.warning:
            print(f'warning: {spotter.warning}')
    return spotters[kind]


def demo(coordinates: int) -> tuple[Path, Path]:
    """Config and checkpoint of the demo model; the first call trains it, in a minute or two."""
    import hashlib

    from mg_plugins.data.synthetic import ensure_synthetic
    from mg_plugins.errors import UserError

    root = Path(__file__).resolve().parents[1]
    config = root / 'configs' / 'spot_demo.py'
    data = ensure_synthetic(noise=0.0, clips=600, dataset='imigue' if coordinates == 2 else 'smg')
    text = config.read_bytes() + (config.parent / 'spot_imigue.py').read_bytes()
    key = hashlib.sha256(text + data.name.encode()).hexdigest()[:12]
    folder = data.parent / f'spot_demo_{key}'
    checkpoint = folder / 'iter_200.pth'
    if not checkpoint.is_file():
        print('training the demo model on synthetic data, once …', flush=True)
        # train.py locks its work directory: a second demo at the same time gets its sentence.
        command = [sys.executable, root / 'tools' / 'train.py', config, '--ann-file', data]
        command += ['--work-dir', folder, '--seed', '0', '--no-validate', '--no-test']
        done = subprocess.run(command, capture_output=True, text=True)
        if not checkpoint.is_file():
            raise UserError(f'the demo model could not be trained: {done.stderr.strip()[-400:]}')
    return folder / config.name, checkpoint


def save_scenarios(folder: Path, sessions: list, spotters: dict, template: Any) -> None:
    """Write scenarios that tools/eval_emotion.py reads; ids are opaque."""
    from mg_plugins.emotion import build, scenarios

    source = next((s.source for s in spotters.values() if s.source), 'recordings')
    made = build.build_scenarios(sessions, template, source=source)
    scenarios.save_scenarios(folder / 'scenarios.jsonl', made)


if __name__ == '__main__':
    options.run(main, 'Finished recordings are written; the same command goes on from keypoints.')

"""Small datasets in their own formats, and helpers, for the tests of the readers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from mg_plugins.data.annotations import load_annotations
from mg_plugins.data.prepare import prepare

IMIGUE_JOINTS, SMG_JOINTS = 35, 25
# Where the body is, so that wrists 4 and 7 and their hands are apart.
WRISTS = {4: (500.0, 500.0), 7: (800.0, 500.0)}


def imigue_rows(frames: int, seed: int = 0, crossed: bool = False) -> np.ndarray:
    """(frames, 106) of a `_light_hand.csv`: index, then 35 x (x, y, confidence).

    Released fingertips 25-29 (12-16 of the 22) sit at wrist 4; at wrist 7 if `crossed`. Values have
    three decimals, so that text and float32 agree. Joint 30 is never detected.
    """
    rng = np.random.default_rng(seed)
    joints = np.empty((frames, IMIGUE_JOINTS, 3))
    joints[..., :2] = rng.uniform(100, 700, (frames, IMIGUE_JOINTS, 2))
    joints[..., 2] = rng.uniform(0.3, 1.0, (frames, IMIGUE_JOINTS))
    for wrist, place in WRISTS.items():
        joints[:, wrist, :2] = place
    first, second = (7, 4) if crossed else (4, 7)
    joints[:, 25:30, :2] = np.add(WRISTS[first], rng.uniform(-30, 30, (frames, 5, 2)))
    joints[:, 30:35, :2] = np.add(WRISTS[second], rng.uniform(-30, 30, (frames, 5, 2)))
    joints[:, 30] = 0
    rows = np.concatenate([np.arange(frames)[:, None], joints.reshape(frames, -1)], axis=1)
    return rows.round(3)


def smg_rows(frames: int, seed: int = 0) -> np.ndarray:
    """(frames, 275) of a `_skeleton.csv`."""
    return np.random.default_rng(seed).uniform(-2, 2, (frames, SMG_JOINTS * 11)).round(4)


def csv_lines(rows: np.ndarray, decimals: int = 4) -> list[str]:
    """Text lines of numbers; whole numbers without decimals, as the releases have them."""
    return [
        ','.join(f'{value:.{decimals}f}'.rstrip('0').rstrip('.') for value in row) for row in rows
    ]


def write_lines(path: Path, lines: list[str], end: str = '\n', head: str = '') -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((head + ''.join(line + end for line in lines)).encode())
    return path


def write_imigue_video(
    root: Path,
    number: int,
    labels: list[str],
    frames: int = 40,
    split: str = 'train',
    lines: list[str] | None = None,
    crossed: bool = False,
) -> Path:
    """One video of the MiGA release; `lines` replaces the generated skeleton."""
    name = f'{number:04d}'
    folder = root / f'imigue_skeleton_{split}' / name
    if lines is None:
        lines = csv_lines(imigue_rows(frames, number, crossed))
    write_lines(folder / f'{name}_light_hand.csv', lines)
    write_lines(folder / f'{name}_label.csv', labels)
    return folder


def write_smg_sample(
    root: Path, number: int, labels: list[str], frames: int = 40, lines: list[str] | None = None
) -> Path:
    """One sample of SMG, with the `_data.csv` that gives 30 frames a second."""
    name = f'Sample{number:04d}'
    if lines is None:
        lines = csv_lines(smg_rows(frames, number))
    write_lines(root / name / f'{name}_skeleton.csv', lines)
    write_lines(root / name / f'{name}_finelabels.csv', labels)
    write_lines(root / name / f'{name}_data.csv', [f'{frames},30,4000'])
    return root / name


def write_msr_clip(root: Path, action: int, subject: int, example: int, joints: np.ndarray) -> Path:
    """One file of MSR-Action3D from joints (T, 20, 3); the fourth column is 0."""
    lines = [' '.join(f'{value:.6f}' for value in (*joint, 0)) for joint in joints.reshape(-1, 3)]
    return write_lines(root / f'a{action:02d}_s{subject:02d}_e{example:02d}_skeleton3D.txt', lines)


def openpose_person(body: np.ndarray, right: np.ndarray = None, left: np.ndarray = None) -> dict:
    """A person of an OpenPose file; body (25, 3), hands (21, 3) or absent."""

    def flat(joints):
        return [] if joints is None else joints.ravel().tolist()

    return dict(
        person_id=[-1],
        pose_keypoints_2d=flat(body),
        face_keypoints_2d=[],
        hand_left_keypoints_2d=flat(left),
        hand_right_keypoints_2d=flat(right),
    )


def write_openpose_clip(
    folder: Path, frames: list[list[dict]], name: str = 'video', first: int = 0
) -> Path:
    """One folder of OpenPose files; a frame is a list of persons."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, people in enumerate(frames, first):
        path = folder / f'{name}_{number:012d}_keypoints.json'
        path.write_text(json.dumps(dict(version=1.3, people=people)))
    return folder


def body(seed: int, joints: int = 25, place: tuple[float, float] = (300.0, 300.0)) -> np.ndarray:
    """(joints, 3): a body of about 200 pixels around a place, with scores."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-100, 100, (joints, 2)) + place
    scores = rng.uniform(0.5, 1.0, (joints, 1))
    return np.concatenate([points, scores], axis=1).round(3)


def coco_instance(joints: np.ndarray, **more) -> dict:
    """An instance as MMPose's inferencer writes it, from (V, 3)."""
    return dict(
        keypoints=joints[:, :2].tolist(),
        keypoint_scores=joints[:, 2].tolist(),
        bbox=[[0.0, 0.0, 1.0, 1.0]],
        bbox_score=0.9,
        **more,
    )


def write_json(path: Path, content) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def landmarks(seed: int) -> np.ndarray:
    """(33, 4) of MediaPipe: x, y, z as fractions of the picture, visibility."""
    rng = np.random.default_rng(seed)
    return rng.uniform(0.1, 0.9, (33, 4)).round(5)


def wide_csv(frames: list[np.ndarray | None], first: int = 0) -> list[str]:
    """Lines of a wide MediaPipe CSV; None is a frame without a person."""
    header = ['frame', *(f'{a}{i + first}' for i in range(33) for a in ('x', 'y', 'z', 'v'))]
    lines = [','.join(header)]
    for number, frame in enumerate(frames):
        cells = [''] * 132 if frame is None else [repr(float(v)) for v in frame.ravel()]
        lines.append(','.join([str(number), *cells]))
    return lines


def run(tmp_path: Path, name: str, source: Path, **options) -> tuple:
    """Prepare into a temporary file; the report and what the file holds."""
    report = prepare(name, source, tmp_path / 'out' / 'set.pkl', workers=1, **options)
    return report, load_annotations(report.out)


def by_name(content: dict) -> dict[str, dict]:
    return {annotation['frame_dir']: annotation for annotation in content['annotations']}


def where(rejects: list) -> list[tuple]:
    return [(r.clip, r.file, r.line, r.reason) for r in rejects]


def labels(tmp_path: Path, *rows: str, header: str = 'clip,label') -> str:
    return str(write_lines(tmp_path / 'labels.csv', [header, *rows]))

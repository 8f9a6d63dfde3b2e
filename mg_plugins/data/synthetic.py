"""The embedded synthetic micro-gesture set: what a config falls back to when its data is absent.

Subjects with their own build, habits and favourite gestures sit through sessions that end in 'win'
or 'lose'. `synthetic_plan` decides who does what when, `synthetic_motion` moves the bodies,
`synthetic_gestures.json` holds the movements; here a camera and a pose estimator look at them.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np

from mg_plugins.files import cache_folder

from . import synthetic_plan as planned
from .annotations import load_annotations, save_annotations
from .layouts import get_layout
from .synthetic_motion import BodyMotion, minimum_jerk
from .synthetic_plan import SyntheticOptions, gesture_table

VERSION = 2
NOTE = 'Synthetic: made by mg_plugins, not recorded from people. Do not report it as real data.'
GENERIC_NOTE = 'Its movements are arbitrary ones, not those that the class names describe.'
BLOCK = 48
# Of a recording: how long one movement passes into the next, and what follows the last, in seconds.
FADE, TAIL = 0.4, 2.0
WIDTH, HEIGHT = 1280, 720
FINGER = re.compile(r'(left|right)_(thumb|index|middle|ring|pinky)(?:_finger)?_(cmc|mcp|[pd]?ip)')
MEMORY, MISS_MEMORY = 0.75, 0.9
# A depth camera errs more, and looks from more sides than one at a press conference.
DEPTH_ERROR, YAW = 2.5, {2: 9.0, 3: 25.0}


def make_synthetic(**options) -> tuple[dict[str, list[str]], list[dict], dict]:
    """The set of some `SyntheticOptions`: ``(split, annotations, meta)`` for `save_annotations`.

    No download, a few seconds, the same bytes for the same options. Splits hold subjects out.
    Keypoints are (1, T, V, 2) pixels or (1, T, V, 3) metres. A clip does not change when more clips
    are asked for, except the few whose label is exchanged so that every class occurs in every
    split. Numbers measured on the set say nothing about real micro-gestures.
    """
    options = SyntheticOptions(**options)
    maker = _Maker(options)
    annotations = list(maker.recordings() if options.recordings else maker.clips())
    annotations.sort(key=lambda a: (a['subject'], a['session'], a.get('start', 0)))
    held = {f'S{k:03d}' for k in maker.plan.subject[maker.plan.held_out]}
    test = [a['frame_dir'] for a in annotations if a['subject'] in held]
    train = [a['frame_dir'] for a in annotations if a['subject'] not in held]
    split = dict(xsub_train=train, xsub_val=test, sessions_train=[*train], sessions_test=[*test])
    if options.recordings:
        split = dict(recordings_train=train, recordings_val=test)
    note = NOTE if maker.task.named else f'{NOTE} {GENERIC_NOTE}'
    meta = dict(layout=maker.layout.name, classes=list(maker.task.names), source='synthetic')
    meta |= dict(dataset=options.dataset, seed=options.seed, options=asdict(options))
    return split, annotations, meta | dict(version=VERSION, note=note)


def ensure_synthetic(**options) -> Path:
    """Path of the set's ``.pkl`` in the `cache_folder`, made at the first call and when damaged.

    Several processes may call it at once: each moves a file of the same bytes into place.
    """
    chosen = SyntheticOptions(**options)
    key = hashlib.sha256(json.dumps([VERSION, asdict(chosen)]).encode()).hexdigest()[:12]
    path = cache_folder() / f'synthetic_{chosen.dataset}_{key}.pkl'
    with suppress(OSError, ValueError):
        meta = load_annotations(path)['meta']
        if (meta.get('version'), meta.get('options')) == (VERSION, asdict(chosen)):
            return path
    save_annotations(path, *make_synthetic(**options))
    return path


class _Maker:
    """Makes the annotations of a set: its plan, its people and what they can do."""

    def __init__(self, options: SyntheticOptions) -> None:
        self.options, self.dims = options, options.variant['dims']
        self.posture = options.variant['posture']
        self.layout = get_layout(options.layout or options.variant['layout'])
        self.task = planned.make_task(options)
        self.plan = planned.make_plan(options, self.task)
        streams = [options.stream(planned.SUBJECT, k, 0) for k in range(options.subjects)]
        self.people = planned.draw_subjects(streams, self.posture)
        # After the classes one movement in which nothing happens.
        self.moves = planned.compile_movements([*self.task.movements, {}], self.posture)

    def clips(self) -> Iterator[dict]:
        """One annotation a gesture."""
        plan = self.plan
        rows = np.stack([plan.label, plan.subject, plan.session, plan.frames], 1)
        blocks = -(-self.options.clips // BLOCK)
        # Clips of like length together, so that little is computed for padding.
        for block in np.array_split(np.argsort(plan.frames, kind='stable'), blocks):
            streams = [self.options.stream(planned.MOTION, index) for index in block]
            normals, uniforms = _draws(streams)
            world = self._bodies(rows[block], normals, uniforms)
            white = np.zeros((*world.shape[:-1], self.dims + 2), np.float32)
            for own, length, stream in zip(white, plan.frames[block], streams, strict=True):
                stream.standard_normal(dtype=np.float32, out=own[:length])
            seen = self._observe(world, plan.session[block], white, normals)
            for row, index in enumerate(block):
                label, _, session, frames = rows[index].tolist()
                start = int(plan.start[index])
                fields = self._about(session, *(part[row, :frames] for part in seen))
                fields['frame_dir'] = f'{fields["session"]}_{start:06d}'
                yield fields | {'label': label, 'start': start, 'end': start + frames - 1}

    def recordings(self) -> Iterator[dict]:
        """One annotation a session: gestures, and between them a body that does nothing of note."""
        plan, nothing = self.plan, len(self.task.movements)
        for session in np.unique(plan.session):
            clips = np.flatnonzero(plan.session == session)
            clips = clips[np.argsort(plan.start[clips])]
            fade, subject = int(FADE * plan.fps[session]), plan.subject[clips[0]]
            rows, streams, segments, ends = [], [], [], 0
            for clip in clips:
                label, start, frames = (int(a[clip]) for a in (plan.label, plan.start, plan.frames))
                rows.append((nothing, subject, session, start - ends))
                rows.append((label, subject, session, frames))
                streams.append(self.options.stream(planned.GAP, clip))
                streams.append(self.options.stream(planned.MOTION, clip))
                ends = start + frames
                segments.append({'label': label, 'start': start, 'end': ends})
            rows.append((nothing, subject, session, int(TAIL * plan.fps[session])))
            streams.append(self.options.stream(planned.GAP, clips[-1], 1))
            normals, uniforms = _draws(streams)
            # One sitting: the same posture, resting place, camera and light from end to end.
            for field in ('posture', 'rest', 'view', 'quality'):
                normals[field] = normals[field][0]
            uniforms['rest'] = uniforms['rest'][0]
            rows = np.array(rows)
            moved = self._bodies(rows, normals, uniforms, extra=fade)
            world = _joined(moved, rows[:, 3], fade)[None]
            stream = self.options.stream(planned.SESSION, session, 1)
            white = stream.standard_normal((*world.shape[:-1], self.dims + 2), dtype=np.float32)
            seen = self._observe(world, np.array([session]), white, normals[:1])
            fields = self._about(session, *(part[0] for part in seen))
            yield fields | {'frame_dir': fields['session'], 'segments': segments}

    def _bodies(
        self, rows: np.ndarray, normals: np.ndarray, uniforms: np.ndarray, extra: int = 0
    ) -> np.ndarray:
        """(n, T + extra, V, 3) joints of movements, rows of (label, subject, session, frames)."""
        label, subject, session, frames = rows.T
        moves, who, fps = self.moves.take(label), self.people.take(subject), self.plan.fps[session]
        body = BodyMotion(moves, who, normals, uniforms, frames, fps, self.posture, extra)
        points, joints = body.points(), self.layout.joints
        for match in filter(None, map(FINGER.fullmatch, joints)):
            side, finger, part = match.groups()
            own = f'{side}_{"little" if finger == "pinky" else finger}'
            knuckle, tip = points[f'{own}_knuckle'], points[f'{own}_tip']
            place = knuckle + gesture_table()['along_finger'][part] * (tip - knuckle)
            points[f'{side}_{finger}_{part}'] = points[f'{side}_{finger}_finger_{part}'] = place
        if unknown := [joint for joint in joints if body_point(joint) not in points]:
            what, known = ', '.join(unknown), ', '.join(sorted(points))
            raise ValueError(f'the synthetic body has no joint called {what}; it has {known}')
        return np.stack([points[body_point(joint)] for joint in joints], 2)

    def _observe(
        self, world: np.ndarray, session: np.ndarray, white: np.ndarray, normals: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Keypoints (n, T, V, D), scores (n, T, V) as seen; ``white`` (n, T, V, D + 2) is noise."""
        joints, dims, noise = self.layout.joints, self.dims, self.options.noise
        view = self.plan.view[session] + 0.3 * normals['view']
        quality = normals['quality'][:, None, None]
        detector = gesture_table()['detector']
        kinds = [
            next(kind for kind, (marks, *_) in detector.items() if any(m in name for m in marks))
            for name in map(body_point, joints)
        ]
        spread, usual, limit = np.array([detector[kind][1:] for kind in kinds]).T
        seen = _turned(world, view, YAW[dims])
        hidden = _hidden(seen, joints, np.isin(kinds, ('finger', 'wrist')))
        step = np.sqrt((np.diff(seen, axis=1, prepend=seen[:, :1]) ** 2).sum(-1))

        error = 0.8 * _remember(white[..., :dims], MEMORY) + 0.5 * white[..., :dims]
        worse = np.exp(0.25 * quality) * (1 + 1.5 * hidden)
        worse = worse * (1 + 2 * np.minimum(step / 0.1, 1))
        noise = noise * DEPTH_ERROR if dims == 3 else noise
        off = (0.01 * noise * spread * worse)[..., None] * error
        place = (_project if dims == 2 else _depth_axes)(seen, view.T[..., None, None], off)
        # Rounded, the last bits in which processors differ are gone.
        place = np.round(place, 2 if dims == 2 else 4)

        off = np.sqrt((error**2).sum(-1)) * worse
        score = usual - 0.1 * (off - 1.2) - 0.25 * hidden + 0.04 * white[..., dims]
        # A depth camera's skeleton says tracked or not, no more.
        score = np.clip(score, 0.05, 1) if noise and dims == 2 else np.ones_like(off)
        latent = _remember(white[..., dims + 1], MISS_MEMORY)
        missed = (latent + 0.4 * quality + 0.9 * hidden > limit) & (noise > 0)
        if dims == 2:
            missed |= ((place < 0) | (place >= (WIDTH, HEIGHT))).any(-1)
        return np.where(missed[..., None], 0, place), np.where(missed, 0, np.round(score, 3))

    def _about(self, session: int, keypoint: np.ndarray, score: np.ndarray) -> dict:
        """The fields that a clip and a recording have in common."""
        take, subject = divmod(session, self.options.subjects)
        fields = {
            'total_frames': len(keypoint),
            'keypoint': keypoint[None].astype(np.float32),
            'keypoint_score': score[None].astype(np.float32),
            'session': f'S{subject:03d}V{take:02d}',
            'subject': f'S{subject:03d}',
            'fps': float(self.plan.fps[session]),
            'outcome': ('lose', 'win')[self.plan.outcome[session]],
        }
        if self.dims == 2:
            fields['img_shape'] = fields['original_shape'] = (HEIGHT, WIDTH)
        return fields


def _draws(streams: list[np.random.Generator]) -> list[np.ndarray]:
    """What each clip draws: records of ``NORMALS`` and of ``UNIFORMS``."""
    kinds = (planned.NORMALS, planned.UNIFORMS)
    normals, uniforms = (kind.itemsize // 8 for kind in kinds)
    drawn = zip(*[(s.standard_normal(normals), s.random(uniforms)) for s in streams], strict=True)
    return [np.stack(own).view(kind)[:, 0] for own, kind in zip(drawn, kinds, strict=True)]


def _joined(events: np.ndarray, frames: np.ndarray, fade: int) -> np.ndarray:
    """(T, V, 3) of movements (n, T + fade, V, 3), each passing into the next in ``fade`` frames."""
    total, begin = int(frames.sum()), 0
    world = np.zeros((total + fade, *events.shape[2:]))
    share = minimum_jerk(np.arange(fade) / fade)[:, None, None]
    for event, length in zip(events, frames, strict=True):
        event = event[: length + fade]
        if begin:
            event[:fade] = (1 - share) * world[begin : begin + fade] + share * event[:fade]
        world[begin : begin + length + fade] = event
        begin += length
    return world[:total]


def body_point(joint: str) -> str:
    """Name in `BodyMotion.points` for a layout's joint (aliases resolved, otherwise unchanged)."""
    names, (side, _, part) = gesture_table()['joint_names'], joint.partition('_')
    if side in ('left', 'right'):
        return f'{side}_{names.get(part, part)}'
    return names.get(joint, joint)


def _turned(world: np.ndarray, view: np.ndarray, spread: float) -> np.ndarray:
    """The world as seen by a camera that stands a little to the side and is not quite level."""
    yaw, roll = np.radians(spread * view[:, 4]), np.radians(1.2 * view[:, 5])
    (cy, sy), (cr, sr) = ((np.cos(a)[:, None, None], np.sin(a)[:, None, None]) for a in (yaw, roll))
    x, y, z = np.moveaxis(world, -1, 0)
    x, z = cy * x + sy * z, cy * z - sy * x
    return np.stack([cr * x - sr * y, sr * x + cr * y, z], -1)


def _project(seen: np.ndarray, view: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Pin-hole projection; the neck of an average sitter comes to about (640, 330)."""
    distance = 3 * np.exp(0.15 * view[0])
    scale = 560 * np.exp(0.15 * view[1]) * distance / (distance - seen[..., 2])
    u = 640 + 70 * view[2] + scale * (seen[..., 0] + error[..., 0])
    v = 330 + 20 * view[3] - scale * (seen[..., 1] - 0.5 + error[..., 1])
    return np.stack([u, v], -1)


def _depth_axes(seen: np.ndarray, view: np.ndarray, error: np.ndarray) -> np.ndarray:
    x = -seen[..., 0] + 0.2 * view[2] + error[..., 0]
    y = seen[..., 1] + 0.1 * view[3] + error[..., 1]
    # The error along the ray of a depth camera is the largest.
    return np.stack([x, y, 2.5 * np.exp(0.12 * view[0]) - seen[..., 2] + 1.5 * error[..., 2]], -1)


def _hidden(seen: np.ndarray, joints: tuple[str, ...], is_hand: np.ndarray) -> np.ndarray:
    """(n, T, V), 0 to 1: how far a hand in front, the body or the head hides a joint."""
    hidden, at = np.zeros(seen.shape[:-1]), {joint: j for j, joint in enumerate(joints)}
    body, hands = np.flatnonzero(~is_hand), np.flatnonzero(is_hand)
    for joint, hand in at.items():
        if joint.endswith(('_wrist', 'finger3', 'middle_finger_tip')):
            gap = seen[:, :, body] - seen[:, :, hand, None]
            cover = np.exp(-(gap[..., :2] ** 2).sum(-1) / (2 * 0.05**2)) * (gap[..., 2] < -0.02)
            hidden[:, :, body] = np.maximum(hidden[:, :, body], cover)
    if {'left_shoulder', 'right_shoulder'} <= set(at):
        chest = 0.5 * sum(seen[:, :, at[f'{side}_shoulder']] for side in ('left', 'right'))
        gap = seen[:, :, hands] - chest[:, :, None]
        hidden[:, :, hands] = (gap[..., 2] < -0.06) & (np.abs(gap[..., 0]) < 0.16)
    for joint, ear in at.items() if 'nose' in at else ():
        if joint.endswith('_ear'):
            beside = np.abs(seen[:, :, at['nose'], 0] - seen[:, :, ear, 0])
            hidden[:, :, ear] = np.maximum(hidden[:, :, ear], np.clip(2 - beside / 0.03, 0, 1))
    return hidden


def _remember(white: np.ndarray, memory: float) -> np.ndarray:
    """First-order autoregressive noise of unit variance along axis 1."""
    out = white.copy()
    fresh = np.sqrt(1 - memory**2).astype(white.dtype)
    for t in range(1, white.shape[1]):
        out[:, t] = memory * out[:, t - 1] + fresh * white[:, t]
    return out

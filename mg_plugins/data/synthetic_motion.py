"""Kinematics of the synthetic set: a 3D body that performs the movements of a gesture table.

Body channels (lean of the torso, lift of a shoulder …) and hands go from the subject's resting
posture to the movement's target along a minimum-jerk course, stay there, possibly rub to and fro,
and return. Fingertips are led; wrists and elbows follow.

Shapes: n clips of a block, on which none depends, T frames of the longest; metres and degrees.
World axes: x to the subject's left, y up, z to the front; the origin lies between the hips.
"""

from dataclasses import dataclass

import numpy as np

from .synthetic_plan import CHANNELS, FINGERS, FRAMES, PER_LIMB, POSTURE, SWAY, Rows, gesture_table

HAND_SWAY = 0.008
# A hand without a task gestures along with the talk in one clip of five.
BUSY_SHARE, BUSY_SWAY = 0.2, 0.045


def minimum_jerk(share: np.ndarray) -> np.ndarray:
    """Course from 0 to 1: Flash and Hogan, The coordination of arm movements, J. Neurosci. 1985."""
    s = np.clip(share, 0, 1)
    return s**3 * (10 - 15 * s + 6 * s**2)


def two_bone_ik(
    base: np.ndarray, goal: np.ndarray, upper: np.ndarray, lower: np.ndarray, pole: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Places (..., 3) of the middle and the end joint of a limb of two bones (..., 1).

    The limb bends towards ``pole``. Its end is at the goal, or the nearest reachable point on the
    line to it, on which the middle joint's foot lies (u² − l² + d²) / 2d from the base.
    """
    line = goal - base
    along, span = _unit(line), np.linalg.norm(line, axis=-1, keepdims=True)
    span = np.clip(span, 1.02 * np.abs(upper - lower) + 1e-3, 0.98 * (upper + lower))
    foot = (upper**2 - lower**2 + span**2) / (2 * span)
    height = np.sqrt(np.maximum(upper**2 - foot**2, 0))
    across = _unit(pole - (pole * along).sum(-1, keepdims=True) * along)
    return base + foot * along + height * across, base + span * along


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.maximum(np.linalg.norm(vector, axis=-1, keepdims=True), 1e-6)


def rotation(twist: np.ndarray, lean: np.ndarray, side: np.ndarray) -> np.ndarray:
    """(..., 3, 3) matrices Ry(twist) Rx(lean) Rz(side): to the left, forward, to the right side."""
    angles = map(np.radians, (twist, lean, side))
    (cy, sy), (cx, sx), (cz, sz) = ((np.cos(angle), np.sin(angle)) for angle in angles)
    rows = [
        [cy * cz + sy * sx * sz, -cy * sz + sy * sx * cz, sy * cx],
        [cx * sz, cx * cz, -sx],
        [-sy * cz + cy * sx * sz, sy * sz + cy * sx * cz, cy * cx],
    ]
    return np.stack([np.stack(row, -1) for row in rows], -2)


def _turn(matrix: np.ndarray, point: np.ndarray) -> np.ndarray:
    return (matrix * point[..., None, :]).sum(-1)


def _xyz(x, y, z) -> np.ndarray:
    """(..., 3) of arrays (..., 1) and numbers."""
    return np.concatenate(np.broadcast_arrays(x, y, z), -1)


@dataclass
class BodyMotion:
    """Moves the bodies of a block of n clips, a row each of all that is given."""

    moves: Rows
    who: Rows
    normals: np.ndarray
    uniforms: np.ndarray
    frames: np.ndarray
    fps: np.ndarray
    posture: str
    extra: int = 0  #: Frames beyond the longest of ``frames``.

    def __post_init__(self) -> None:
        moves, who, normals, uniforms = self.moves, self.who, self.normals, self.uniforms
        self.size = {name: value[:, None, None] for name, value in who.size.items()}
        self.left = uniforms['hand'] >= who.right_handed
        side = np.where(self.left, 1.0, -1.0)
        # Of the near (0) and the far (1) limb: its own axes to those of the world.
        self.mirror = [_xyz(sign * side[:, None], 1.0, 1.0) for sign in (1, -1)]
        self.gain = who.vigour * np.exp(0.2 * normals['gain'])
        self.time = np.arange(self.frames.max() + self.extra) / self.fps[:, None]
        self.used = moves.frame != FRAMES.index('none')
        self.used[:, 1] &= uniforms['both'] < moves.both
        self.busy = ~self.used & (uniforms['busy'] < BUSY_SHARE)
        self._set_course(self.frames / self.fps)

        # Slow signals of unit variance (n, T, 18) for 12 channels and two hands.
        rate = 0.15 + 0.75 * uniforms['sway'][..., 0]
        # Free gesturing is the hands' own sway, made faster and larger.
        free = (moves.wander > 0)[:, None] | self.busy
        rate[:, 12:] *= np.where(np.repeat(free, 3, 1), 2.0, 1.0)[..., None]
        phase = rate[:, None] * self.time[:, :, None, None] + uniforms['sway'][:, None, :, :, 1]
        self.noise = np.sin(2 * np.pi * phase).sum(-1) * np.sqrt(2 / 3)

        still = who.habit + POSTURE * normals['posture']
        moved = self.course[..., None] * moves.body[:, None]
        moved = moved + self.beat[..., None] * moves.sway[:, None]
        value = still[:, None] + SWAY * self.noise[..., :12] + self.gain[:, None, None] * moved
        self.channel = dict(zip(CHANNELS, np.moveaxis(value, -1, 0), strict=True))
        for name in ('side', 'twist', 'shift', 'yaw', 'roll'):
            # These have a left and a right: mirror the movement's own part with the hand.
            part = self.gain[:, None] * moved[..., CHANNELS.index(name)]
            self.channel[name] = self.channel[name] + (side[:, None] - 1) * part

    def _set_course(self, duration: np.ndarray) -> None:
        """`course` (n, T): 0 at rest, 1 at the target. `beat` (n, T): the oscillation, -1 to 1."""
        moves, draw = self.moves, self.uniforms
        timing, rub = draw['timing'].T, draw['rub'].T
        pace = self.who.tempo * np.exp(0.15 * self.normals['speed'])
        rise = (moves.approach[:, 0] + np.ptp(moves.approach, 1) * timing[0]) / pace
        fall = (0.25 + 0.3 * timing[1]) / pace
        squeeze = np.minimum(1, 0.65 * duration / (rise + fall))
        rise, fall = rise * squeeze, fall * squeeze
        begin = (-0.1 + 0.3 * timing[2]) * squeeze
        end = duration - (-0.1 + 0.25 * timing[3]) * squeeze
        returns = draw['stay'] >= moves.stay
        up = minimum_jerk((self.time - begin[:, None]) / rise[:, None])
        down = minimum_jerk((self.time - (end - fall)[:, None]) / fall[:, None])
        self.course = up * (1 - down * returns[:, None])
        rate = (moves.hz[:, 0] + np.ptp(moves.hz, 1) * rub[0]) * pace
        phase = 2 * np.pi * (rate[:, None] * self.time + rub[2][:, None])
        self.beat = (rub[1] < moves.rub_share)[:, None] * self.course**3 * np.sin(phase)

    def points(self) -> dict[str, np.ndarray]:
        """Joint and landmark name to (n, T, 3) world coordinates in metres."""
        points = self._trunk()
        # The far arm first: a near hand may touch it.
        far = self._arm(1, self.hip, self.hip) | self._leg(1)
        near = self._arm(0, far['elbow'], far['wrist']) | self._leg(0)
        left = self.left[:, None, None]
        for name in near:
            points[f'left_{name}'] = np.where(left, near[name], far[name])
            points[f'right_{name}'] = np.where(left, far[name], near[name])
        return points

    def _trunk(self) -> dict[str, np.ndarray]:
        c, size, zero = self.channel, self.size, np.zeros_like(self.time)
        self.torso = rotation(c['twist'], c['lean'], c['side'])
        self.turn_head = rotation(
            c['yaw'] + 0.6 * c['twist'], c['pitch'] + 0.4 * c['lean'], c['roll'] + 0.5 * c['side']
        )
        self.hip = np.stack([c['shift'], zero, zero], -1)
        spine = np.stack([zero, size['spine'][..., 0] + c['rise'], zero], -1)
        self.neck = self.hip + _turn(self.torso, spine)
        stalk = np.stack([zero, 0.185 - c['sink'], 0.02 + c['forward']], -1) * size['skull']
        self.skull = self.neck + _turn(self.torso, stalk)
        up = self.neck - self.hip
        trunk = dict(mid_hip=self.hip, spine_mid=self.hip + 0.5 * up, neck=self.neck)
        trunk['spine_shoulder'] = self.hip + 0.95 * up
        for name, at in gesture_table()['face'].items():
            trunk[name] = self.skull + _turn(self.turn_head, np.array(at, float) * size['skull'])
        return trunk

    def _target(self, limb: int, elbow: np.ndarray, wrist: np.ndarray) -> np.ndarray:
        """(n, T, 3) place that one hand goes to; the other arm's elbow and wrist are given."""
        offset = self.who.touch_habit[:, limb] + 0.01 * self.normals['target'][:, limb]
        own = self.moves.at[:, limb]
        at = ((own + offset) * self.mirror[limb])[:, None]
        places = [
            at + 0 * self.hip,
            self.neck + _turn(self.torso, at),
            self.skull + _turn(self.turn_head, at * self.size['skull']),
            elbow + own[:, :1, None] * (wrist - elbow) + at * (0, 1, 1),
        ]
        frame = self.moves.frame[:, limb, None, None]
        return np.select([frame == i for i in range(len(places))], places)

    def _rest(self, limb: int) -> tuple[np.ndarray, np.ndarray]:
        """(n, 3) place and direction of a resting hand, in world axes."""
        rests = gesture_table()['rests'][self.posture]
        share = np.cumsum(self.who.rest_weights, 1)
        share /= share[:, -1:]
        draw = self.uniforms['rest']
        # Hands mostly rest alike; one time in six each takes its own place.
        pick = np.where(draw[:, 2] < 1 / 6, draw[:, limb], draw[:, 0])
        choice = np.minimum((pick[:, None] >= share).sum(1), len(rests) - 1)
        choice = np.where(self.moves.rest >= 0, self.moves.rest, choice)
        at, reach = (np.array([rest[key] for rest in rests])[choice] for key in ('at', 'reach'))
        at = at + self.who.rest_habit[:, limb] + 0.02 * self.normals['rest'][:, limb]
        return at * self.mirror[limb], reach * self.mirror[limb]

    def _arm(self, limb: int, elbow: np.ndarray, wrist: np.ndarray) -> dict[str, np.ndarray]:
        """Joints of one arm and its hand; ``elbow`` and ``wrist`` of the other, where it is led."""
        moves, size, mirror = self.moves, self.size, self.mirror[limb][:, None]
        used = self.used[:, limb]
        course = (self.course * used[:, None])[..., None]
        rest, rest_reach = self._rest(limb)

        amplitude = (moves.rub[:, limb] * self.mirror[limb] * self.gain[:, None])[:, None]
        wander = moves.wander * used * self.gain * np.exp(0.5 * self.normals['wander'])
        loose = HAND_SWAY + BUSY_SWAY * self.busy[:, limb, None, None]
        loose = loose + wander[:, None, None] * course
        swing = self.noise[..., 12 + 3 * limb : 15 + 3 * limb] * (1.3, 1.0, 0.7)
        arc = 4 * course * (1 - course) * (mirror * (0.03, 0.0, 0.05))
        tip = rest[:, None] * (1 - course) + self._target(limb, elbow, wrist) * course + arc
        tip = tip + amplitude * self.beat[..., None] * used[:, None, None] + loose * swing

        reach = moves.reach[:, limb] + 0.12 * self.normals['reach'][:, limb]
        reach = (reach * self.mirror[limb])[:, None]
        along = _unit(rest_reach[:, None] * (1 - course) + reach * course)
        lift = self.channel[f'raise_{PER_LIMB[limb]}'][..., None] - 0.015
        out = _xyz(mirror[..., :1] * size['half_shoulders'], lift, 0.0)
        shoulder = self.neck + _turn(self.torso, out)
        pole = np.array(gesture_table()['landmarks']['nowhere']['pole']) * (1 - course)
        pole = (pole + moves.pole[:, limb][:, None] * course) * mirror
        # The longest stretched finger is the one that touches.
        far = np.array([far for far, _ in FINGERS.values()])
        length = 1 + ((far * moves.fingers).max(1)[:, None, None] - 1) * course
        elbow, wrist = two_bone_ik(
            shoulder, tip - length * size['hand'] * along, size['upper_arm'], size['forearm'], pole
        )
        arm = {'shoulder': shoulder, 'elbow': elbow, 'wrist': wrist}

        # At rest the palm looks down, at a target it looks to the body.
        palm = np.array([0, -1.0, 0]) * (1 - course) + np.array([0, -0.25, -1.0]) * course
        sign, length = mirror[..., :1], size['hand']
        across = -sign * _unit(np.cross(along, palm))
        palm = sign * np.cross(along, across)
        stretch = 1 + (moves.fingers[:, None] - 1) * course
        arm['hand'] = wrist + 0.45 * length * along
        for i, (name, (far, out)) in enumerate(FINGERS.items()):
            straight = stretch[..., i : i + 1]
            arm[f'{name}_tip'] = wrist + length * (
                far * straight * along + out * across + 0.5 * (1 - straight) * palm
            )
            arm[f'{name}_knuckle'] = wrist + length * (0.5 * far * along + 0.8 * out * across)
        return arm

    def _leg(self, limb: int) -> dict[str, np.ndarray]:
        size, mirror = self.size, self.mirror[limb][:, None]
        hip = self.hip + mirror * (1.0, 0.0, 0.0) * size['half_hips']
        down, ahead = (0.0, size['thigh']) if self.posture == 'seated' else (size['thigh'], 0.03)
        foot = _xyz(mirror[..., :1] * 0.12, -0.98 * (down + size['shank']), ahead) + 0 * self.hip
        if limb == 0:
            step = (self.moves.foot * self.gain[:, None] * self.mirror[0])[:, None]
            foot = foot + step * (self.course * (1 + 0.5 * self.beat))[..., None]
        pole = np.array([0, 0.3, 1.0]) + 0 * hip
        knee, ankle = two_bone_ik(hip, foot, size['thigh'], size['shank'], pole)
        heel, toe = ankle + (0, -0.06, -0.05), ankle + (0, -0.06, 0.16)
        small_toe = ankle + mirror * (0.05, -0.06, 0.13)
        return dict(hip=hip, knee=knee, ankle=ankle, heel=heel, foot=toe, small_toe=small_toe)

"""MediaPipe 0.10.14, whose wheel has its models: Holistic, and Hands where that finds no hand."""

from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import numpy as np

from .estimate import Person, PoseError

VISIBLE = 0.4  # below it MediaPipe invents coordinates, such as of joints off the picture
SEARCH = 3  # frames from one search for hands that found none to the next

# imigue22: nose, neck, arm one, arm two, eyes, ears; fingertips of the right, then the left hand.
BODY = ((0, 0), (2, 12), (3, 14), (4, 16), (5, 11), (6, 13), (7, 15), (8, 5), (9, 2), (10, 8),
        (11, 7))  # fmt: skip
NECK, SHOULDERS = 1, (11, 12)
TIPS = (4, 8, 12, 16, 20)
RIGHT_TIPS, LEFT_TIPS = slice(12, 17), slice(17, 22)
Array = np.ndarray | None  # landmarks, or None where MediaPipe found nothing


def imigue22(body: Array, right: Array, left: Array, size: tuple[int, int]) -> Person | None:
    """iMiGUE's joints from a body (33, 3), x and y in [0, 1] and visibility, and hands (21, 2)."""
    keypoint, score = np.zeros((22, 2), np.float32), np.zeros(22, np.float32)
    if body is not None:
        for joint, landmark in BODY:
            keypoint[joint], score[joint] = body[landmark, :2], body[landmark, 2]
        keypoint[NECK] = body[SHOULDERS, :2].mean(0)
        score[NECK] = body[SHOULDERS, 2].min()
    for hand, tips in ((right, RIGHT_TIPS), (left, LEFT_TIPS)):
        if hand is not None:
            keypoint[tips], score[tips] = hand[TIPS, :2], 1
    outside = ((keypoint < -0.05) | (keypoint > 1.05)).any(1)
    missing = (score < VISIBLE) | outside
    keypoint *= size
    keypoint[missing], score[missing] = 0, 0
    return None if missing.all() else Person(keypoint, score)


def assign_hands(found: list[tuple[str, np.ndarray]], body: Array) -> dict[str, np.ndarray]:
    """The Hands model's landmarks (21, 2) by side: the body's nearest wrist or the label's."""
    hands: dict[str, np.ndarray] = {}
    for label, hand in found:
        side = {'Left': 'right', 'Right': 'left'}[label]  # labels are mirrored
        if body is not None and min(body[15, 2], body[16, 2]) >= VISIBLE:
            gap = np.linalg.norm(body[[16, 15], :2] - hand[0], axis=1)
            side = ('right', 'left')[int(gap.argmin())]
        if side in hands:
            side = 'left' if side == 'right' else 'right'
        hands.setdefault(side, hand)
    return hands


class HolisticEstimator(ExitStack):
    """The default estimator; use it in a ``with`` block, one for each video."""

    name = 'mediapipe-0.10.14b'
    layout = 'imigue22'

    def __init__(self) -> None:
        super().__init__()
        try:
            import mediapipe

            hands = mediapipe.solutions.hands.Hands(max_num_hands=2, model_complexity=1)
        except (ImportError, AttributeError) as error:
            needed = 'a video, unlike skeletons, needs MediaPipe 0.10.14 (Python 3.10 to 3.12)'
            raise PoseError(f"{needed}: pip install 'mg-plugins[video]'") from error
        self._hands = self.enter_context(hands)
        self._holistic = self.enter_context(_holistic(Path(mediapipe.__file__).parent))
        self._idle = 0  # frames until the Hands model searches again

    def __call__(self, image: np.ndarray, time: float) -> list[Person]:
        """At most one person."""
        result = self._holistic.process(image)
        body = _array(result.pose_landmarks, visibility=True)
        right, left = map(_array, (result.right_hand_landmarks, result.left_hand_landmarks))
        hands = dict(right=right, left=left)
        self._idle -= 1
        if right is None and left is None and self._idle <= 0:
            other = self._hands.process(image)
            labels = [kind.classification[0].label for kind in other.multi_handedness or ()]
            found = map(_array, other.multi_hand_landmarks or ())
            hands.update(assign_hands(list(zip(labels, found, strict=True)), body))
            self._idle = 0 if labels else SEARCH
        person = imigue22(body, hands['right'], hands['left'], image.shape[1::-1])
        return [] if person is None else [person]


def _holistic(folder: Path) -> AbstractContextManager:
    """MediaPipe's Holistic graph at complexity 1, less the face mesh, a sixth of its time."""
    from mediapipe.framework.calculator_pb2 import CalculatorGraphConfig
    from mediapipe.python.solution_base import SolutionBase

    path = folder / 'modules' / 'holistic_landmark' / 'holistic_landmark_cpu.binarypb'
    graph = CalculatorGraphConfig.FromString(path.read_bytes())
    nodes = [n for n in graph.node if not any('face' in name for name in n.output_stream)]
    streams = [name for name in graph.output_stream if 'face' not in name]
    for field, kept in ((graph.node, nodes), (graph.output_stream, streams)):
        del field[:]
        field.extend(kept)
    options = dict(smooth_landmarks=True, enable_segmentation=False, smooth_segmentation=True)
    return SolutionBase(
        graph_config=graph,
        side_inputs=dict(options, model_complexity=1, use_prev_landmarks=True),
        outputs=['pose_landmarks', 'left_hand_landmarks', 'right_hand_landmarks'],
    )


def _array(landmarks: object, visibility: bool = False) -> Array:
    if landmarks is None:
        return None
    rows = [(p.x, p.y, p.visibility) if visibility else (p.x, p.y) for p in landmarks.landmark]
    return np.array(rows, np.float32)

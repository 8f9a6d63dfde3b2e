"""Run MMAction2's compact transforms here and in a spawned process; prints the sizes they give."""

import json
import multiprocessing

import numpy as np


def sample() -> dict:
    """A clip of one person in three frames, whose joints span 39 by 38 pixels."""
    clip = np.linspace(10, 50, 1 * 3 * 5 * 2).reshape(1, 3, 5, 2)
    images = [np.zeros((100, 200, 3), np.uint8)] * 3
    return {'keypoint': clip, 'img_shape': (100, 200), 'imgs': images}


def work(transform, sizes) -> None:
    sizes.put(transform(sample())['img_shape'])


def main() -> None:
    from mmaction.datasets.transforms import MMCompact, PoseCompact

    import mg_plugins  # noqa: F401

    transforms = [kind(padding=0.0, hw_ratio=None) for kind in (PoseCompact, MMCompact)]
    context = multiprocessing.get_context('spawn')
    sizes = context.Queue()
    process = context.Process(target=work, args=(transforms[0], sizes))
    process.start()
    here = [transform(sample())['img_shape'] for transform in transforms]
    process.join()
    print(json.dumps([*here, sizes.get(timeout=1)]))


if __name__ == '__main__':
    main()

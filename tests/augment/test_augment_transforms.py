"""Registered transforms in MMAction2's pipelines and in real dataloaders."""

import copy
import pickle

import numpy as np
import pytest
import torch

pytest.importorskip('mmaction')

from mmaction.registry import TRANSFORMS  # noqa: E402
from mmengine.dataset import pseudo_collate  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

import mg_plugins  # noqa: F401, E402
from mg_plugins.augment import SampleRandomness  # noqa: E402
from mg_plugins.augment.base import AUGMENTATIONS  # noqa: E402
from mg_plugins.augment.batched import BatchedViews  # noqa: E402
from mg_plugins.data.annotations import save_annotations  # noqa: E402
from mg_plugins.data.layouts import LayoutError  # noqa: E402
from mg_plugins.data.mm.dataset import MGPoseDataset  # noqa: E402

VIEWS = [
    dict(chain='strong'),
    dict(chain='weak', feat='bone'),
    dict(chain='micro_gesture', feat='joint_motion'),
]


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmaction')


@pytest.fixture(scope='module')
def ann_file(tmp_path_factory):
    rng = np.random.default_rng(0)
    clips = [
        dict(
            frame_dir=f'clip{i}',
            label=i % 4,
            total_frames=12 + i,
            keypoint=rng.uniform(1, 9, (1, 12 + i, 22, 2)).astype(np.float32),
            keypoint_score=(rng.random((1, 12 + i, 22)) > 0.2).astype(np.float32),
            img_shape=(720, 1280),
            original_shape=(720, 1280),
        )
        for i in range(12)
    ]
    path = tmp_path_factory.mktemp('clips') / 'clips.pkl'
    split = dict(train=[clip['frame_dir'] for clip in clips])
    save_annotations(path, split, clips, dict(layout='imigue22', classes=list('abcd')))
    return path


def sample(dims=2, persons=1):
    rng = np.random.default_rng(0)
    keypoint = rng.normal(size=(persons, 20, 22, dims)).cumsum(1).astype(np.float32)
    score = (rng.random((persons, 20, 22)) > 0.2).astype(np.float32)
    keypoint[score == 0] = 0
    return dict(frame_dir='clip', label=3, sample_idx=7, keypoint=keypoint, keypoint_score=score)


@pytest.mark.parametrize('name', sorted(AUGMENTATIONS))
def test_every_augmentation_is_a_transform(name):
    given = sample()
    transform = TRANSFORMS.build(dict(type=name, layout='imigue22', p=1.0, seed=1))
    results = transform(copy.deepcopy(given))
    assert results['label'] == given['label'] and results['frame_dir'] == given['frame_dir']
    assert results['keypoint'].shape == given['keypoint'].shape
    assert not results['keypoint'][results['keypoint_score'] == 0].any()
    again = TRANSFORMS.build(dict(type=name, layout='imigue22', p=1.0, seed=1))
    np.testing.assert_array_equal(again(copy.deepcopy(given))['keypoint'], results['keypoint'])
    assert 'Source:' in type(transform).__doc__ and repr(transform).startswith(f'{name}(p=1.0')


def test_transforms_of_before_keep_their_arguments():
    for config in (dict(type='MGRotate', max_angle=0.1), dict(type='MGScale', strength=0.1)):
        given = sample(dims=3)
        turned = TRANSFORMS.build(config)(copy.deepcopy(given))['keypoint']
        assert 0 < np.abs(turned - given['keypoint']).max()
        # Without scores a joint at the origin is missing, and stays there.
        del given['keypoint_score']
        results = TRANSFORMS.build(config)(copy.deepcopy(given))
        assert 'keypoint_score' not in results
        assert not results['keypoint'][(given['keypoint'] == 0).all(-1)].any()
        with pytest.raises(ValueError, match='must not be negative'):
            TRANSFORMS.build({**config, list(config)[1]: -0.1})


def pipeline(*steps):
    return [
        dict(type='MGNormalize', layout='imigue22'),
        dict(type='MGResample', clip_len=16, crop=(0.5, 1.0)),
        *steps,
        dict(type='FormatGCNInput', num_person=2),
        dict(type='PackActionInputs'),
    ]


def batches(ann_file, steps, workers, epochs=2, seed=11, context=None):
    """Inputs (clips, ...) and labels of some epochs, in the order of the data set."""
    np.random.seed(seed)
    dataset = MGPoseDataset(ann_file, pipeline(*steps), split='train')
    loader = DataLoader(
        dataset,
        batch_size=3,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=pseudo_collate,
        multiprocessing_context=context if workers else None,
        # What the Runner does to workers: another state of numpy in each.
        worker_init_fn=seed_worker,
    )
    epochs_of = []
    for _ in range(epochs):
        inputs, labels = [], []
        for batch in loader:
            inputs += batch['inputs']
            labels += [int(one.gt_label) for one in batch['data_samples']]
        epochs_of.append((torch.stack(inputs), labels))
    return epochs_of


def seed_worker(worker):
    np.random.seed(worker + 100)


AUGMENTED = (
    dict(type='MGShear'),
    dict(type='MGCrop'),
    dict(type='MGJitter', p=0.7),
    dict(type='MGFlip', layout='imigue22'),
    dict(type='MGSkeFeat', layout='imigue22'),
)
MULTIVIEW = (dict(type='MultiView', layout='imigue22', views=VIEWS),)


@pytest.mark.parametrize(
    'steps', [AUGMENTED, (dict(type='MultiView', layout='imigue22', views=VIEWS),)]
)
def test_same_seed_same_clips_whatever_the_workers(ann_file, steps):
    alone = batches(ann_file, steps, 0)
    for workers in (1, 2):
        for (one, labels), (other, same) in zip(
            alone, batches(ann_file, steps, workers), strict=True
        ):
            assert torch.equal(one, other) and labels == same == [i % 4 for i in range(12)]
    (first, _), (second, _) = alone
    changed = (first != second).flatten(1).any(1)
    assert changed.all(), 'a second epoch must see other augmentations'
    assert not torch.equal(first, batches(ann_file, steps, 0, seed=12)[0][0])


@pytest.mark.slow
def test_same_seed_same_clips_in_a_spawned_worker(ann_file):
    alone = batches(ann_file, AUGMENTED, 0)
    spawned = batches(ann_file, AUGMENTED, 1, context='spawn')
    for (one, _), (other, _) in zip(alone, spawned, strict=True):
        assert torch.equal(one, other)


def test_copies_count_their_own_visits():
    randomness = SampleRandomness(3)
    other = copy.deepcopy(randomness)
    third = pickle.loads(pickle.dumps(randomness))
    draws = [one.of(dict(sample_idx=2)).random() for one in (randomness, other, third)]
    assert draws[0] == draws[1] == draws[2]
    assert randomness.of(dict(sample_idx=2)).random() != draws[0]
    assert other.visits.is_shared() and third.visits.is_shared()
    results = dict(sample_idx=9)
    assert randomness.of(results) is other.of(results), 'later transforms go on with the generator'


def test_views_reach_the_model(ann_file):
    ((inputs, _),) = batches(ann_file, MULTIVIEW, 0, epochs=1)
    assert inputs.shape == (12, 3, 2, 16, 22, 3) and inputs.dtype == torch.float32
    assert not inputs[:, :, 1].any(), 'the padded person is empty in every view'
    joint, bone, motion = inputs[:, :, 0].unbind(1)
    neck = 1  # the centre is the root: no bone, but a joint at the origin that is there
    assert not bone[:, :, neck, :2].any() and joint[:, :, neck, 2].any()
    assert not motion[:, -1, :, :2].any()


def test_a_collated_batch_gets_views_on_its_device(ann_file):
    # Without MGSkeFeat, FormatGCNInput leaves the scores in the last channel.
    ((collated, _),) = batches(ann_file, (), 0, epochs=1)
    ((plain, _),) = batches(
        ann_file, (dict(type='MGSkeFeat', layout='imigue22', feat='bone'),), 0, epochs=1
    )
    clips = collated[:, 0]
    views = BatchedViews('imigue22', [dict(chain='strong', feat='bone'), dict(feat='bone')])
    out = views(clips[..., :-1], clips[..., -1])
    assert out.shape == (12, 2, 2, 16, 22, 3)
    torch.testing.assert_close(out[:, 1], plain[:, 0])
    assert not out[:, :, 1].any(), 'the padded person is empty in every view'


def test_a_view_without_augmentation_is_the_clip(ann_file):
    given = sample()
    plain = TRANSFORMS.build(dict(type='MGSkeFeat', layout='imigue22', feat=['joint', 'bone']))
    views = TRANSFORMS.build(
        dict(type='MultiView', layout='imigue22', views=[dict(feat=['joint', 'bone'])] * 2)
    )
    expected = plain(copy.deepcopy(given))['keypoint']
    results = views(given)
    np.testing.assert_array_equal(results['keypoint'], np.concatenate([expected] * 2, axis=1))
    assert results['num_clips'] == 2 and 'keypoint_score' not in results


def test_wrong_use_is_named():
    views = TRANSFORMS.build(dict(type='MultiView', layout='coco17', views=VIEWS))
    with pytest.raises(LayoutError, match="'clip' has 22 joints, layout 'coco17' has 17"):
        views(sample())
    bare = sample()
    del bare['keypoint_score']
    with pytest.raises(ValueError, match='MultiView needs keypoint_score'):
        views(bare)
    with pytest.raises(ValueError, match='MGLimbs needs the joint layout'):
        TRANSFORMS.build(dict(type='MGLimbs'))

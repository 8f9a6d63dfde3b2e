"""MGPoseDataset and class-balanced sampling, in MMEngine's real loaders."""

import os
import pickle

import numpy as np
import pytest

pytest.importorskip('mmaction')

from mmaction.datasets import PoseDataset  # noqa: E402
from mmaction.registry import DATASETS  # noqa: E402
from mmengine.config import ConfigDict  # noqa: E402
from mmengine.dataset import ClassBalancedDataset, ConcatDataset, RepeatDataset  # noqa: E402
from mmengine.registry import DATA_SAMPLERS, init_default_scope  # noqa: E402
from mmengine.runner import Runner  # noqa: E402

import mg_plugins  # noqa: F401, E402
from mg_plugins.data import (  # noqa: E402
    AnnotationError,
    load_annotations,
    save_annotations,
)
from mg_plugins.data.mm.dataset import (  # noqa: E402
    MGClassBalancedSampler,
    MGPoseDataset,
    dataset_labels,
)
from mg_plugins.data.storage import ClipFolder  # noqa: E402
from mg_plugins.errors import UserError  # noqa: E402

COUNTS = (40, 10, 4, 2)
LABELS = np.repeat(np.arange(4), COUNTS)


def counts(dataset):
    """Clips of each class."""
    return np.bincount(dataset.labels[dataset.labels >= 0], minlength=4)


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """The same long-tailed set of 4 classes and 4 subjects as .pkl and .npz."""
    rng = np.random.default_rng(0)
    clips = [
        dict(
            frame_dir=f'clip{i}',
            label=int(label),
            total_frames=6,
            keypoint=rng.uniform(1, 9, (1, 6, 22, 2)).astype(np.float32),
            keypoint_score=np.ones((1, 6, 22), np.float32),
            img_shape=(720, 1280),
            original_shape=(720, 1280),
            session=f'{i // 10:04d}',
            subject=str(i % 4 + 1),
            start=i,
            end=i + 5,
            fps=25.0,
            outcome='win' if i % 2 else 'lose',
        )
        for i, label in enumerate(LABELS)
    ]
    names = [clip['frame_dir'] for clip in clips]
    split = dict(train=names[::2], val=names[1::2], none=[])
    meta = dict(layout='imigue22', classes=['a', 'b', 'c', 'd'], source='synthetic')
    folder = tmp_path_factory.mktemp('files')
    for suffix in ('.pkl', '.npz', '.mg'):
        save_annotations(folder / f'set{suffix}', split, clips, meta)
    return folder


@pytest.mark.parametrize('suffix', ['.pkl', '.npz', '.mg'])
def test_samples_carry_their_fields(files, suffix):
    dataset = DATASETS.build(
        dict(
            type='MGPoseDataset',
            ann_file=str(files / f'set{suffix}'),
            split='val',
            pipeline=[],
        )
    )
    assert len(dataset) == 28
    sample = dataset[3]
    assert sample['frame_dir'] == 'clip7' and sample['label'] == 0 and sample['sample_idx'] == 3
    assert sample['keypoint'].shape == (1, 6, 22, 2) and sample['keypoint'].flags.writeable
    fields = dict(session='0000', subject='4', start=7, end=12, fps=25.0, outcome='win')
    assert {key: sample[key] for key in fields} == fields
    sample['keypoint'][:] = 0
    assert dataset[3]['keypoint'].all()


def test_same_samples_as_upstream(files):
    ours = MGPoseDataset(files / 'set.pkl', [], split='train')
    theirs = PoseDataset(str(files / 'set.pkl'), [], split='train')
    assert len(ours) == len(theirs)
    for left, right in zip(ours, theirs, strict=True):
        assert left.keys() == right.keys()
        assert all(np.array_equal(left[key], right[key]) for key in left)


@pytest.mark.parametrize('suffix', ['.pkl', '.npz', '.mg'])
def test_clips_without_a_label(tmp_path, files, suffix, caplog):
    content = load_annotations(files / 'set.pkl')
    clips = [{k: v for k, v in clip.items() if k != 'label'} for clip in content['annotations'][:5]]
    path = tmp_path / f'set{suffix}'
    save_annotations(path, {}, [*clips, *content['annotations'][5:]], content['meta'])
    every = MGPoseDataset(path, [])
    assert len(every) == 56 and every.labels.tolist() == [-1] * 5 + LABELS[5:].tolist()
    assert 'label' not in every[0]
    assert counts(every).tolist() == [35, *COUNTS[1:]]
    with pytest.raises(UserError, match='5 of 56 clips have none.*labelled=True'):
        MGClassBalancedSampler(every)
    labelled = MGPoseDataset(path, [], labelled=True)
    assert '5 clips without a label are left out, 51 are kept' in caplog.text
    assert len(labelled) == 51 == len(MGClassBalancedSampler(labelled))
    assert len(MGPoseDataset(path, [], share=0.1, subjects=[1])) == 3
    save_annotations(path, {}, clips, content['meta'])
    with pytest.raises(AnnotationError, match='no clip of .* is left.*, with a label'):
        MGPoseDataset(path, [], labelled=True)


def test_a_folder_of_clips_is_not_copied(files):
    dataset = MGPoseDataset(files / 'set.mg', [], split='val', exclude_subjects=[4])
    assert isinstance(dataset.data_list, ClipFolder)
    part = dataset.get_subset([3, 1])
    assert [part[0]['frame_dir'], part[1]['frame_dir']] == [
        dataset[3]['frame_dir'],
        dataset[1]['frame_dir'],
    ]
    assert pickle.loads(pickle.dumps(dataset))[5]['frame_dir'] == dataset[5]['frame_dir']


def test_meta_of_the_file(files):
    dataset = MGPoseDataset('set.npz', [], data_root=str(files))
    assert dataset.classes == ('a', 'b', 'c', 'd') == tuple(dataset.metainfo['classes'])
    assert dataset.layout.name == 'imigue22' and dataset.metainfo['source'] == 'synthetic'
    np.testing.assert_array_equal(counts(dataset), COUNTS)
    np.testing.assert_array_equal(dataset.labels, LABELS)
    assert dataset.get_cat_ids(50) == [2]
    named = MGPoseDataset(files / 'set.pkl', [], metainfo=dict(classes=list('wxyz')))
    assert named.classes == tuple('wxyz')


def test_subjects_left_out_within_a_split(files):
    def subjects(**options):
        dataset = MGPoseDataset(files / 'set.pkl', [], **options)
        return {sample['subject'] for sample in dataset}, len(dataset)

    assert subjects(subjects=[1, '3']) == ({'1', '3'}, 28)
    assert subjects(exclude_subjects=[4]) == ({'1', '2', '3'}, 42)
    assert subjects(split='train', exclude_subjects=[1]) == ({'3'}, 14)
    assert subjects(subjects=[1, 2, 3], exclude_subjects=[2]) == ({'1', '3'}, 28)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(split='test'), r"no split 'test'; it has \['none', 'train', 'val'\]"),
        (dict(split='none'), "no clip.*left after split 'none'"),
        (dict(subjects=[9]), r"no clips of subjects \['9'\]; it has \['1', '2', '3', '4'\]"),
        (dict(split='train', subjects=[2]), r"subjects \['2'\]; it has \['1', '3'\]"),
        (dict(subjects=[1], exclude_subjects=[1]), 'no clip'),
        (dict(layout='coco17'), "22 joints, but layout 'coco17' has 17"),
        (dict(num_classes=3), "clip 'clip54' has label 3, but there are 3 classes"),
    ],
)
def test_wrong_choices_are_explained(files, options, message):
    with pytest.raises(AnnotationError, match=message):
        MGPoseDataset(files / 'set.pkl', [], **options)


def test_a_share_of_the_labels(files):
    def ids(**options):
        dataset = MGPoseDataset(files / 'set.pkl', [], **options)
        return [dataset.get_data_info(i)['frame_dir'] for i in range(len(dataset))]

    few = MGPoseDataset(files / 'set.pkl', [], share=0.1)
    np.testing.assert_array_equal(counts(few), [4, 1, 1, 1])
    whole = ids()
    assert ids(share=1) == whole
    assert ids(share=0.1) == ids(share=0.1) != ids(share=0.1, share_seed=1)
    assert set(ids(share=0.1)) < set(ids(share=0.5)) < set(whole)
    assert sorted(ids(share=0.5) + ids(share=0.5, rest=True)) == sorted(whole)
    with pytest.raises(AnnotationError, match='without a share of 1 of each class'):
        ids(share=1, rest=True)
    with pytest.raises(ValueError, match='share must be above 0'):
        ids(share=0)


def test_subjects_as_a_text_are_refused(files):
    with pytest.raises(TypeError, match=r'such as \[1, 3\]'):
        MGPoseDataset(files / 'set.pkl', [], subjects='13')


def test_a_malicious_annotation_file_is_refused(tmp_path):
    class Payload:
        def __reduce__(self):
            return os.system, (f'touch {tmp_path}/marker',)

    (tmp_path / 'a.pkl').write_bytes(pickle.dumps([Payload()]))
    with pytest.raises(AnnotationError, match='system'):
        MGPoseDataset(tmp_path / 'a.pkl', [])
    assert not (tmp_path / 'marker').exists()
    PoseDataset(str(tmp_path / 'a.pkl'), [])  # upstream, for contrast, runs it
    assert (tmp_path / 'marker').exists()


def test_subsets_keep_labels_in_step(files):
    dataset = MGPoseDataset(files / 'set.pkl', [])
    subset = dataset.get_subset([0, 41, 55])
    assert subset.labels.tolist() == [0, 1, 3] and len(dataset.labels) == 56
    dataset.get_subset_([55, 0])
    assert dataset.labels.tolist() == [3, 0]
    assert MGPoseDataset(files / 'set.pkl', [], indices=5).labels.tolist() == [0] * 5
    lazy = MGPoseDataset(files / 'set.pkl', [], lazy_init=True)
    lazy.full_init()
    assert lazy.classes == tuple('abcd')


def draws(sampler, epochs=1, start=0):
    taken = []
    for epoch in range(start, start + epochs):
        sampler.set_epoch(epoch)
        taken += list(sampler)
    return np.array(taken)


@pytest.mark.parametrize('power', [0, 0.5, 1])
def test_classes_come_in_the_documented_shares(files, power):
    dataset = MGPoseDataset(files / 'set.pkl', [])
    sampler = MGClassBalancedSampler(dataset, power=power, seed=0)
    assert len(sampler) == len(dataset) == len(draws(sampler))
    taken = draws(sampler, epochs=100)
    expected = np.array(COUNTS, float) ** (1 - power)
    shares = np.bincount(LABELS[taken], minlength=4) / len(taken)
    np.testing.assert_allclose(shares, expected / expected.sum(), atol=0.003)
    # Within a class all clips come equally often, up to four standard deviations of chance.
    often = np.bincount(taken, minlength=56)
    part = sampler.expected % 1
    slack = 4 * np.sqrt(100 * part * (1 - part)) + 1e-6
    assert (abs(often - 100 * sampler.expected) <= slack).all()


@pytest.mark.parametrize('power', [0, 0.5, 1])
def test_an_epoch_spreads_its_draws(files, power):
    sampler = MGClassBalancedSampler(MGPoseDataset(files / 'set.pkl', []), power=power, seed=0)
    by_class = np.bincount(LABELS, weights=sampler.expected)
    for epoch in range(20):
        taken = draws(sampler, start=epoch)
        assert (abs(np.bincount(taken, minlength=56) - sampler.expected) < 1).all()
        assert (abs(np.bincount(LABELS[taken], minlength=4) - by_class) < 1).all()


def test_draws_depend_on_seed_and_epoch_alone(files):
    dataset = MGPoseDataset(files / 'set.pkl', [])
    first = MGClassBalancedSampler(dataset, seed=1)
    draws(first, epochs=3)
    resumed = MGClassBalancedSampler(dataset, seed=1)
    np.testing.assert_array_equal(draws(first, start=3), draws(resumed, start=3))
    assert (draws(first, start=3) != draws(first, start=4)).any()
    assert (draws(MGClassBalancedSampler(dataset, seed=2), start=3) != draws(first, start=3)).any()
    fixed = MGClassBalancedSampler(dataset, seed=1, shuffle=False)
    np.testing.assert_array_equal(draws(fixed, start=0), draws(fixed, start=9))
    assert (np.diff(draws(fixed)) >= 0).all()


@pytest.mark.parametrize('round_up', [True, False])
def test_ranks_share_one_sequence(files, monkeypatch, round_up):
    dataset = MGPoseDataset(files / 'set.pkl', [], indices=55)
    whole = draws(MGClassBalancedSampler(dataset, seed=5), start=2)
    parts = []
    for rank in range(2):
        monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda rank=rank: (rank, 2))
        sampler = MGClassBalancedSampler(dataset, seed=5, round_up=round_up)
        parts.append(draws(sampler, start=2))
        assert len(sampler) == len(parts[-1])
    assert [len(part) for part in parts] == ([28, 28] if round_up else [28, 27])
    together = np.empty(sum(map(len, parts)), int)
    together[0::2], together[1::2] = parts
    np.testing.assert_array_equal(together[:55], whole)


def test_labels_through_wrappers(files):
    dataset = MGPoseDataset(files / 'set.pkl', [], split='val')
    repeated = RepeatDataset(dataset, times=3)
    labels = dataset_labels(repeated)
    assert len(labels) == len(repeated) == 84
    assert all(repeated[i]['label'] == labels[i] for i in (0, 27, 28, 55, 83))
    upstream = PoseDataset(str(files / 'set.pkl'), [], split='train')
    both = ConcatDataset([dataset, upstream], ignore_keys=list(dataset.metainfo))
    labels = dataset_labels(both)
    assert all(both[i]['label'] == labels[i] for i in range(56))
    sampler = MGClassBalancedSampler(both, power=1, seed=0)
    assert len(sampler) == 56 and max(sampler) < 56
    balanced = ClassBalancedDataset(dataset, oversample_thr=0.3)
    assert len(balanced) > len(dataset)
    with pytest.raises(TypeError, match='labels of list'):
        MGClassBalancedSampler([1, 2])
    with pytest.raises(ValueError, match='power is 1.5'):
        MGClassBalancedSampler(dataset, power=1.5)


def test_a_config_builds_the_loader(files):
    """The default sampler's keys stay when a config only changes the type."""
    init_default_scope('mmaction')
    pipeline = [
        dict(type='MGNormalize', layout='imigue22'),
        dict(type='MGResample', clip_len=4),
        dict(type='MGSkeFeat', layout='imigue22', feat=['joint', 'bone']),
        dict(type='FormatGCNInput', num_person=1),
        dict(type='PackActionInputs', meta_keys=('session', 'subject', 'outcome')),
    ]
    loader = Runner.build_dataloader(
        ConfigDict(
            batch_size=8,
            num_workers=0,
            sampler=dict(type='MGClassBalancedSampler', shuffle=True, power=0.5),
            dataset=dict(
                type='RepeatDataset',
                times=2,
                dataset=dict(
                    type='MGPoseDataset', ann_file=str(files / 'set.npz'), pipeline=pipeline
                ),
            ),
        ),
        seed=0,
    )
    batches = list(loader)
    assert sum(len(batch['inputs']) for batch in batches) == 112
    assert batches[0]['inputs'][0].shape == (1, 1, 4, 22, 6)
    assert batches[0]['data_samples'][0].outcome in ('win', 'lose')
    assert DATA_SAMPLERS.get('MGClassBalancedSampler') is MGClassBalancedSampler

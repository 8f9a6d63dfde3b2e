"""Views that the data preprocessor makes of a batch."""

import pytest
import torch
from mmaction.structures import ActionDataSample

from mg_plugins.contrast.losses import ContrastError
from mg_plugins.contrast.mm.models import ContrastPreprocessor


def batch(clips=4, channels=4):
    """Collated clips (1, M, T, V, coordinates and score), one joint of the first one missing."""
    inputs = [torch.randn(1, 1, 12, 20, channels) for _ in range(clips)]
    for clip in inputs:
        clip[..., -1] = 1
    inputs[0][..., 7, :] = 0
    return dict(inputs=inputs, data_samples=[ActionDataSample() for _ in range(clips)])


def test_views_are_made_in_training_only():
    make = ContrastPreprocessor(['weak', ['MGFlip'], []], 'msr_action3d')
    data = batch()
    views = make(data, training=True)['inputs']
    assert views.shape == (4, 3, 1, 12, 20, 3) and views.dtype == torch.float32
    clips = torch.stack(data['inputs'])[..., :3]
    assert torch.equal(views[:, 2], clips[:, 0])
    assert not torch.allclose(views[:, 0], views[:, 2])
    assert not views[0, 0, :, :, 7].any()
    assert torch.equal(make(data)['inputs'], torch.stack(data['inputs']))
    assert len(make(data, training=True)['data_samples']) == 4


def test_every_feature_and_the_score_of_flat_clips():
    features = ['joint', 'bone', 'joint_motion']
    make = ContrastPreprocessor([[], []], 'imigue22', features)
    inputs = [torch.ones(1, 1, 12, 22, 3) for _ in range(2)]
    views = make(dict(inputs=inputs, data_samples=None), training=True)['inputs']
    assert views.shape == (2, 2, 1, 12, 22, 9)
    assert (views[..., 2] == 1).all()


def test_one_seed_makes_the_same_views():
    made = []
    for _ in range(2):
        torch.manual_seed(3)
        data = batch()
        make = ContrastPreprocessor(['strong', 'strong'], 'msr_action3d')
        made.append(make(data, training=True)['inputs'])
    assert torch.equal(*made)
    assert not torch.allclose(made[0][:, 0], made[0][:, 1])


def test_views_of_the_pipeline_pass_as_they_are():
    data = dict(inputs=[torch.randn(2, 1, 12, 20, 3) for _ in range(4)], data_samples=None)
    assert ContrastPreprocessor()(data, training=True)['inputs'].shape == (4, 2, 1, 12, 20, 3)


def test_what_cannot_work_is_explained():
    with pytest.raises(ContrastError, match='needs the joint layout'):
        ContrastPreprocessor(['weak', 'weak'])
    with pytest.raises(ValueError, match="recipe 'wekk' is unknown"):
        ContrastPreprocessor(['wekk', 'weak'], 'msr_action3d')
    make = ContrastPreprocessor(['weak', 'weak'], 'imigue22')
    with pytest.raises(ContrastError, match='leave MGSkeFeat out'):
        make(batch(), training=True)

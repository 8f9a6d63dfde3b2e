"""The contact sheet and the animations, as a user makes them."""

import numpy as np
import pytest
from PIL import Image

from mg_plugins.augment.base import AUGMENTATIONS
from mg_plugins.augment.pictures import (
    animate,
    augment,
    contact_sheet,
    describe,
    load_clip,
    names_of,
)
from mg_plugins.data.annotations import save_annotations
from mg_plugins.data.synthetic import make_synthetic
from mg_plugins.errors import UserError

from paths import load_tool


@pytest.fixture(scope='module')
def ann_file(tmp_path_factory):
    """A small synthetic set in metres."""
    path = tmp_path_factory.mktemp('smg') / 'smg.pkl'
    split, clips, meta = make_synthetic(subjects=2, clips=20, dataset='smg')
    save_annotations(path, split, clips, meta)
    return path


@pytest.fixture(scope='module')
def clip(ann_file):
    return load_clip(ann_file)


def test_sheet_and_animations_of_the_synthetic_set(tmp_path, capsys):
    folder = tmp_path / 'new/folder'
    wanted = ['--only', 'weak', 'MGShear', '--out', str(folder)]
    load_tool('show_augmentations').main(wanted)
    assert 'synthetic' in capsys.readouterr().out
    assert {file.name for file in folder.iterdir()} == {
        'augmentations.png',
        'MGShear.gif',
        'weak.gif',
    }
    sheet = np.asarray(Image.open(folder / 'augmentations.png').convert('RGB'))
    assert sheet.shape[1] >= 1000 and len(np.unique(sheet.reshape(-1, 3), axis=0)) > 50
    with Image.open(folder / 'MGShear.gif') as moving:
        assert moving.n_frames == 30
        first = np.asarray(moving.convert('RGB')).astype(int)
        moving.seek(12)
        assert np.abs(np.asarray(moving.convert('RGB')).astype(int) - first).max() > 50


def test_mistakes_are_named(tmp_path):
    with pytest.raises(UserError, match="'MGWobble' is unknown; there are"):
        load_tool('show_augmentations').main(['--only', 'MGWobble', '--out', str(tmp_path / 'a')])
    assert not list(tmp_path.iterdir())


def test_a_clip_by_its_name(ann_file, clip):
    name = clip.title.split('clip ')[1].split(',')[0]
    assert load_clip(ann_file, name).title == clip.title and 'synthetic' in clip.title
    with pytest.raises(UserError, match="smg.pkl.* has no clip 'nobody'; it has S0"):
        load_clip(ann_file, 'nobody')
    with pytest.raises(ValueError, match='layout'):
        load_clip(ann_file, layout='coco17')


def test_every_name_has_a_picture(clip, tmp_path):
    assert set(AUGMENTATIONS) < set(names_of())
    for name in names_of():
        changed = augment(clip, name, seed=1)
        assert changed.keypoint.shape == clip.keypoint.shape
        assert np.abs(changed.keypoint - clip.keypoint).max() > 0
        what, strength = describe(name)
        assert len(what) > 5 and ('strength' in strength or strength == 'recipe')
    contact_sheet(clip, ['MGViewpoint', 'micro_gesture'], tmp_path / 'sheet.png', strength=0.5)
    assert (tmp_path / 'sheet.png').stat().st_size > 10_000


def test_a_failure_leaves_no_file(clip, tmp_path, monkeypatch):
    monkeypatch.setattr('mg_plugins.augment.pictures.FRAMES', 4)
    monkeypatch.setattr(Image.Image, 'save', lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        animate(clip, 'MGShear', tmp_path / 'MGShear.gif')
    assert not list(tmp_path.iterdir())

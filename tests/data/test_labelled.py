"""Draws of the clips that keep their label, and the dataset that uses them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mg_plugins.data.classes import draw_labelled


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=80),
    st.sampled_from([0.01, 0.05, 0.1, 0.5, 1.0]),
    st.integers(0, 9),
)
def test_labelled_draws(labels, share, seed):
    clips = [f'{i:03d}' for i in range(len(labels))]
    chosen = draw_labelled(labels, clips, share, seed)
    labels = np.array(labels)
    for label in np.unique(labels):
        count = (labels == label).sum()
        expected = max(1, -(-count * round(share * 100) // 100))
        assert (labels[chosen] == label).sum() == expected
    order = np.random.default_rng(seed + 1).permutation(len(labels))
    again = draw_labelled(labels[order], np.array(clips)[order], share, seed)
    assert set(order[again]) == set(chosen)
    assert set(chosen) <= set(draw_labelled(labels, clips, 1.0, seed))
    if share < 0.5:
        assert set(chosen) <= set(draw_labelled(labels, clips, 0.5, seed))


def test_a_share_must_be_one():
    with pytest.raises(ValueError, match='above 0 and up to 1, got 10'):
        draw_labelled([0, 1], ['a', 'b'], 10)

"""What is compiled for clips of many lengths: ``pool`` knows T at run time, ``mix`` does not."""

import pytest

from mg_plugins.kernels.setups import DTYPES

pytest.importorskip('triton', reason='pip install "mg-plugins[triton]"')

from mg_plugins.kernels.aot import variants

LENGTHS = range(30, 301)


@pytest.mark.parametrize('arch', ['sm_80', 'sm_90', 'gfx942'])
@pytest.mark.parametrize('dtype', DTYPES, ids=str)
def test_pool_is_compiled_at_most_twice_for_all_lengths(dtype, arch):
    keys = {}
    for t in LENGTHS:
        for variant in variants(dtype, t, 25, 64, 1, arch)[:2]:
            keys.setdefault(variant.name, set()).add(variant.key)
            assert 'T' not in variant.constexprs and variant.signature['T'] == 'i32'
            assert variant.kernel.arg_names.index('T') == list(variant.signature).index('T')
    assert {name: len(found) for name, found in keys.items()} == {
        'pool_forward': 2,
        'pool_backward': 2,
    }

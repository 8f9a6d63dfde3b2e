"""What is compiled for clips of many lengths: T is an argument at run time."""

import pytest

from mg_plugins.kernels.setups import DTYPES

pytest.importorskip('triton', reason='pip install "mg-plugins[triton]"')

from mg_plugins.kernels.aot import variants

LENGTHS = range(30, 301)
POWERS = {1 << (t - 1).bit_length() for t in LENGTHS}


@pytest.mark.parametrize('arch', ['sm_80', 'sm_90', 'gfx942'])
@pytest.mark.parametrize('dtype', DTYPES, ids=str)
@pytest.mark.parametrize('v', [17, 25, 48])
def test_at_most_one_compilation_a_power_of_two(v, dtype, arch):
    keys = {}
    for t in LENGTHS:
        for variant in variants(dtype, t, v, 64, 1, arch):
            power = 1 << (t - 1).bit_length()
            keys.setdefault(variant.name, {}).setdefault(power, set()).add(variant.key)
            assert 'T' not in variant.constexprs and variant.signature['T'] == 'i32'
            assert variant.kernel.arg_names.index('T') == list(variant.signature).index('T')
    for name, found in keys.items():
        assert all(len(of_power) == 1 for of_power in found.values()), name
        most = 2 if name.startswith('pool') else len(POWERS)
        assert len(set.union(*found.values())) <= most, name
    assert len(POWERS) == 5 and {'mix_forward', 'mix_backward', 'pool_forward'} <= set(keys)


@pytest.mark.parametrize('arch', ['sm_80', 'sm_90'])
@pytest.mark.parametrize('dtype', DTYPES, ids=str)
def test_every_size_has_blocks_that_hold_a_channel(dtype, arch):
    for t in (1, 16, 17, 33, 65, 129, 257, 513, 1024):
        for v in (1, 9, 16, 17, 32, 33, 64):
            for variant in variants(dtype, t, v, 6, 2, arch):
                cut = variant.constexprs
                assert cut['BC'] >= 1 and cut['BC'] * v <= cut['W'] and variant.programs >= 1
                assert cut.get('HELD', True) or not cut['ONE'], 'one tile keeps its graph'

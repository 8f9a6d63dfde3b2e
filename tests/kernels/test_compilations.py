"""What is compiled for clips of many lengths: at most one kernel for each power of two of T."""

import pytest
import torch

from mg_plugins.kernels.setups import DTYPES

pytest.importorskip('triton', reason='pip install "mg-plugins[triton]"')

from mg_plugins.kernels.aot import variants

LENGTHS = range(30, 301)
POWERS = {1 << (t - 1).bit_length() for t in LENGTHS}


@pytest.mark.parametrize('arch', ['sm_80', 'sm_90', 'gfx942'])
@pytest.mark.parametrize('dtype', DTYPES, ids=str)
def test_one_compilation_serves_many_lengths(dtype, arch):
    keys = {}
    for t in LENGTHS:
        for variant in variants(dtype, t, 25, 64, 1, arch):
            keys.setdefault(variant.name, set()).add(variant.key)
            assert 'T' not in variant.constexprs and variant.signature['T'] == 'i32'
            assert variant.kernel.arg_names.index('T') == list(variant.signature).index('T')
    assert {name: len(found) for name, found in keys.items() if len(found) > len(POWERS)} == {}
    assert len(keys['pool_forward']) <= 2


def test_triton_does_not_compile_for_properties_of_the_length():
    (variant, *_) = variants(torch.float32, 48, 25, 64, 1, 'sm_90')
    kernel = getattr(variant.kernel, 'fn', variant.kernel)
    options = [getattr(p, 'do_not_specialize', None) for p in getattr(variant.kernel, 'params', [])]
    if not options:
        pytest.skip(f"Triton's interpreter keeps no options of {kernel}")
    assert options[variant.kernel.arg_names.index('T')]

"""The heavy operations of the fusion, imported as ``mg_plugins.kernels``; needs torch alone.

Triton is imported at the first call that takes it.
"""

from .functional import mix, pool, pool_through, supported
from .reference import mix_reference, pool_reference
from .signatures import launches, reset_launches

__all__ = [
    'launches',
    'mix',
    'mix_reference',
    'pool',
    'pool_reference',
    'pool_through',
    'reset_launches',
    'supported',
]

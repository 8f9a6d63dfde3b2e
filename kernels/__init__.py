"""The heavy operations of the fusion, imported as ``mg_plugins.kernels``; needs torch alone."""

from .functional import mix, pool
from .reference import mix_reference, pool_reference

__all__ = ['mix', 'mix_reference', 'pool', 'pool_reference']

"""Learning without labels: two streams of one clip, contrasted within and across.

Importing :mod:`mg_plugins` registers the recognizers, heads, hooks and data pieces of this package.
"""

"""Augmentations of skeleton clips: pure functions in ``functional``, transforms beside them."""

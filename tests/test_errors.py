"""Numbers in messages."""

import pytest

from mg_plugins.errors import counted


@pytest.mark.parametrize(
    'phrase, one',
    [
        ('clips', '1 clip'),
        ('classes', '1 class'),
        ('bodies were dropped as noise', '1 body was dropped as noise'),
        ('pieces of tracks were joined', '1 piece of tracks was joined'),
        ('clips that are absent', '1 clip that is absent'),
        ('joints that are empty, null or NaN count as missing',
         '1 joint that is empty, null or NaN counts as missing'),
        ('recordings have times that do not increase, which were not used',
         '1 recording has times that do not increase, which were not used'),
        ('frames lack a number: each follows the last',
         '1 frame lacks a number: each follows the last'),
    ],
)  # fmt: skip
def test_one_is_no_plural(phrase, one) -> None:
    assert counted(1, phrase) == one
    assert counted(2, phrase) == f'2 {phrase}' and counted(0, phrase) == f'0 {phrase}'

"""Errors whose message is all that a user needs, one line of every tool; numbers in messages."""

_ONE = dict(are='is', were='was', have='has', hold='holds', lack='lacks', show='shows', go='goes',
            count='counts')  # fmt: skip


def counted(number: int, phrase: str) -> str:
    """``'3 clips are absent'``, and ``'1 clip is absent'`` of the same phrase, written for several.

    The first word is the noun; its verb is the first that is known, and the next after 'that'.
    """
    noun, *rest = phrase.split(' ')
    if number == 1:
        for many, one in (('ies', 'y'), ('sses', 'ss'), ('s', '')):
            if noun.endswith(many):
                noun = noun.removesuffix(many) + one
                break
        for place, word in enumerate(rest):
            if word in _ONE:
                rest[place] = _ONE[word]
                if rest[place - 1] != 'that' or not place:
                    break
    return ' '.join([str(number), noun, *rest])


class UserError(ValueError):
    """Bad input. The message says what was given, in which file, what was expected, what to do."""

"""Errors whose message is all that a user needs; every tool prints them as one line."""


class UserError(ValueError):
    """Bad input. The message says what was given, in which file, what was expected, what to do."""

"""The one error that a user of squeezekit is meant to read.

Anything a user can cause (a wrong path, an unknown name, a damaged file) ends in a :class:`UserError` whose
text says where it happened, what was wrong and what to do. The command line prints that text on one line and
exits with code 2.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["UserError", "suggest"]


class UserError(Exception):
    """A mistake that the user can mend, told as ``WHERE: what was wrong (what to do)``.

    Examples
    --------
    >>> raise UserError("photos/: no class folders found (expected photos/CLASS/image.jpg)")
    Traceback (most recent call last):
    squeezekit.errors.UserError: photos/: no class folders found (expected photos/CLASS/image.jpg)
    """


def suggest(name: str, choices: Iterable[str]) -> str:
    """Name the choice that was probably meant, as a tail for an error's text.

    Parameters
    ----------
    name
        What the user wrote.
    choices
        What would have been accepted.

    Returns
    -------
    str
        ``"; did you mean 'x'?"``, or ``""`` where nothing is near.

    Examples
    --------
    >>> suggest("squeezenet1.1", ["squeezenet1_1", "alexnet"])
    "; did you mean 'squeezenet1_1'?"
    """
    from difflib import get_close_matches  # only now: most programs never err

    by_lowercase: dict[str, str] = {}
    for choice in choices:
        by_lowercase.setdefault(choice.lower(), choice)
    near = get_close_matches(name.lower(), by_lowercase, n=1)
    return f"; did you mean {by_lowercase[near[0]]!r}?" if near else ""

"""Errors that end a command with an exit status of their own; any other failure ends it with 1."""

from __future__ import annotations


class CommandError(ValueError):
    """A failure said in one line."""

    status = 1


class UsageError(CommandError):
    """An option whose value means nothing."""

    status = 2


class UnreliableError(CommandError):
    """A run that is done, and whose results are not to be relied on."""

    status = 3


class RefusedError(CommandError):
    """A recording that is refused, since something about it is questionable (`--strict`)."""

    status = 4


class OutsideError(CommandError):
    """A start or goal outside the map."""

    status = 5


class NoRoomError(CommandError):
    """A start or goal in an obstacle, or too near to one for what moves."""

    status = 6


class UnseenError(CommandError):
    """A start or goal that nobody has seen, where unknown space is blocked."""

    status = 7


class UnreachableError(CommandError):
    """A goal to which there is no safe way."""

    status = 8

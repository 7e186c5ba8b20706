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

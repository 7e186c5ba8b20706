"""Modules of optional packages, imported when something asks for them."""

from __future__ import annotations

import importlib
from typing import Any


def import_optional(module: str, *, user: str, extra: str, package: str = "") -> Any:
    """The module, of which types are not known where its package is missing.

    Args:
        user: what needs it, for the message.
        extra: of this package, by which its package is installed.
        package: its name, where that is another one.

    Raises:
        ImportError: it is missing; the message says what to install.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = package or module
        raise ImportError(f"{user} needs {name} ({error}): pip install 'gradslam_ng[{extra}]'") from None

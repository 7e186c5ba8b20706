"""Open3D, imported when something asks for it: it takes seconds, and needs libraries of the system."""

from __future__ import annotations

from types import ModuleType


def import_open3d() -> ModuleType:
    """The module; ImportError says what to install where it cannot be loaded."""
    try:
        import open3d
    except (ImportError, OSError) as error:
        raise ImportError(
            f"Open3D cannot be loaded ({error}). Install it with 'pip install open3d'; it needs the system libraries "
            "libusb-1.0-0 libgl1 libegl1 libgomp1 (Debian, Ubuntu: apt-get install them)"
        ) from error
    return open3d

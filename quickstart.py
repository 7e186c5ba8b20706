"""Sets everything up in a virtual environment of its own, then runs SLAM on the embedded sequence, or the tests.

    python3 quickstart.py          reconstruct datasets/living_room and follow an error of the map back, into out/
    python3 quickstart.py test     run the whole test suite; further arguments go to pytest
    python3 quickstart.py check    lint, formatting, types and documentation first, then the same tests

Needs Python 3.11 or newer and a package index. As root on Debian or Ubuntu it also installs the system libraries that
Open3D's viewer wants; elsewhere it says which they are and goes on, since only viewing needs them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENV = Path(os.environ.get("GRADSLAM_NG_VENV", HERE / ".venv"))
TORCH = "torch==2.13.0"  # first and alone: what other packages would pull in may be a larger build
LIBRARIES = ["libusb-1.0-0", "libgl1", "libegl1", "libgomp1"]
DISPLAY = ["xvfb", "xauth", "libgl1-mesa-dri", "chromium"]  # a display and a browser for the tests of the viewers
CHECKS = {
    "lint": ["-m", "ruff", "check", "."],
    "formatting": ["-m", "ruff", "format", "--check", "."],
    "types": ["tests/test_types.py"],
    "documentation": [
        *["-m", "sphinx", "--fail-on-warning", "--keep-going", "-q", "-b", "html"],
        *["-D", "nb_execution_mode=off", "docs", "docs/_build/html"],  # tutorials are run by the tests
    ],
}


def main(arguments: list[str]) -> int:
    if sys.version_info < (3, 11):  # noqa: UP036, for whoever runs this with an older one
        return complain(f"Python 3.11 or newer is needed; this is {sys.version.split()[0]}")
    if not arguments:
        return demo()
    if arguments[0] not in ("test", "check"):
        return complain(f"expected nothing, or 'test' or 'check' and arguments for pytest; got {' '.join(arguments)}")
    python = environment(extras="[test,docs,dev]")
    libraries(python, LIBRARIES + DISPLAY)
    checks = CHECKS if arguments[0] == "check" else {}
    failed = [name for name, command in checks.items() if not passes(python, name, command)]
    if failed:
        complain(f"failed before the tests: {', '.join(failed)}")
    return test(python, arguments[1:]) or int(bool(failed))


def passes(python: Path, name: str, command: list[str]) -> bool:
    """Whether a check of the whole checkout finds nothing."""
    print(f"checking {name}", flush=True)
    return subprocess.call([python, *command], cwd=HERE) == 0


def test(python: Path, arguments: list[str]) -> int:
    """The exit status of pytest: a process for each core, of one thread each."""
    environ = {"OMP_NUM_THREADS": "1"} | os.environ
    return subprocess.call([python, "-m", "pytest", "-n", "auto", *arguments], cwd=HERE, env=environ)


def demo() -> int:
    """Reconstruct the embedded sequence and follow an error of its map back to the pixels."""
    python = environment(extras="")
    libraries(python, LIBRARIES)
    out = HERE / "out"
    steps = [
        ["-m", "gradslam_ng", "run", HERE / "datasets" / "living_room", "--out", out, "--overwrite"],
        ["-m", "demos.map_to_pixels", "--out", out],
    ]
    status = max(subprocess.call([python, *step], cwd=HERE) for step in steps)
    if status == 0:
        print("\nThe report, with the map to turn around; open it in a browser:")
        print(f"  {out / 'report.html'}")
        print(f"The pictures are beside it: map.png, trajectory.png, map_to_pixels.png in {out}")
    return status


def environment(extras: str) -> Path:
    """The virtual environment's Python, with the package and its dependencies installed."""
    python = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        print(f"making {VENV}", flush=True)
        if subprocess.call([sys.executable, "-m", "venv", VENV]) != 0:
            sys.exit(complain("no virtual environment could be made; on Debian install python3-venv"))
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for packages in ([TORCH], ["--editable", f"{HERE}{extras}"]):
        print("installing", *packages, flush=True)
        if subprocess.call([*pip, *packages]) != 0:
            sys.exit(complain(f"pip could not install {' '.join(packages)}"))
    return python


def libraries(python: Path, packages: list[str]) -> None:
    """See to it that Open3D can be imported, or say what it lacks."""
    missing = [name for name in packages if not installed(name)]
    if not missing:
        return
    apt = shutil.which("apt-get")
    if apt and hasattr(os, "geteuid") and os.geteuid() == 0:
        print("installing", *missing, flush=True)
        quiet = {"stdout": subprocess.DEVNULL, "env": os.environ | {"DEBIAN_FRONTEND": "noninteractive"}}
        subprocess.call([apt, "update", "-qq"], **quiet)
        if subprocess.call([apt, "install", "-y", "-qq", "--no-install-recommends", *missing], **quiet) == 0:
            return
    if subprocess.call([python, "-c", "import open3d"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) != 0:
        print("the viewer will not open: Open3D wants system libraries, on Debian", " ".join(missing), flush=True)


def installed(package: str) -> bool:
    """Whether Debian's package manager knows this package as installed; False where there is none."""
    if not shutil.which("dpkg"):
        return False
    return subprocess.call(["dpkg", "-s", package], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0


def complain(message: str) -> int:
    print(f"quickstart: {message}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

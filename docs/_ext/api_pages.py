"""The pages of the API reference: one for each package, written anew from what there is when the site is built."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import types
from pathlib import Path

from sphinx.application import Sphinx

HIDDEN = {"commands"}  # the command line has a page of its own
# What is inherited is shown, but for what comes from outside the package.
BASES = ("object", "Module", "Dataset", "Protocol", "Generic", "Enum", "int", "tuple", "BaseException")


def packages() -> list[str]:
    """The packages of gradslam_ng whose names are public."""
    package = importlib.import_module("gradslam_ng")
    found = [module.name for module in pkgutil.iter_modules(package.__path__) if module.ispkg]
    return [name for name in found if not name.startswith("_") and name not in HIDDEN]


def page(name: str) -> str:
    """The reference of one package: what it exports, then the modules among its public names."""
    module = importlib.import_module(f"gradslam_ng.{name}")
    names = getattr(module, "__all__", [])
    inner = [entry for entry in names if isinstance(getattr(module, entry), types.ModuleType)]
    parts = [f"# gradslam_ng.{name}", directive(module.__name__)]
    for entry in inner:
        parts += [f"## {entry}", directive(getattr(module, entry).__name__)]
    return "\n\n".join(parts) + "\n"


def top() -> str:
    """What the package itself exports: each name with the first line that is said of it, and where the rest stands."""
    package = importlib.import_module("gradslam_ng")
    rows = ["| name | | |", "|---|---|---|"]
    for name in package.__all__:
        value = getattr(package, name)
        if not isinstance(value, types.ModuleType):
            home = value.__module__.split(".")[1]
            first = inspect.getdoc(value).split("\n\n")[0].replace("\n", " ").replace("|", "\\|")
            rows.append(f"| `gs.{name}` | {first} | [{home}]({home}.md) |")
    return "# gradslam_ng\n\n`import gradslam_ng as gs` gives\n\n" + "\n".join(rows) + "\n"


def directive(module: str) -> str:
    options = f":members:\n   :inherited-members: {', '.join(BASES)}\n   :show-inheritance:"
    return f"```{{eval-rst}}\n.. automodule:: {module}\n   {options}\n```"


def write(app: Sphinx) -> None:
    """Write each page whose text has changed; remove those of packages that are gone."""
    folder = Path(app.srcdir) / "api"
    folder.mkdir(exist_ok=True)
    wanted = {folder / f"{name}.md": page(name) for name in packages()} | {folder / "gradslam_ng.md": top()}
    for path in folder.glob("*.md"):
        if path not in wanted:
            path.unlink()
    for path, text in wanted.items():
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True}

"""What `--help` needs of a command, its signature, read from the source: what the command works with takes seconds to
import, and telling its options takes none of it.

A definition is executed together with those that it names, and with no others: of functions the signature and the
docstring, of classes the fields.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

PACKAGE = "gradslam_ng"
ROOT = Path(__file__).parents[1]


@contextmanager
def signature_of(name: str) -> Iterator[Callable[..., None]]:
    """A function of the signature and docstring of a subcommand, which does nothing, to draw its help from inside."""
    sources, known = _Sources(), dict(sys.modules)
    try:
        yield sources.find(f"{PACKAGE}.commands.{name}", name)
    finally:
        for module in sources.modules.keys() - known.keys():
            del sys.modules[module]


class _Sources:
    """Modules of the package of which only what was asked for is there. Where they are not imported anyway, others find
    them by name: comments on fields are looked for in the source."""

    def __init__(self) -> None:
        self.trees: dict[str, ast.Module] = {}
        self.modules: dict[str, ModuleType] = {}

    def find(self, module: str, name: str) -> Any:
        """What a name at the top of a module means."""
        space = self.space(module)
        if name not in space:
            statement = self.definition(module, name)
            if isinstance(statement, ast.ImportFrom):
                space[name] = self.imported(statement, name)
            elif isinstance(statement, ast.Import):
                space[name] = importlib.import_module(name)
            else:
                self.execute(module, _bare(statement))
        return space[name]

    def space(self, module: str) -> dict[str, Any]:
        """What there is of a module."""
        if module not in self.modules:
            self.modules[module] = ModuleType(module)
            self.modules[module].__file__ = str(_path_of(module))
            sys.modules.setdefault(module, self.modules[module])
        return vars(self.modules[module])

    def definition(self, module: str, name: str) -> ast.stmt:
        """The statement at the top of a module that gives a name its meaning.

        Raises:
            NameError: there is none.
        """
        for statement in self.read(module).body:
            if name in _names_given(statement):
                return statement
        raise NameError(f"{module}: no {name} in it")

    def read(self, module: str) -> ast.Module:
        """The syntax tree of a module or of a package's own file."""
        if module not in self.trees:
            self.trees[module] = ast.parse(_path_of(module).read_text(encoding="utf-8"))
        return self.trees[module]

    def imported(self, statement: ast.ImportFrom, name: str) -> Any:
        """What a statement imports under a name."""
        original = next(alias.name for alias in statement.names if name in (alias.asname, alias.name))
        assert statement.module is not None
        if statement.module.partition(".")[0] == PACKAGE:
            return self.find(statement.module, original)
        return getattr(importlib.import_module(statement.module), original)

    def execute(self, module: str, statement: ast.stmt) -> None:
        """Run a statement of a module, once all that it names is there."""
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id not in vars(builtins):
                self.find(module, node.id)
        code = compile(ast.Module([statement], []), module, "exec", dont_inherit=True)  # annotations are evaluated
        exec(code, self.space(module))


def _path_of(module: str) -> Path:
    """The file of a module or of a package."""
    path = ROOT.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_name(f"{path.name}.py")


def _names_given(statement: ast.stmt) -> set[str]:
    """The names that a statement defines."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name for alias in statement.names}
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    targets = [statement.target] if isinstance(statement, ast.AnnAssign) else targets
    return {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}


def _bare(statement: ast.stmt) -> ast.stmt:
    """A function without decorators and body, a class without methods; anything else as it is."""
    if isinstance(statement, ast.FunctionDef):
        statement.decorator_list, statement.body = [], statement.body[:1]
    elif isinstance(statement, ast.ClassDef):
        statement.body = [part for part in statement.body if not isinstance(part, ast.FunctionDef)]
    return statement

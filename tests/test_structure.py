"""The package's structure, held by reading its source: sizes of functions, order of imports, what parts may know.

`python tests/test_structure.py` prints every violation.
"""

from __future__ import annotations

import ast
import functools
import re
import subprocess
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ARCHITECTURE = ROOT / "docs" / "architecture.md"
MAX_LINES, MAX_DEPTH, MAX_POSITIONAL = 45, 3, 7

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
BLOCKS = (ast.For, ast.AsyncFor, ast.While, ast.If, ast.With, ast.AsyncWith, ast.Try, ast.TryStar, ast.Match)
NAMED_TUPLE = {"_asdict", "_fields", "_make", "_replace"}  # public, whatever their names say


@functools.cache
def read_package() -> dict[str, ast.Module]:
    """The syntax trees of the package's modules by dotted name; a package's own file has the package's name."""
    modules = {}
    for path in sorted((ROOT / "gradslam_ng").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = ast.parse(path.read_text())
    return modules


def functions_of(tree: ast.Module) -> Iterator[tuple[ast.FunctionDef, bool]]:
    """Every function, nested ones too, and whether it is a method that takes an instance or a class."""
    methods = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for child in node.body
        if isinstance(child, FUNCTIONS)
        and "staticmethod" not in [d.id for d in child.decorator_list if isinstance(d, ast.Name)]
    }
    for node in ast.walk(tree):
        if isinstance(node, FUNCTIONS):
            yield node, node in methods


def body_lines(function: ast.FunctionDef) -> int:
    """Lines from the first statement after the docstring to the last."""
    body = function.body[1:] if ast.get_docstring(function, clean=False) is not None else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def depth_of(node: ast.AST) -> int:
    """How deep blocks lie within each other below a node; `elif` is no deeper than its `if`."""
    deepest = 0
    for field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, (*FUNCTIONS, ast.ClassDef)):
                continue
            is_elif = (
                isinstance(node, ast.If)
                and isinstance(child, ast.If)
                and field == "orelse"
                and child.col_offset == node.col_offset
            )
            deepest = max(deepest, depth_of(child) + (isinstance(child, BLOCKS) and not is_elif))
    return deepest


def large_functions(modules: dict[str, ast.Module]) -> list[str]:
    found = []
    for name, tree in modules.items():
        for function, method in functions_of(tree):
            where = f"{name}:{function.lineno} {function.name}"
            positional = len(function.args.posonlyargs) + len(function.args.args) - method
            if (lines := body_lines(function)) > MAX_LINES:
                found.append(f"{where}: {lines} lines, expected at most {MAX_LINES}")
            if (depth := depth_of(function)) > MAX_DEPTH:
                found.append(f"{where}: nested {depth} deep, expected at most {MAX_DEPTH}")
            if positional > MAX_POSITIONAL:
                found.append(f"{where}: {positional} positional parameters, expected at most {MAX_POSITIONAL}")
            if function.name == "__init__" and positional > 1:
                found.append(f"{where}: {positional} positional parameters, expected all but the first by keyword")
    return found


def import_order() -> list[str]:
    """The packages, lowest first, as the block of docs/architecture.md that begins with `io` lists them."""
    block = re.search(r"^```[^\n]*\n(io\b.*?)^```", ARCHITECTURE.read_text(), re.DOTALL | re.MULTILINE)
    return re.findall(r"\w+", re.sub("#.*", "", block[1]))


def imports_of(name: str, tree: ast.Module, modules: dict[str, ast.Module]) -> Iterator[tuple[int, str]]:
    """Line and module of each import from the package, those within functions and for type checking included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            targets = {target if target in modules or is_folder(target) else node.module for target in inner}
        else:
            continue
        yield from ((node.lineno, target) for target in targets if target.partition(".")[0] == "gradslam_ng")


def is_folder(name: str) -> bool:
    return (ROOT / name.replace(".", "/")).is_dir()


def upward_imports(modules: dict[str, ast.Module]) -> list[str]:
    """Imports of what stands later in the order; the files at the top of the package stand above all."""
    order = import_order()
    top = {name.split(".")[1] for name in modules if name.count(".") == 1 and not is_folder(name)} | {"gradslam_ng"}
    rank = {package: i for i, package in enumerate(order)} | dict.fromkeys(top, len(order))
    found = []
    for name, tree in modules.items():
        for line, target in imports_of(name, tree, modules):
            mine, its = (module.split(".")[:2][-1] for module in (name, target))
            if mine not in rank or its not in rank:
                found.append(f"{name}:{line} imports {target}: docs/architecture.md does not list both packages")
            elif rank[its] > rank[mine]:
                found.append(f"{name}:{line} imports {target}, which stands above it")
    return found


def import_circles(modules: dict[str, ast.Module]) -> list[str]:
    graph = {name: {t for _, t in imports_of(name, tree, modules) if t != name} for name, tree in modules.items()}
    found = []
    while True:
        try:
            TopologicalSorter(graph).prepare()
            return found
        except CycleError as error:
            circle = error.args[1]
            found.append(" imports ".join(reversed(circle)))
            graph[circle[1]].discard(circle[0])  # look for others beside it


def probing(modules: dict[str, ast.Module]) -> list[str]:
    """Parts asked for what they happen to have, and private names of other modules."""
    found = []
    for name, tree in modules.items():
        own = private_names(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                if node.func.id == "hasattr" or (node.func.id == "getattr" and len(node.args) > 2):
                    found.append(f"{name}:{node.lineno} {ast.unparse(node)}: expected a protocol, not probing")
            elif isinstance(node, ast.Attribute) and node.attr == "__dict__":
                found.append(f"{name}:{node.lineno} {ast.unparse(node)}: expected declared attributes")
            elif isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in own:
                if not ast.unparse(node).startswith("torch."):  # which has no public way to what is set there
                    found.append(f"{name}:{node.lineno} {ast.unparse(node)}: a private name of another module")
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gradslam_ng"):
                private = [alias.name for alias in node.names if is_private(alias.name)]
                found += [f"{name}:{node.lineno} imports {each}, private in {node.module}" for each in private]
    return found


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in NAMED_TUPLE


def private_names(tree: ast.Module) -> set[str]:
    """Private names that a module defines: functions, classes, variables, fields and attributes of self or cls."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
            found.add(node.attr)
    return {name for name in found if is_private(name)}


def undocumented(modules: dict[str, ast.Module]) -> list[str]:
    return [
        f"{name}: expected a docstring that names what is in it"
        for name, tree in modules.items()
        if not is_private(name.rpartition(".")[2]) and not ast.get_docstring(tree)
    ]


CHECKS = (large_functions, upward_imports, import_circles, probing, undocumented)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_package_keeps_to_its_structure(check):
    violations = check(read_package())
    assert not violations, "\n" + "\n".join(violations)


def test_nothing_a_run_wrote_is_kept_beside_the_package():
    """A folder of results, committed once without a thought, is cloned by everyone."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a checkout")
    files = [Path(line) for line in listed.stdout.splitlines()]
    folders = {file.parts[0] for file in files if len(file.parts) > 1}
    assert folders <= {".ci", "benchmarks", "datasets", "demos", "docs", "gradslam_ng", "tests"}
    assert not [file for file in files if file.name in ("frames.csv", "state.safetensors", "map.ply", "run.log")]


def test_sizes_are_counted_as_they_are_meant():
    source = '''
class A:
    def method(self, a, b, /, c, *, d):
        """Two lines
        of text."""
        if a:
            pass
        elif b:
            for x in c:
                with d:
                    pass
        else:
            if c:
                while d:
                    pass
        return 0

    @staticmethod
    def static(a): ...
'''
    (method, bound), (static, unbound) = functions_of(ast.parse(source))
    assert (bound, unbound) == (True, False)
    assert (body_lines(method), body_lines(static)) == (11, 1)
    assert (depth_of(method), depth_of(static)) == (3, 0)


def test_imports_are_found_wherever_they_stand():
    source = """
import torch
from gradslam_ng import compute
from gradslam_ng.slam.system import System
if TYPE_CHECKING:
    import gradslam_ng.viz.plots
def late():
    from gradslam_ng.geometry import se3
"""
    names = ("gradslam_ng", "gradslam_ng.compute", "gradslam_ng.geometry.se3", "gradslam_ng.geometry")
    found = list(imports_of("gradslam_ng.x", ast.parse(source), dict.fromkeys(names)))
    expected = ["gradslam_ng.compute", "gradslam_ng.slam.system", "gradslam_ng.viz.plots", "gradslam_ng.geometry.se3"]
    assert sorted(target for _, target in found) == sorted(expected)


def test_circles_are_found():
    modules = {
        "gradslam_ng.a": ast.parse("from gradslam_ng.b import x\nfrom gradslam_ng.c import y"),
        "gradslam_ng.b": ast.parse("def f():\n    import gradslam_ng.a"),
        "gradslam_ng.c": ast.parse("import gradslam_ng.a, gradslam_ng.d"),
        "gradslam_ng.d": ast.parse(""),
    }
    assert len(import_circles(modules)) == 2


if __name__ == "__main__":
    package = read_package()
    found = {check.__name__: check(package) for check in CHECKS}
    for name, violations in found.items():
        print(f"\n{name}: {len(violations)}", *violations, sep="\n  ")
    raise SystemExit(int(any(found.values())))

"""What README and documentation show works: Python runs, settings and commands are those there are, names exist."""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import inspect
import re
import shlex
import typing
from dataclasses import fields, is_dataclass

import pytest
import torch

from gradslam_ng import cli
from gradslam_ng.commands import settings

OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
NOT_RUN = re.compile(r"<!-- not run: .{10,} -->")  # with a reason


def test_python_runs(coded, tmp_path, monkeypatch, root):
    """The blocks of a page in order, in one namespace, in an empty folder beside the embedded sequence."""
    (tmp_path / "datasets").symlink_to(root / "datasets")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    namespace = {"__name__": "__page__"}
    for block in coded.blocks("python"):
        if not NOT_RUN.match(block.before):
            code = "\n" * (block.line - 1) + block.code
            exec(compile(code, str(coded.path), "exec", dont_inherit=True), namespace)


def test_settings_are_taken(page, tmp_path):
    """TOML is a file for `run --config`."""
    for block in page.blocks("toml"):
        config = tmp_path / "settings.toml"
        config.write_text(block.code)
        settings.make_system("pointfusion", "gradicp", None, config)


def shell_lines(page) -> list[list[str]]:
    """The words of each line that is typed into a shell, comments left out."""
    lines = [line for block in page.blocks("", "bash", "sh", "console") for line in block.code.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if re.match(r"(gradslam-ng|python -m) ", line)]


def test_commands_are_understood(page, monkeypatch):
    """Each `gradslam-ng` line is accepted by the parser; nothing is run."""
    command = cli.command

    def idle(name: str):
        return functools.wraps(command(name))(lambda *args, **kwargs: None)

    monkeypatch.setattr(cli, "command", idle)
    for words in shell_lines(page):
        if words[0] == "gradslam-ng" and "--help" not in words:
            assert cli.main(words[1:]) == 0, " ".join(words)


def spellings(names) -> frozenset[str]:
    """The options of parameters, and how flags among them are refused."""
    options = [name.strip("_").replace("_", "-") for name in names]
    return frozenset(f"--{no}{option}" for option in options for no in ("", "no-"))


@functools.cache
def options_of_command(name: str) -> frozenset[str]:
    """The options of `gradslam-ng name`."""
    hints = typing.get_type_hints(cli.command(name))
    groups = [hint for hint in hints.values() if is_dataclass(hint)]
    names = [field.name for group in groups for field in fields(group)]
    return spellings([*hints, *names]).union(*map(other_names, [cli.command(name), *groups]))


def other_names(of) -> set[str]:
    """Options by the names that annotations of a function's parameters or a dataclass' fields give them besides."""
    hints = typing.get_type_hints(of, include_extras=True).values()
    told = [about for hint in hints for about in getattr(hint, "__metadata__", ()) if hasattr(about, "aliases")]
    return {f"--{about.name}" for about in told if about.name}.union(*(about.aliases or () for about in told))


@functools.cache
def options_of(module: str) -> frozenset[str]:
    """The options of `python -m module`: parameters of the function that it makes a command of."""
    loaded = importlib.import_module(module)
    if hasattr(loaded, "__path__"):
        loaded = importlib.import_module(f"{module}.__main__")
    calls = [node for node in ast.walk(ast.parse(inspect.getsource(loaded))) if isinstance(node, ast.Call)]
    names = [c.args[0].id for c in calls if ast.unparse(c.func) == "tyro.cli" and isinstance(c.args[0], ast.Name)]
    return spellings(inspect.signature(getattr(loaded, names[0])).parameters) if names else frozenset()


def test_modules_and_their_options_exist(page):
    """Each `python -m benchmarks.X` or `demos.X`, typed or in the text, with the options that it is given."""
    spans = [span for span in page.spans if span.startswith("python -m ")]
    for line in [*spans, *(" ".join(words) for words in shell_lines(page) if words[0] == "python")]:
        module = line.split()[2]
        if module.partition(".")[0] in ("benchmarks", "demos") and module.rpartition(".")[2].islower():
            assert importlib.util.find_spec(module), line
            given = set(OPTION.findall(line.replace("[", " "))) - {"--check"}
            assert not given or given <= options_of(module), line


def test_options_in_the_text_exist(page):
    """Every option between backticks is one of a command, or of a benchmark or a demo that the page names."""
    known = {"--help", "--check"}.union(*map(options_of_command, cli.COMMANDS))
    modules = set(re.findall(r"(?:benchmarks|demos)(?:\.[a-z]\w*)+(?=[ `\n])", page.text)) - {"benchmarks.report"}
    for span in page.spans:
        if command := re.match(r"gradslam-ng ([a-z]+)", span):
            assert command[1] in cli.COMMANDS, span
            assert set(OPTION.findall(span)) <= options_of_command(command[1]) | {"--help"}, span
        elif span.startswith("--") and (option := OPTION.match(span)) and option[0] not in known:
            assert any(option[0] in options_of(module) for module in modules), span


def test_names_exist(page):
    """Whatever a page writes with its module, `gs.x.y` or `gradslam_ng.x.y`, can be had from there."""
    found = re.findall(r"(?<![\w./-])(?:gs|gradslam_ng)((?:\.[A-Za-z_]\w*)+)", page.text)
    for path in dict.fromkeys(found):
        value = importlib.import_module("gradslam_ng")
        for name in path[1:].split("."):
            if not hasattr(value, name):
                try:
                    importlib.import_module(f"{value.__name__}.{name}")
                except (ImportError, AttributeError):
                    pytest.fail(f"{page.name}: gradslam_ng{path} does not exist")
            value = getattr(value, name)


def test_files_exist(page, root):
    """Paths between backticks that begin with a folder of the repository."""
    folders = [path.name for path in root.iterdir() if path.is_dir()]
    for span in page.spans:
        if re.fullmatch(r"[\w-]+(/[\w.-]+)+\.(py|md|json|toml|sh)", span) and span.partition("/")[0] in folders:
            assert any((folder / span).exists() for folder in (root, root / "gradslam_ng")) or "NAME" in span, span

"""Functions of tensors compiled by torch's inductor into files that load in milliseconds. Done beside a run, in a
process of its own (`compiler_process`): each takes five to ten seconds.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from gradslam_ng.compute.arguments import TensorSpec
from gradslam_ng.compute.compiler_options import compiler_options
from gradslam_ng.compute.kernel_files import Generated, save_version
from gradslam_ng.compute.kernel_source import Libraries, run_source
from gradslam_ng.compute.tree import tree_leaves, tree_structure, tree_unflatten

SMALL_MATRIX = 7  # rows and columns: so few terms the compiler adds up without a loop


class Compilable(Protocol):
    """A function that may have compiled versions; pickled by its name."""

    plain: Callable[..., Any]
    fuse_reductions: bool
    vectorize_gathers: bool

    @property
    def name(self) -> str:
        """With its module."""

    def dynamic_sizes(self, args: Sequence[Any]) -> list[list[bool]]:
        """By tensor within arguments and axis, whether the size changes from call to call."""


class Request(NamedTuple):
    """A call that a function is to be compiled for."""

    function: Compilable
    digest: str
    structure: Any  # of the arguments, see `tree_structure`
    specs: tuple[TensorSpec, ...]  # of their tensors


class Traced(NamedTuple):
    """A function as a graph of operations."""

    graph: torch.fx.GraphModule
    inputs: list[Any]  # tensors without values
    guard: str  # see `Generated`
    aliases: tuple[int | None, ...]
    structure: Any  # of what is returned


def compile_request(request: Request, folder: Path) -> None:
    """Compile for a request, into a new folder."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # one part of torch warns of another
        function = request.function
        table = decompositions(small_products=not function.fuse_reductions)
        traced = trace(function.plain, request.structure, request.specs, table)
        source, constants = generate(traced, compiler_options(function.fuse_reductions, function.vectorize_gathers))
        libraries = build_libraries(source, constants)
    made = Generated(source, constants, traced.guard, len(traced.inputs), traced.aliases, traced.structure)
    save_version(folder, made, libraries)


def trace(
    function: Callable[..., Any], structure: Any, specs: Sequence[TensorSpec], table: dict[Any, Callable[..., Any]]
) -> Traced:
    """The operations of function(*arguments), sizes that may change left open."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    shapes: Any = ShapeEnv(duck_shape=False)  # sizes that happen to agree now need not agree in other calls
    mode = FakeTensorMode(shape_env=shapes)
    inputs = [_fake(mode, i, spec) for i, spec in enumerate(specs)]
    aliases: list[int | None] = []
    returned: list[Any] = []

    def flat(*tensors: Tensor) -> tuple[Tensor, ...]:
        result = function(*tree_unflatten(structure, iter(tensors)))
        leaves = list(tree_leaves(result))
        returned[:] = [tree_structure(result)]
        aliases[:] = [next((i for i, x in enumerate(tensors) if x is leaf), None) for leaf in leaves]
        return tuple(leaf for leaf, i in zip(leaves, aliases, strict=True) if i is None)

    pure = torch.func.functionalize(flat, remove="mutations")  # what is written in place is copied back at the end
    graph = make_fx(pure, decomposition_table=table, tracing_mode="fake")(*inputs)
    guard = _guard(shapes.produce_guards_expression(placeholders=inputs, ignore_static=False), specs)
    return Traced(graph, inputs, guard, tuple(aliases), returned[0])


def decompositions(small_products: bool) -> dict[Any, Callable[..., Any]]:
    """The compiler's own; with `small_products` those of small matrices entry by entry: a call of a library takes
    longer, and after each one begins a loop that is compiled by itself."""
    from torch._inductor.decomposition import select_decomp_table

    table = dict(select_decomp_table())
    if not small_products:
        return table
    product = torch.ops.aten.bmm.default
    otherwise = table.get(product)

    def multiply(a: Tensor, b: Tensor) -> Any:
        sizes = (*a.shape[1:], b.shape[2])
        if all(isinstance(n, int) and n <= SMALL_MATRIX for n in sizes):
            return (a[:, :, :, None] * b[:, None]).sum(2)
        return NotImplemented if otherwise is None else otherwise(a, b)

    return table | {product: multiply}


def generate(traced: Traced, options: dict[str, Any]) -> tuple[str, dict[str, Tensor]]:
    """Source for a graph, and the constants in it."""
    from torch._inductor import config
    from torch._inductor.compile_fx import _recursive_joint_graph_passes, compile_fx_inner

    # the number of threads is that of the process in which it runs
    settings = options | {"cpp.dynamic_threads": True, "fx_graph_cache": False, "compile_threads": 1}
    mode = traced.inputs[0].fake_mode if traced.inputs else None
    with config.patch(settings), torch._guards.tracing(torch._guards.TracingContext(mode)):
        _recursive_joint_graph_passes(traced.graph)
        made: Any = compile_fx_inner(traced.graph, traced.inputs)
    return made.source_code, dict(made.constants or {})


def build_libraries(source: str, constants: dict[str, Tensor]) -> list[Path]:
    """Files of the loops that generated source asks for, in that order."""
    from torch._inductor.codecache import CppPythonBindingsCodeCache

    paths: list[Path] = []

    def load(argument_types: Sequence[str], loop: str) -> Any:
        made = CppPythonBindingsCodeCache.load_pybinding(list(argument_types), loop)  # made just now, and kept
        paths.append(Path(made.__self__.__file__))
        return made

    run_source(source, Libraries(load), constants)
    return paths


def _fake(mode: Any, place: int, spec: TensorSpec) -> Tensor:
    from torch._dynamo.source import ConstantSource
    from torch.fx.experimental.symbolic_shapes import DimDynamic, StatelessSymbolicContext

    sizes = [DimDynamic.DYNAMIC if free else DimDynamic.STATIC for free in spec.dynamic]
    tensor = torch.empty_strided(spec.shape, spec.stride, dtype=spec.dtype)
    context: Any = StatelessSymbolicContext(dynamic_sizes=sizes)
    return mode.from_tensor(tensor, symbolic_context=context, source=ConstantSource(f"t{place}"))


def _guard(expression: str, specs: Sequence[TensorSpec]) -> str:
    """The guard that torch works out, of arguments t0, t1, ...; where in their memory they begin does not matter, nor
    do strides along axes of one."""
    free = {f"L['t{i}'].stride()[{axis}]" for i, spec in enumerate(specs) for axis in spec.ones}
    terms = [term for term in expression.split(" and ") if ".storage_offset()" not in term]
    terms = [term for term in terms if not (_is_set(term, free) or _is_bounded(term, free))]
    return re.sub(r"L\['(t\d+)'\]", r"\1", " and ".join(terms)) or "True"


def _is_set(term: str, strides: set[str]) -> bool:
    """Whether a term of a guard says that one of these strides is equal to something."""
    return any(term.startswith(f"{stride} ==") for stride in strides)


def _is_bounded(term: str, strides: set[str]) -> bool:
    """Whether a term of a guard is of nothing but these strides."""
    asked = set(re.findall(r"L\['t\d+'\]\.\w+\(\)\[\d+\]", term))
    return bool(asked) and asked <= strides

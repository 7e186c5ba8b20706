"""Modules whose settings are numbers or learned tensors: what is in `parameters()` is what is used."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar, dataclass_transform

from torch import Tensor, nn

C = TypeVar("C", bound="ConfigurableDataclass")


class Configurable(nn.Module):
    """A module whose settings are its attributes, read where they are used and kept nowhere else.

    So a setting that is an `nn.Parameter` is a parameter of the module and of all that it is part of, whether it was
    given at construction, assigned later, loaded, or put there by `torch.func.functional_call`.

    learnable: names of the settings that have a gradient. A class that names them takes no other parameters.
    discrete: names of those that only decide what is chosen and have none. A parameter in their place, or another
        tensor that requires a gradient, is refused with a TypeError, by classes derived from this one too.
    """

    learnable: ClassVar[tuple[str, ...]] = ()
    discrete: ClassVar[tuple[str, ...]] = ()

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Tensor) and value.requires_grad and not isinstance(value, nn.Parameter):
            self._refuse_discrete(name)
        super().__setattr__(name, value)

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        self._refuse_discrete(name)
        if "learnable" in vars(type(self)) and name not in self.learnable:
            expected = f"one of {', '.join(self.learnable)}" if self.learnable else "no parameter"
            raise TypeError(f"{name}: expected {expected} to be learned, {type(self).__name__} does not use it")
        super().register_parameter(name, param)

    def _refuse_discrete(self, name: str) -> None:
        if name in self.discrete:
            kind = type(self).__name__
            raise TypeError(f"{name}: expected a number, got a parameter: {kind} has no gradient to this setting")

    def extra_repr(self) -> str:
        shown = {name: getattr(self, name) for name in self.learnable + self.discrete}
        return ", ".join(f"{name}={value!r}" for name, value in shown.items() if not isinstance(value, nn.Module))


class ConfigurableDataclass(Configurable):
    """The base of what `configurable` decorates: its fields are assigned before any `__init__` of a module runs."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        self = super().__new__(cls)
        nn.Module.__init__(self)
        return self


@dataclass_transform(eq_default=False)
def configurable(cls: type[C]) -> type[C]:
    """Make a `ConfigurableDataclass` whose annotated attributes are settings, the arguments of its constructor.

    Those whose type has a Tensor are `learnable`, the others `discrete`. `dataclasses.replace` makes one with other
    settings, and trees of tensors (`compute.tree`) reach into it.
    """
    made: type[C] = dataclass(eq=False, repr=False)(cls)
    made.learnable, made.discrete = split_settings(made)
    for name in made.learnable + made.discrete:
        if name in vars(made):  # a default in the class would be found before the instance's parameter
            delattr(made, name)
    return made


def split_settings(cls: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The fields of a dataclass whose type has a Tensor, and the others."""
    tensors = {field.name: "Tensor" in str(field.type) for field in fields(cls)}
    return tuple(name for name in tensors if tensors[name]), tuple(name for name in tensors if not tensors[name])

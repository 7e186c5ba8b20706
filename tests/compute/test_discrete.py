from __future__ import annotations

import torch

from gradslam_ng.compute.discrete import discrete, intercept_choices, steady_floor


@discrete
def larger(x: torch.Tensor, than: float = 0.0) -> torch.Tensor:
    return (x > than) * x


class Chooser:
    @discrete
    def pick(self, x: torch.Tensor) -> torch.Tensor:
        return larger(x)


def test_a_choice_has_no_gradient():
    x = torch.tensor([1.0, -1.0], requires_grad=True)
    assert not larger(x).requires_grad and not Chooser().pick(x).requires_grad
    (x * larger(x)).sum().backward()
    assert x.grad.tolist() == [1.0, 0.0]


def test_what_lies_just_before_a_border_counts_as_beyond_it():
    x = torch.tensor([2.0, 2.0 - 1e-6, 2.0 + 1e-6, 1.99, -1.0 - 1e-6, 2.5], requires_grad=True)
    cells = steady_floor(x)
    assert cells.tolist() == [2, 2, 2, 1, -1, 2] and not cells.requires_grad


def test_choices_are_recorded_and_replayed():
    kept = []

    def record(function, *args, **kwargs):
        kept.append((function.__qualname__, function(*args, **kwargs)))
        return kept[-1][1]

    with intercept_choices(record):
        Chooser().pick(torch.ones(1))
        larger(torch.ones(1), than=2.0)
    assert [name for name, _ in kept] == ["larger", "Chooser.pick", "larger"]  # the first within the second
    with intercept_choices(lambda function, *args, **kwargs: "held"):
        assert larger(torch.ones(1)) == "held"
    assert larger(torch.ones(1)) == 1


def test_under_the_compiler_a_choice_is_a_constant_and_is_not_intercepted():
    def squared(x: torch.Tensor) -> torch.Tensor:
        return (x * larger(x)).sum()

    x = torch.tensor([1.0, 2.0, -1.0], requires_grad=True)
    with intercept_choices(lambda *args: 1 / 0):
        torch.compile(squared, backend="aot_eager", fullgraph=True)(x).backward()
    assert x.grad.tolist() == [1.0, 2.0, 0.0]

from __future__ import annotations

from benchmarks.curves import CURVES, STRATEGIES, errors, evaluate, sample


def test_soft_damping_costs_nothing_on_the_curves():
    for name in CURVES:
        problems = sample(name, draws=2)
        hard, soft = (errors(name, STRATEGIES[rule], 10, *problems) for rule in ("LM", "soft LM"))
        difference = (soft - hard).flatten()
        assert difference.mean() <= 2 * difference.std() / len(difference) ** 0.5
        assert soft.median() <= 1.5 * hard.median() + 1e-6


def test_every_rule_improves_on_the_start():
    problems = sample("sine", draws=1)
    start = (evaluate("sine", problems[1]) - problems[0]).square().mean((-2, -1))
    for label, rule in STRATEGIES.items():
        assert (errors("sine", rule, 10, *problems).mean(-1) < 0.8 * start).all(), label


def test_true_parameters_have_no_error():
    _, parameters = sample("sinc", draws=1)
    assert errors("sinc", STRATEGIES["LM"], 0, evaluate("sinc", parameters), parameters).max() == 0

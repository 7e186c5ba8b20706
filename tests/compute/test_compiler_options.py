from __future__ import annotations

import logging

import pytest
import torch

from gradslam_ng.compute import compiler_options


@pytest.fixture(autouse=True)
def fresh():
    """Neither what was asked before nor what this test asks is remembered."""
    for cached in (compiler_options.compiler_options, compiler_options._inform_once):
        cached.cache_clear()
    yield
    for cached in (compiler_options.compiler_options, compiler_options._inform_once):
        cached.cache_clear()


@pytest.mark.parametrize("version", compiler_options.TESTED_VERSIONS)
def test_options_apply_with_a_tested_version(monkeypatch, version):
    monkeypatch.setattr(torch, "__version__", f"{version}.1+cpu")
    options = compiler_options.compiler_options()
    assert options == {name: option.value for name, option in compiler_options.OPTIONS.items()}
    more = compiler_options.compiler_options(fuse_reductions=True)
    assert more.keys() - options.keys() == compiler_options.FUSED_REDUCTION_OPTIONS.keys()
    more = compiler_options.compiler_options(vectorize_gathers=True)
    assert more.keys() - options.keys() == compiler_options.GATHERING_OPTIONS.keys()


def test_defaults_apply_with_any_other_which_is_said_once(monkeypatch, caplog):
    monkeypatch.setattr(torch, "__version__", "2.130.0")
    with caplog.at_level(logging.INFO, logger="gradslam_ng"):
        assert compiler_options.compiler_options() == compiler_options.compiler_options(fuse_reductions=True) == {}
    assert caplog.text.count("2.130.0") == 1


def test_every_option_has_a_reason_and_a_tested_version():
    special = compiler_options.FUSED_REDUCTION_OPTIONS | compiler_options.GATHERING_OPTIONS
    for option in (compiler_options.OPTIONS | special).values():
        assert option.why and option.since in compiler_options.TESTED_VERSIONS

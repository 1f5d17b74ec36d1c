"""Options are declared once: functions, runs and commands agree with the declarations."""

from __future__ import annotations

import inspect
import subprocess
import sys
from dataclasses import asdict
from typing import get_args, get_type_hints

import pytest

import cagdask
from cagdask import schema
from cagdask.arguments import Option, Options
from cagdask.cags.options import CLUSTER
from cagdask.cags.parameters import Parameters
from cagdask.cli import main
from cagdask.io.options import INGEST
from cagdask.normalization import methods
from cagdask.normalization import options as normalization
from cagdask.runs.pipeline import ClusterOptions, IngestOptions
from cagdask.vectors.options import ANALOGY, NORMALIZATION, SIMILAR


@pytest.mark.parametrize(
    ("function", "options"),
    [
        (cagdask.find_cags, CLUSTER),
        (cagdask.ingest, INGEST),
        (cagdask.similar, Options(*SIMILAR.values(), NORMALIZATION)),
        (cagdask.analogies, Options(*ANALOGY.values(), NORMALIZATION)),
    ],
)
def test_a_function_has_the_defaults_that_are_declared(function, options):
    signature = inspect.signature(function).parameters
    assert {name: signature[name].default for name in options} == options.defaults


def test_a_run_takes_the_options_that_are_declared():
    assert set(get_type_hints(IngestOptions)) == set(INGEST)
    assert set(get_type_hints(ClusterOptions)) == set(CLUSTER)
    assert asdict(Parameters()) == CLUSTER.defaults


def test_choices_are_those_that_the_library_has():
    assert normalization.METHODS == get_args(methods.Method)
    assert INGEST["kind"].choices == schema.KINDS


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("run", [*INGEST.values(), *CLUSTER.values()]),
        ("cluster", CLUSTER.values()),
        ("ingest", INGEST.values()),
        ("similar", [*SIMILAR.values(), NORMALIZATION]),
        ("analogy", ANALOGY.values()),
    ],
)
def test_a_command_has_the_options_that_are_declared(command, options):
    known = {param.name: param for param in main.commands[command].params}
    for option in options:
        assert known[option.name].default == option.default
        assert known[option.name].help == option.help
        assert option.flag.split("/")[0] in known[option.name].opts
        if option.choices:
            assert tuple(known[option.name].type.choices) == option.choices


@pytest.mark.parametrize("options", [CLUSTER, INGEST, SIMILAR, ANALOGY])
def test_each_default_is_allowed_and_each_help_is_a_sentence(options):
    assert options.check(**options.defaults) == options.defaults
    for option in options.values():
        assert option.help.endswith((".", "left out."))
        assert option.help[0].isupper()


def test_an_unknown_option_is_named_with_those_there_are():
    with pytest.raises(TypeError, match="unknown option kk; the options are metric, combine, k"):
        SIMILAR.check(kk=3)


def test_words_beside_a_number_are_named():
    floor = normalization.CLR_FLOOR
    assert [floor.check(value) for value in (None, "auto", -3)] == [None, "auto", -3.0]
    with pytest.raises(ValueError, match="`clr_floor` is 'low'; choose one of auto, a number"):
        floor.check("low")


def test_text_must_be_text():
    with pytest.raises(ValueError, match="`results_key` is 3; it must be text"):
        Option("results_key", "results", "Key.").check(3)


def test_commands_start_without_numpy():
    """The help of a command is there at once: what computes is imported when a command runs."""
    code = "import sys, cagdask.cli; print(sorted({'numpy', 'dask', 'zarr', 'pandas', 'xarray'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"

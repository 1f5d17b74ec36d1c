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
from cagdask.cags.options import ASSIGN, CLUSTER
from cagdask.cags.parameters import Parameters
from cagdask.cli import main
from cagdask.factors.options import CONSENSUS, NMF, PROJECT, SELECT
from cagdask.io.options import INGEST
from cagdask.normalization import methods
from cagdask.normalization import options as normalization
from cagdask.runs.options import PLAN
from cagdask.runs.pipeline import ClusterOptions, IngestOptions
from cagdask.simulation.options import SIMULATE
from cagdask.twopass.options import TWO_PASS
from cagdask.vectors.options import ANALOGY, NORMALIZATION, SIMILAR

DECLARED = {
    "ingest": (cagdask.ingest, INGEST),
    "cluster": (cagdask.find_cags, CLUSTER),
    "similar": (cagdask.similar, Options(*SIMILAR.values(), NORMALIZATION)),
    "analogy": (cagdask.analogies, Options(*ANALOGY.values(), NORMALIZATION)),
    "assign": (cagdask.assign, ASSIGN),
    "twopass": (cagdask.two_pass, TWO_PASS),
    "nmf fit": (cagdask.nmf, NMF),
    "nmf select": (cagdask.nmf_select, SELECT),
    "nmf consensus": (cagdask.nmf_consensus, CONSENSUS),
    "nmf project": (cagdask.nmf_project, PROJECT),
    "simulate": (cagdask.simulate, SIMULATE),
    "plan": (cagdask.plan, PLAN),
}
"""Functions with the options that they share with a command."""


@pytest.mark.parametrize("command", DECLARED)
def test_a_function_has_the_defaults_that_are_declared(command):
    function, options = DECLARED[command]
    signature = inspect.signature(function).parameters
    for name, option in options.items():
        assert signature[name].default == (inspect.Parameter.empty if option.required else option.default)


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
        ("run", Options(*INGEST.values(), *CLUSTER.values())),
        *((name, options) for name, (_, options) in DECLARED.items()),
    ],
)
def test_a_command_has_the_options_that_are_declared(command, options):
    found = main
    for word in command.split():
        found = found.commands[word]
    known = {param.name: param for param in found.params}
    for option in options.values():
        assert known[option.name].to_info_dict()["default"] == option.default
        assert known[option.name].help == option.help
        assert option.flag.split("/")[0] in known[option.name].opts
        assert known[option.name].required == (option.required and command != "twopass")
        if option.choices:
            assert tuple(known[option.name].type.choices) == option.choices


@pytest.mark.parametrize("options", [options for _, options in DECLARED.values()])
def test_each_default_is_allowed_and_each_help_is_a_sentence(options):
    free = Options(*(option for option in options.values() if not option.required))
    assert free.check(**free.defaults) == free.defaults
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

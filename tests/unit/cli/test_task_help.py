"""``--help`` shows every option once, under the heading of its task; shells can complete."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cagdask.cli import main
from cagdask.cli.task_help import EXAMPLES, HEADINGS, METHOD, TaskCommand, heading_of
from tests.unit.cli.test_flags import COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_shown_under_one_heading(name: str) -> None:
    command = COMMANDS[name]
    assert isinstance(command, TaskCommand)
    shown = CliRunner().invoke(main, [*name.split(), "--help"], terminal_width=400).stdout
    sections = dict(re.findall(r"^([A-Z][A-Za-z0-9 ]*):\n((?:  .*\n|\n)+)", shown, flags=re.M))
    options = [param for param in command.params if isinstance(param, click.Option)]
    for option in options:
        flags = option.opts[0]
        where = [
            heading
            for heading in HEADINGS
            if re.search(rf"^  (.*, )?{flags}(?![\w-])", sections.get(heading, ""), re.M)
        ]
        assert where == [heading_of(command, option)], f"{flags} is under {where}"
    assert [name for name in sections if name in HEADINGS] == [name for name in HEADINGS if name in sections]
    assert ("Examples" in sections) == (command.name in EXAMPLES)


def test_no_parameter_has_two_headings_and_each_is_one_of_a_command() -> None:
    listed = [name for names in HEADINGS.values() for name in names]
    assert len(listed) == len(set(listed))
    known = {param.name for command in COMMANDS.values() for param in command.params} | {"help"}
    assert set(listed) <= known


def test_what_decides_the_result_comes_first() -> None:
    shown = CliRunner().invoke(main, ["run", "--help"]).stdout
    assert shown.index(f"{METHOD}:") < shown.index("Input:") < shown.index("Output:") < shown.index("S3:")
    assert shown.index("--max-dist") < shown.index("Input:")
    assert "cagdask run sample_sheet.json --output my-cags" in shown


@pytest.mark.parametrize("name", [name for name in COMMANDS if name.split()[-1] in EXAMPLES])
def test_examples_are_commands_that_can_be_parsed(name: str) -> None:
    command = COMMANDS[name]
    for example in EXAMPLES[name.split()[-1]]:
        words = example.removeprefix("cagdask ").split()
        words = words[len(name.split()) :] if example.startswith(f"cagdask {name}") else words[1:]
        with command.make_context(command.name, words, resilient_parsing=True) as ctx:
            assert ctx.params
        flags = [word for word in words if re.match(r"-{1,2}[A-Za-z]", word)]
        known = {flag for param in command.params for flag in (*param.opts, *param.secondary_opts)}
        assert set(flags) <= known


def test_bash_completes_commands_and_options() -> None:
    code = "import sys; sys.argv[0] = 'cagdask'; from cagdask.cli import main; main(prog_name='cagdask')"

    def asked(words: str) -> list[str]:
        variables = {"_CAGDASK_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        ended = subprocess.run(
            [sys.executable, "-c", code], env=os.environ | variables, capture_output=True, text=True, check=True
        )
        return [line.split(",")[1] for line in ended.stdout.splitlines()]

    assert sorted(asked("cagdask cl")) == ["classify", "cluster"]
    assert asked("cagdask run --max-d") == ["--max-dist"]
    assert asked("cagdask run --linkage s") == ["single"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_the_script_for_bash_runs(tmp_path: Path) -> None:
    program = tmp_path / "cagdask"
    program.write_text(f"#!{sys.executable}\nfrom cagdask.cli import main\nmain(prog_name='cagdask')\n")
    program.chmod(0o755)
    where = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    given = where | {"_CAGDASK_COMPLETE": "bash_source"}
    script = subprocess.run([str(program)], env=given, capture_output=True, text=True, check=True).stdout
    asks = "COMP_WORDS=(cagdask run --on); COMP_CWORD=2; _cagdask_completion cagdask; echo ${COMPREPLY[@]}"
    ended = subprocess.run(["bash", "-c", f"{script}\n{asks}"], env=where, capture_output=True, text=True)
    assert ended.stdout.split() == ["--on-bad-sample"], ended.stderr

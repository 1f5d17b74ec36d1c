"""The chart lints, renders for every case, refuses values that can not be meant, and its README lists them all."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from tests.helm.rendering import (
    CASES,
    CHART,
    NAMESPACE,
    RELEASE,
    ROOT,
    URLS,
    Values,
    chart,
    command,
    pod,
    render,
    render_text,
)

helm = pytest.importorskip("helm_python")

VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())


@pytest.mark.parametrize("case", CASES)
def test_lints_without_a_warning(case: str) -> None:
    found = helm.lint(str(CHART), values=URLS | CASES[case], namespace=NAMESPACE)
    messages = found["messages"] if isinstance(found, dict) else found
    bad = [message for message in messages if "icon" not in str(message)]
    assert bad == []


@pytest.mark.parametrize("case", CASES)
def test_renders_objects_of_distinct_names(case: str) -> None:
    manifests = render(CASES[case])
    names = [(m["kind"], m["metadata"]["name"]) for m in manifests]
    assert len(set(names)) == len(names) >= 5
    assert all(name.startswith(RELEASE) or kind == "ServiceAccount" for kind, name in names)
    assert all(len(name) <= 63 for _, name in names)


def test_a_long_release_name_still_gives_names_that_kubernetes_takes() -> None:
    long = 53 * "n"
    text = "\n".join(chart().render(URLS, name=long, namespace=NAMESPACE).values())
    names = re.findall(r"^  name: (\S+)$", text, re.MULTILINE)
    assert names
    assert max(map(len, names)) <= 63


@pytest.mark.parametrize("missing", ["input", "output"])
def test_says_what_must_be_given(missing: str) -> None:
    with pytest.raises(helm.HelmError, match=f"{missing} is empty: set it to"):
        chart().render(URLS | {missing: ""}, name=RELEASE)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"wroker": {"replicas": 4}}, "wroker"),
        ({"worker": {"replica": 4}}, "replica"),
        ({"worker": {"replicas": 0}}, "/worker/replicas"),
        ({"worker": {"cpu": 0.5}}, "/worker/cpu"),
        ({"worker": {"memory": "8GB"}}, "/worker/memory"),
        ({"worker": {"memory": "-8Gi"}}, "/worker/memory"),
        ({"input": "--help"}, "/input"),
        ({"options": {"scheduler": "tcp://elsewhere:8786"}}, "propertyName 'scheduler'"),
        ({"options": {"--max-dist": 0.2}}, "propertyName '--max-dist'"),
        ({"options": {"max-dist": [0.2]}}, "/options/max-dist"),
        ({"image": {"digest": "latest"}}, "/image/digest"),
        ({"s3": {"endpointUrl": "minio:9000"}}, "/s3/endpointUrl"),
        ({"s3": {"accessKeyId": "AKIA"}}, "accessKeyId"),
        ({"podSecurity": {"user": 0}}, "/podSecurity/user"),
        ({"scheduler": {"noWorkersTimeout": "never"}}, "/scheduler/noWorkersTimeout"),
        ({"podDisruptionBudget": {"workersUnavailable": "101%"}}, "/podDisruptionBudget/workersUnavailable"),
    ],
)
def test_refuses_values_that_can_not_be_meant(values: Values, said: str) -> None:
    with pytest.raises(helm.HelmError, match=re.escape(said)):
        render_text(values)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"dashboard": {"enabled": True}}, "dashboard.existingSecret is empty"),
        ({"operator": {"enabled": True}, "worker": {"autoscaling": {"enabled": True}}}, "exclude each other"),
    ],
)
def test_refuses_values_that_do_not_go_together(values: Values, said: str) -> None:
    with pytest.raises(helm.HelmError, match=said):
        render_text(values)


def leaves(values: Any, path: str = "") -> dict[str, Any]:
    """Every value by its dotted path; an empty object or list is a value."""
    if isinstance(values, dict) and values:
        found: dict[str, Any] = {}
        for name, value in values.items():
            found |= leaves(value, f"{path}.{name}" if path else name)
        return found
    return {path: values}


def test_the_schema_knows_every_value_and_no_other() -> None:
    def known(schema: dict[str, Any], path: str = "") -> set[str]:
        if "properties" not in schema:
            return {path}
        return {name for key, sub in schema["properties"].items() for name in known(sub, f"{path}.{key}".lstrip("."))}

    assert known(SCHEMA) - {"global"} == set(leaves(VALUES))


def test_the_readme_lists_every_value_with_its_default() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \| `(.*?)` \| (.+) \|$", (CHART / "README.md").read_text(), re.MULTILINE)
    listed = {name: json.loads(default) for name, default, _ in rows}
    assert listed == leaves(VALUES)
    assert len(rows) == len(listed), "a value is listed twice"
    assert list(listed) == list(leaves(VALUES)), "the order is that of values.yaml"
    assert all(len(sentence) > 10 for *_, sentence in rows)


def test_options_become_arguments_as_written() -> None:
    arguments = command(pod(render(CASES["options"]), "-run-")["containers"][0])
    found = " ".join(arguments)
    assert "--max-dist 0.15" in found
    assert "--seed 1000000" in found, "not 1e+06"
    assert "--normalization clr" in found
    assert arguments.count("--overwrite") == 1
    assert "--not-so" not in found


def test_the_scheduler_settings_are_those_of_the_library() -> None:
    """A scheduler of its own does not hear what the client sets: the chart must say the same."""
    from cagdask.compute.settings import DASK_CONFIG

    for part in ("-scheduler", "-worker", "-run-"):
        env = {e["name"]: e.get("value") for e in pod(render({}), part)["containers"][0]["env"]}
        for name, value in DASK_CONFIG.items():
            variable = "DASK_" + name.upper().replace(".", "__").replace("-", "_")
            if name.startswith("distributed.nanny.pre-spawn-environ."):  # these Dask takes from where it runs
                variable = name.rpartition(".")[2]
            assert variable in env, name
            if name != "distributed.scheduler.no-workers-timeout":  # nodes take longer to come back than processes
                assert env[variable] == str(value), name


def test_an_upgrade_replaces_the_job_only_when_the_run_changes() -> None:
    def name(values: Values) -> str:
        names = [m["metadata"]["name"] for m in render(values) if m["kind"] == "Job"]
        return next(str(name) for name in names if "-run-" in name)

    assert name({}) == name({"podDisruptionBudget": {"enabled": False}})
    assert name({}) == name({"worker": {"memory": "8Gi"}})
    assert name({}) != name({"options": {"max-dist": 0.1}})
    assert name({}) != name({"podLabels": {"team": "gut"}}), "a Job's pod template can not be changed"
    assert name({}) != name({"image": {"tag": "other"}})


def test_nothing_of_the_data_belongs_to_the_release() -> None:
    for values in CASES.values():
        manifests = render(values)
        assert not {m["kind"] for m in manifests} & {"PersistentVolumeClaim", "PersistentVolume", "Secret"}
        for manifest in manifests:
            hook = manifest["metadata"].get("annotations", {}).get("helm.sh/hook", "")
            if "delete" in hook and manifest["kind"] == "Job":
                arguments = command(manifest["spec"]["template"]["spec"]["containers"][0])
                assert arguments[1:] == [
                    "/opt/cagdask/make_certificates.py",
                    "--secret",
                    "cags-cagdask-tls",
                    "--delete",
                ]


@pytest.mark.parametrize("case", ["default", "operator", "dashboard", "private S3 server"])
def test_notes_give_the_next_commands(case: str) -> None:
    notes = next(text for name, text in render_text(CASES[case]).items() if name.endswith("NOTES.txt"))
    assert URLS["input"] in notes
    assert URLS["output"] in notes
    assert f"helm test {RELEASE}" in notes
    assert f"helm uninstall {RELEASE}" in notes
    assert ("No credentials were named" in notes) == (case != "private S3 server")
    assert ("port-forward" in notes) == (case == "dashboard")
    job = re.search(r"logs --follow job/(\S+)", notes)
    assert (job is None) == (case == "operator")
    if job:
        assert job[1] in [m["metadata"]["name"] for m in render(CASES[case])]


def test_chart_and_project_have_one_version() -> None:
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    assert about["appVersion"] == about["version"] == version[1]


def test_no_template_names_a_registry() -> None:
    for path in CHART.rglob("*"):
        if path.is_file():
            assert not re.search(r"\b(docker\.io|ghcr\.io|quay\.io|gcr\.io)\b", path.read_text()), path

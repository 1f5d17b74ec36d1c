"""What the chart makes is strictly valid: for an old, a middle and the newest Kubernetes, and for Dask's operator."""

from __future__ import annotations

import copy
import importlib.util
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helm.rendering import CASES, CHART, Manifest, containers, one, pods, render

kubernetes_validate = pytest.importorskip("kubernetes_validate")
jsonschema = pytest.importorskip("jsonschema")
pytest.importorskip("helm_python")

CUSTOM = "kubernetes.dask.org/"
OLDEST = re.search(r">=1\.(\d+)", yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"])
assert OLDEST
NEWEST = max(int(version.split(".")[1]) for version in kubernetes_validate.utils.all_versions())
VERSIONS = [f"1.{minor}" for minor in (int(OLDEST[1]), (int(OLDEST[1]) + NEWEST) // 2, NEWEST)]


def check(manifest: Manifest, version: str, where: str) -> None:
    try:
        kubernetes_validate.validate(manifest, version, strict=True)
    except kubernetes_validate.ValidationError as err:
        name = f"{manifest['kind']} {manifest['metadata']['name']}"
        pytest.fail(f"{where}, Kubernetes {version}: {name}: {err.message} at {list(err.path)}", pytrace=False)


@pytest.mark.parametrize("version", VERSIONS)
def test_manifests_are_valid(version: str) -> None:
    """Each distinct one once: most cases change few."""
    found = {json.dumps(manifest): case for case in CASES for manifest in render(CASES[case])}
    manifests = [(json.loads(text), case) for text, case in found.items()]
    ordinary = [(manifest, case) for manifest, case in manifests if not manifest["apiVersion"].startswith(CUSTOM)]
    assert len(ordinary) > 50
    for manifest, case in ordinary:
        check(manifest, version, case)


@pytest.mark.parametrize("where", ["spec", "container"])
def test_the_check_sees_a_misspelled_field(where: str) -> None:
    deployment = copy.deepcopy(one(render({}), "Deployment", "-worker"))
    place = deployment["spec"] if where == "spec" else deployment["spec"]["template"]["spec"]["containers"][0]
    place["replcas"] = 3
    with pytest.raises(kubernetes_validate.ValidationError, match="replcas"):
        kubernetes_validate.validate(deployment, VERSIONS[-1], strict=True)


# -- the operator ----------------------------------------------------------------------------------------------------


@cache
def dask_job_validator() -> Any:
    """Checks a DaskJob by the schema of Dask's operator, with no field allowed that it does not name."""
    found = importlib.util.find_spec("dask_kubernetes")
    if found is None or not found.submodule_search_locations:
        pytest.skip("dask-kubernetes, which has the schemas, is not installed")
    (path,) = Path(found.submodule_search_locations[0], "operator").glob("deployment/helm/*/crds/daskjob.yaml")
    definition = yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    schema = closed(definition["spec"]["versions"][-1]["schema"]["openAPIV3Schema"])
    for name in ("apiVersion", "kind", "metadata"):  # of every object
        schema["properties"].setdefault(name, {})
    schema["required"] = [name for name in schema.get("required", []) if name != "status"]  # the operator writes it
    return jsonschema.Draft202012Validator(schema)


def closed(schema: Any) -> Any:
    """The schema with unknown fields refused, as a strict API server does."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    changed = {key: closed(value) for key, value in schema.items() if key != "x-kubernetes-int-or-string"}
    if isinstance(changed.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        changed.setdefault("additionalProperties", False)
    return changed


OPERATED = [case for case in CASES if "operator" in case]


@pytest.mark.parametrize("case", OPERATED)
def test_the_dask_job_is_valid(case: str) -> None:
    dask_job_validator().validate(one(render(CASES[case]), "DaskJob"))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "cluster", "spec", "worker", "replicas"), "four"),
        (("spec", "cluster", "spec", "worker", "replcas"), 4),
        (("spec", "job", "spec", "containers"), None),
        (("spec", "cluster", "spec", "scheduler", "spec", "containers"), {}),
    ],
)
def test_the_check_sees_a_bad_dask_job(path: tuple[str, ...], value: Any) -> None:
    manifest = copy.deepcopy(one(render(CASES["operator"]), "DaskJob"))
    place = manifest
    for name in path[:-1]:
        place = place[name]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        dask_job_validator().validate(manifest)


@pytest.mark.parametrize("case", OPERATED)
@pytest.mark.parametrize("version", VERSIONS)
def test_pods_inside_the_dask_job_are_valid_as_pods(case: str, version: str) -> None:
    """The operator's schemas leave much of a pod open; Kubernetes' own does not."""
    for name, spec, _ in pods([one(render(CASES[case]), "DaskJob")]):
        check({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}, version, case)


def test_the_operator_renders_no_cluster_of_our_own() -> None:
    kinds = [
        m["kind"] for m in render(CASES["operator"]) if not m["metadata"].get("annotations", {}).get("helm.sh/hook")
    ]
    assert "DaskJob" in kinds
    assert not {"Deployment", "Service", "Job", "HorizontalPodAutoscaler"} & set(kinds)


def test_pods_are_the_same_with_and_without_the_operator() -> None:
    """But for the worker's name, which the operator gives."""

    def of(case: str, part: str) -> str:
        found = [spec for name, spec, _ in pods(render(CASES[case])) if part in name and "certificates" not in name]
        spec = copy.deepcopy(found[0])
        for container in containers(spec):
            container["env"] = [e for e in container["env"] if e["name"] != "DASK_WORKER_NAME"]
        return json.dumps(spec, sort_keys=True)

    assert of("operator", "-scheduler") == of("default", "-scheduler")
    assert of("operator", "-worker") == of("default", "-worker")
    assert of("operator", "-runner") == of("default", "-run-")

"""The chart as its tests see it: rendered by Helm's own library, for a matrix of values, as plain objects."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "cagdask"
RELEASE, NAMESPACE = "cags", "science"
URLS = {"input": "s3://bucket/sample_sheet.json", "output": "s3://bucket/cags"}

Values = dict[str, Any]
Manifest = dict[str, Any]

CASES: dict[str, Values] = {
    "default": {},
    "private S3 server": {"s3": {"endpointUrl": "http://minio.storage:9000", "region": "x", "existingSecret": "keys"}},
    "https S3 server without port": {"s3": {"endpointUrl": "https://objects.example.org"}},
    "role of a service account": {"serviceAccount": {"name": "reader", "annotations": {"example.org/role": "cags"}}},
    "account of others": {"serviceAccount": {"create": False, "name": "theirs"}},
    "certificates of others": {"tls": {"existingSecret": "from-cert-manager"}},
    "no TLS": {"tls": {"enabled": False}},
    "autoscaling": {"worker": {"autoscaling": {"enabled": True, "minReplicas": 3, "maxReplicas": 30}}},
    "large workers": {"worker": {"replicas": 2, "cpu": 8, "memory": "96Gi", "scratch": "200Gi"}},
    "options": {
        "options": {"max-dist": 0.15, "seed": 1_000_000, "normalization": "clr", "overwrite": True, "not-so": False}
    },
    "dashboard": {"dashboard": {"enabled": True, "existingSecret": "dashboard"}},
    "bare": {"networkPolicy": {"enabled": False}, "podDisruptionBudget": {"enabled": False}},
    "operator": {"operator": {"enabled": True}},
    "operator, no TLS, dashboard": {
        "operator": {"enabled": True},
        "tls": {"enabled": False},
        "dashboard": {"enabled": True, "existingSecret": "dashboard"},
    },
    "placed": {
        side: {
            "nodeSelector": {"pool": side},
            "tolerations": [{"key": "spot", "operator": "Exists", "effect": "NoSchedule"}],
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "arch", "operator": "In", "values": ["amd64"]}]}
            ]}}},
        }
        for side in ("driver", "scheduler", "worker")
    },
    "everything else": {
        "image": {
            "repository": "registry.example.org/lab/cagdask",
            "digest": "sha256:" + 64 * "a",
            "pullPolicy": "Always",
            "pullSecrets": [{"name": "pull"}],
        },
        "driver": {"activeDeadlineSeconds": 86_400, "backoffLimit": 0, "waitWorkers": 1},
        "networkPolicy": {"egressPorts": [], "extraEgress": [{"ports": [{"protocol": "TCP", "port": 3128}]}]},
        "podDisruptionBudget": {"workersUnavailable": 1},
        "podLabels": {"team": "gut"},
        "podAnnotations": {"example.org/note": "yes"},
        "priorityClassName": "low",
        "extraEnv": [{"name": "AWS_CA_BUNDLE", "value": "/etc/ssl/own/ca.pem"}],
        "extraVolumes": [{"name": "own-ca", "configMap": {"name": "own-ca"}}],
        "extraVolumeMounts": [{"name": "own-ca", "mountPath": "/etc/ssl/own", "readOnly": True}],
    },
}  # fmt: skip
"""Values that are not the default, by what they are for."""


class _Strict(yaml.SafeLoader):
    """YAML with a key twice in one object, of which others take the last, is an error here."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key) for key, _ in node.value]
        if len(set(keys)) != len(keys):
            raise yaml.constructor.ConstructorError(None, None, f"a key twice among {keys}", node.start_mark)
        return dict(super().construct_mapping(node, deep=deep))


@functools.cache
def chart() -> Any:
    """The chart, loaded once."""
    import helm_python

    return helm_python.Chart.load(str(CHART))


def render_text(values: Values, **options: Any) -> dict[str, str]:
    """Text of each template."""
    return dict(chart().render(URLS | values, name=RELEASE, namespace=NAMESPACE, **options))


@functools.cache
def _manifests(values: str) -> str:
    found = []
    for name, text in sorted(render_text(json.loads(values)).items()):
        if name.endswith(".yaml"):
            found += [one for one in yaml.load_all(text, Loader=_Strict) if one]
    return json.dumps(found)


def render(values: Values) -> list[Manifest]:
    """Every object that the chart makes of these values."""
    return list(json.loads(_manifests(json.dumps(values))))


def one(manifests: list[Manifest], kind: str, ending: str = "") -> Manifest:
    """The only object of a kind whose name ends so."""
    (found,) = [m for m in manifests if m["kind"] == kind and m["metadata"]["name"].endswith(ending)]
    return found


def pods(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest, dict[str, str]]]:
    """Where each pod comes from, its spec, and its labels; in a DaskJob as the operator would label it."""
    for manifest in manifests:
        kind, name, spec = manifest["kind"], manifest["metadata"]["name"], manifest.get("spec", {})
        if kind == "Pod":
            yield name, spec, manifest["metadata"]["labels"]
        elif kind in ("Deployment", "Job"):
            yield name, spec["template"]["spec"], spec["template"]["metadata"]["labels"]
        elif kind == "DaskJob":
            own = {"dask.org/cluster-name": name}
            cluster = spec["cluster"]["spec"]
            yield f"{name}-runner", spec["job"]["spec"], own | {"dask.org/component": "job-runner"}
            yield f"{name}-scheduler", cluster["scheduler"]["spec"], own | {"dask.org/component": "scheduler"}
            yield f"{name}-worker", cluster["worker"]["spec"], own | {"dask.org/component": "worker"}


def pod(manifests: list[Manifest], part: str) -> Manifest:
    """The spec of the one pod whose name has this part."""
    (found,) = [spec for name, spec, _ in pods(manifests) if part in name]
    return found


def containers(spec: Manifest) -> list[Manifest]:
    """All containers of a pod."""
    return [*spec.get("initContainers", []), *spec["containers"]]


def command(container: Manifest) -> list[str]:
    """What a container runs."""
    return [*container["command"], *container.get("args", [])]

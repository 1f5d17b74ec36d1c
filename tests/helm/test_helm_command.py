"""The helm command itself takes the chart, as a user types it; without a cluster, as far as that goes."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
import yaml

from tests.helm.rendering import CASES, CHART, NAMESPACE, RELEASE, ROOT, render, render_text

pytest.importorskip("helm_python")

INSTALL = "install cags helm/cagdask --set input=s3://bucket/sample_sheet.json,output=s3://bucket/cags"
"""As the README says it."""


@cache
def helm() -> str:
    """Helm 4: named by HELM, from scripts/fetch_helm.py, or on the PATH."""
    for program in (os.environ.get("HELM"), ROOT / "build" / "helm" / "helm", shutil.which("helm")):
        if program and Path(program).exists():
            told = subprocess.run([program, "version", "--short"], capture_output=True, text=True, check=True).stdout
            if re.match(r"v?4\.", told):
                return str(program)
    pytest.skip("no helm 4; scripts/fetch_helm.py build/helm gets it")


def run(arguments: str | list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run helm in the repository, with nothing of the user's settings and no cluster."""
    own = {f"HELM_{name}_HOME": str(folder / name.lower()) for name in ("CACHE", "CONFIG", "DATA")}
    environment = os.environ | own | {"KUBECONFIG": str(folder / "none"), "HELM_NAMESPACE": NAMESPACE}
    words = arguments.split() if isinstance(arguments, str) else arguments
    return subprocess.run([helm(), *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_one_command_is_the_whole_deployment(tmp_path: Path) -> None:
    assert INSTALL in (CHART / "README.md").read_text()
    ended = run(f"{INSTALL} --dry-run=client", tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "STATUS: pending-install" in ended.stdout
    assert "cagdask finds the CAGs of s3://bucket/sample_sheet.json" in ended.stdout
    for kind in ("Deployment", "Service", "NetworkPolicy", "PodDisruptionBudget", "Job", "ServiceAccount"):
        assert f"\nkind: {kind}\n" in ended.stdout


def documented() -> list[str]:
    """Every helm install of the docs, on one line."""
    pages = [ROOT / "README.md", CHART / "README.md", *(ROOT / "docs").rglob("*.md")]
    found = []
    for page in pages:
        text = page.read_text().replace("\\\n", " ")
        found += [" ".join(line.split()) for line in re.findall(r"^ *helm install .*$", text, re.MULTILINE)]
    return sorted(set(found))


def test_every_install_of_the_docs_is_accepted(tmp_path: Path) -> None:
    (example,) = re.findall(
        r"^```yaml\n(.*?)^```", (ROOT / "docs/how-to/run-on-kubernetes.md").read_text(), re.MULTILINE | re.DOTALL
    )
    (tmp_path / "cags.yaml").write_text(example)
    commands = documented()
    assert len(commands) >= 4
    for line in commands:
        words = shlex.split(line.replace("cags.yaml", str(tmp_path / "cags.yaml")))[1:]
        ended = run([*words, "--dry-run=client"], tmp_path)
        assert ended.returncode == 0, f"{line}\n{ended.stderr}"


@pytest.mark.parametrize("case", CASES)
def test_the_command_renders_what_the_library_renders(case: str, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump(CASES[case]))
    urls = INSTALL.split("--set ")[1]
    lint = run(f"lint --strict helm/cagdask --set {urls} --values {values}", tmp_path)
    assert lint.returncode == 0, lint.stdout + lint.stderr
    ended = run(f"template {RELEASE} helm/cagdask --set {urls} --values {values} --namespace {NAMESPACE}", tmp_path)
    assert ended.returncode == 0, ended.stderr
    made = [manifest for manifest in yaml.safe_load_all(ended.stdout) if manifest]

    def ordered(manifests: list[dict[str, object]]) -> list[str]:
        return sorted(yaml.safe_dump(manifest) for manifest in manifests)

    assert ordered(made) == ordered(render(CASES[case]))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("--set wroker.replicas=2", "'wroker' not allowed"),
        ("--set worker.memory=4", "/worker/memory"),
        ("--set input=", "input is empty"),
        ("--set operator.enabled=true --set worker.autoscaling.enabled=true", "exclude each other"),
        ("--kube-version 1.27.0", "kubeVersion"),
    ],
)
def test_the_command_refuses(more: str, said: str, tmp_path: Path) -> None:
    ended = run(INSTALL.replace("install", "template") + f" {more}", tmp_path)
    assert ended.returncode == 1
    assert said in ended.stderr


def test_the_command_packs_the_chart_and_installs_the_package(tmp_path: Path) -> None:
    assert run(f"package helm/cagdask --destination {tmp_path}", tmp_path).returncode == 0
    (packed,) = tmp_path.glob("cagdask-*.tgz")
    ended = run(INSTALL.replace("helm/cagdask", str(packed)) + " --dry-run=client", tmp_path)
    assert ended.returncode == 0, ended.stderr
    notes = next(text for name, text in render_text({}).items() if name.endswith("NOTES.txt"))
    assert notes.splitlines()[0] in ended.stdout

"""The commands of the rendered containers do what the chart promises, run as processes of this machine."""

from __future__ import annotations

import base64
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helm.api_server import ApiServer
from tests.helm.local_pods import LocalPods, wait_until
from tests.helm.rendering import NAMESPACE, ROOT, Manifest, Values, chart, one, pods, render
from tests.s3_server import ACCESS_KEY, SECRET_KEY, S3Server

pytest.importorskip("helm_python")
pytestmark = pytest.mark.timeout(1800)

SCHEDULER, WORKERS, DRIVER = "cags-cagdask-scheduler", ("worker-0", "worker-1"), "driver-0"
LOOPBACK: Values = {
    "scheduler": {"extraArgs": ["--host", "127.0.0.1"], "noWorkersTimeout": "20s"},
    "worker": {"replicas": 2, "memory": "2Gi", "extraArgs": ["--host", "127.0.0.1"]},
    "driver": {"waitSeconds": 240},
}
ON_A_VOLUME: Values = {
    "input": "/data/demo/sample_sheet.json",
    "output": "/data/cags",
    "extraVolumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "cohort"}}],
    "extraVolumeMounts": [{"name": "data", "mountPath": "/data"}],
}
PLAIN: Values = LOOPBACK | {"tls": {"enabled": False}}


def container(values: Values, part: str, name: str) -> Manifest:
    for pod, spec, _ in pods(render(values)):
        for found in [*spec.get("initContainers", []), *spec["containers"]]:
            if part in pod and found["name"] == name:
                return dict(found)
    raise AssertionError(f"no container {name} in a pod like {part}")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates made by the chart's hook in a Secret, and mounted as a folder."""
    folder = tmp_path_factory.mktemp("tls")
    own = folder / "of-the-api-server"
    make(["--folder", str(own), "--name", "127.0.0.1"])
    files = {path.name: path.read_bytes() for path in own.iterdir()}
    api_folder = folder / "api"
    api_folder.mkdir()
    with ApiServer(api_folder, files, NAMESPACE) as api:
        hook = one(render({}), "Job", "-certificates-make")["spec"]["template"]["spec"]["containers"][0]
        make([*hook["args"], "--account", str(api.account)], api.environment)
        (secret,) = api.secrets.values()
    mounted = folder / "mounted"
    mounted.mkdir()
    assert secret["metadata"]["name"] == "cags-cagdask-tls"
    for name, content in secret["data"].items():
        (mounted / name).write_bytes(base64.b64decode(content))
    return mounted


def make(arguments: list[str], environment: dict[str, str] | None = None) -> None:
    script = ROOT / "scripts" / "make_certificates.py"
    subprocess.run([sys.executable, script, *arguments], env=environment or {}, check=True, capture_output=True)


@pytest.fixture
def local_pods(tmp_path: Path, certificates: Path) -> Iterator[LocalPods]:
    folder = tmp_path / "pods"
    folder.mkdir()
    with LocalPods(folder, certificates, {"/data": tmp_path}) as made:
        made.serve(SCHEDULER, SCHEDULER)
        yield made


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """A tenth of the demo cohort."""
    sheet = json.loads((ROOT / "demo" / "sample_sheet.json").read_text())
    few = dict(list(sheet.items())[::10])
    (tmp_path / "demo" / "samples").mkdir(parents=True)
    for name in few.values():
        shutil.copy(ROOT / "demo" / name, tmp_path / "demo" / name)
    (tmp_path / "demo" / "sample_sheet.json").write_text(json.dumps(few))
    return tmp_path / "demo" / "sample_sheet.json"


def start_cluster(local_pods: LocalPods, values: Values) -> None:
    scheduler = container(values, "-scheduler", "scheduler")
    local_pods.start(SCHEDULER, scheduler)
    for pod in WORKERS:  # before the scheduler is ready, as in a cluster
        local_pods.start(pod, container(values, "-worker", "worker"))
    local_pods.until_ready(SCHEDULER, scheduler)


def digests(run_json: dict[str, Any]) -> dict[str, str]:
    """Of the result files; that of the source also knows where it lies."""
    return {name: value for name, value in run_json["digests"].items() if name != "source"}


def run_and_compare(local_pods: LocalPods, values: Values, cohort: Path, runner: Any) -> None:
    """Install, wait, test, run; the result is that of a local run, to the byte."""
    from cagdask import storage
    from cagdask.runs import pipeline

    values = values | {"options": {"max-dist": 0.25}}
    start_cluster(local_pods, values)
    assert local_pods.run(DRIVER, container(values, "-run-", "wait")) == 0, local_pods.said(DRIVER)
    assert "2 workers, versions agree" in local_pods.said(DRIVER)
    assert local_pods.run("test-0", container(values, "-test", "test")) == 0, local_pods.said("test-0")
    assert "1 URLs found by each" in local_pods.said("test-0")
    assert local_pods.run(DRIVER, container(values, "-run-", "driver")) == 0, local_pods.said(DRIVER)
    for pod in WORKERS:
        assert local_pods.probe(pod, container(values, "-worker", "worker")) == 200
    folder = cohort.parents[1]
    made = storage.read_json(values["output"].replace("/data", str(folder), 1) + "/run.json")
    assert (made["workers"]["n_workers"], made["workers"]["n_threads"]) == (2, 2)
    assert made["workers"]["memory_limit"] == 1843 * 2**20, "nine tenths of 2 GiB"
    pipeline.run(str(cohort), output=str(folder / "local"), client=runner, max_dist=0.25)
    here = json.loads((folder / "local" / "run.json").read_text())
    assert digests(made) == digests(here)
    assert len(digests(made)) >= 5


@pytest.mark.slow
def test_the_whole_deployment_with_tls_and_s3(
    local_pods: LocalPods, cohort: Path, runner: Any, s3: S3Server, s3_url: str
) -> None:
    """Input and output on a server with authentication, its keys from a Secret: what a user installs."""
    from cagdask import storage

    for path in cohort.parent.rglob("*.json*"):
        storage.write_bytes(f"{s3_url}/demo/{path.relative_to(cohort.parent)}", path.read_bytes())
    local_pods.secrets["keys"] = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    access = {"endpointUrl": s3.url, "region": "us-east-1", "existingSecret": "keys"}
    urls = {"input": f"{s3_url}/demo/sample_sheet.json", "output": f"{s3_url}/cags", "s3": access}
    run_and_compare(local_pods, LOOPBACK | urls, cohort, runner)
    for pod in (SCHEDULER, *WORKERS, DRIVER, "test-0"):
        assert SECRET_KEY not in local_pods.said(pod)


@pytest.mark.slow  # but for where the files lie, the same as on S3
@pytest.mark.parametrize("values", [LOOPBACK, PLAIN], ids=["with TLS", "without TLS"])
def test_a_run_on_a_volume(local_pods: LocalPods, cohort: Path, runner: Any, values: Values) -> None:
    run_and_compare(local_pods, values | ON_A_VOLUME, cohort, runner)


@pytest.mark.usefixtures("cohort")
def test_a_killed_driver_goes_on_when_the_job_starts_it_again(local_pods: LocalPods, tmp_path: Path) -> None:
    output = tmp_path / "cags"
    values = LOOPBACK | ON_A_VOLUME
    start_cluster(local_pods, values)
    assert local_pods.run(DRIVER, container(values, "-run-", "wait")) == 0, local_pods.said(DRIVER)
    driver = container(values, "-run-", "driver")
    process = local_pods.start(DRIVER, driver)
    wait_until(lambda: (output / "abundance.zarr").exists(), 400, lambda: local_pods.said(DRIVER))
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (output / "run.json").exists()
    assert local_pods.run("driver-1", driver) == 0, local_pods.said("driver-1")
    assert "going on" in local_pods.said("driver-1")
    assert (output / "run.json").exists()


def test_a_misuse_ends_with_the_code_that_the_job_does_not_repeat(local_pods: LocalPods) -> None:
    driver = container(PLAIN | {"options": {"no-such-option": 1}}, "-run-", "driver")
    assert local_pods.run(DRIVER, driver) == 2
    assert "no-such-option" in local_pods.said(DRIVER)


# -- TLS -------------------------------------------------------------------------------------------------------------


def test_only_holders_of_the_certificates_get_in(local_pods: LocalPods, tmp_path: Path) -> None:
    start_cluster(local_pods, LOOPBACK)
    wait = container(LOOPBACK, "-run-", "wait")
    assert local_pods.run(DRIVER, wait) == 0, local_pods.said(DRIVER)

    make(["--folder", str(tmp_path / "foreign")])
    plain = container(PLAIN | {"driver": {"waitSeconds": 3}}, "-run-", "wait")
    patient = container(LOOPBACK | {"driver": {"waitSeconds": 3}}, "-run-", "wait")
    foreign = LocalPods(local_pods.folder, tmp_path / "foreign")
    foreign.services = local_pods.services
    for pods_, pod, tried in ((local_pods, "plain", plain), (foreign, "foreign", patient)):
        assert pods_.run(pod, tried) == 1, pods_.said(pod)
        assert "no Dask scheduler answers" in pods_.said(pod)
        assert "Traceback" not in pods_.said(pod)


# -- waiting ---------------------------------------------------------------------------------------------------------


def test_waiting_names_what_is_missing(local_pods: LocalPods, tmp_path: Path) -> None:
    def waits(values: Values, pod: str, *more: str) -> str:
        found = container(PLAIN | values, "-run-", "wait")
        assert local_pods.run(pod, found | {"args": [*found["args"], *more]}) == 1
        text = local_pods.said(pod)
        assert "Traceback" not in text
        return text

    assert "no Dask scheduler answers" in waits({"driver": {"waitSeconds": 2}}, "early")
    scheduler = container(PLAIN, "-scheduler", "scheduler")
    local_pods.start(SCHEDULER, scheduler)
    local_pods.until_ready(SCHEDULER, scheduler)
    assert "has 0 of the 2 workers" in waits({"driver": {"waitSeconds": 2}}, "no-workers")
    local_pods.start("worker-0", container(PLAIN, "-worker", "worker"))
    one_worker = {"driver": {"waitSeconds": 60, "waitWorkers": 1}}
    said = waits(one_worker, "unreadable", "--read", "/data/gone.json")
    assert f"{tmp_path}/gone.json: 1 of 1 workers can not read it" in said


# -- what the scheduler shows ----------------------------------------------------------------------------------------


def test_without_the_dashboard_only_health_is_answered(local_pods: LocalPods) -> None:
    scheduler = container(PLAIN, "-scheduler", "scheduler")
    local_pods.start(SCHEDULER, scheduler)
    local_pods.until_ready(SCHEDULER, scheduler)
    for path in ("/info/main/workers.html", "/json/counts.json", "/metrics", "/status"):
        assert local_pods.probe(SCHEDULER, scheduler, path) == 404


def test_the_dashboard_asks_for_its_password(local_pods: LocalPods, tmp_path: Path) -> None:
    values = PLAIN | {"dashboard": {"enabled": True, "existingSecret": "dashboard"}}
    scheduler = container(values, "-scheduler", "scheduler")
    local_pods.mounts["/etc/cagdask/dashboard"] = tmp_path
    assert local_pods.run(SCHEDULER, scheduler, 120) != 0, "no password, no scheduler"
    (tmp_path / "password").write_text("öpen sesame\n")
    local_pods.start(SCHEDULER, scheduler)
    local_pods.until_ready(SCHEDULER, scheduler)

    def status(path: str, login: str | None = None) -> int:
        code = base64.b64encode((login or "").encode()).decode()
        headers = {"Authorization": f"Basic {code}"} if login else {}
        return local_pods.probe(SCHEDULER, scheduler, path, **headers)

    pages = ("/info/main/workers.html", "/json/counts.json", "/sitemap.json", "/status", "/statics/css/base.css")
    for path in pages:
        assert status(path) == 401, path
        assert status(path, "dask:wrong") == 401, path
        assert status(path, "admin:öpen sesame") == 401, path
    assert status("/info/main/workers.html", "dask:öpen sesame") == 200
    assert status("/health") == 200


def test_no_process_writes_outside_its_scratch_volume(local_pods: LocalPods) -> None:
    """As with a read-only root: the environment leads everything to the volume."""
    for part, name in (("-scheduler", "scheduler"), ("-worker", "worker"), ("-run-", "driver"), ("-run-", "wait")):
        env = local_pods.environment("pod", container({}, part, name))
        for variable in ("HOME", "TMPDIR", "MPLCONFIGDIR"):
            assert env[variable].startswith(str(local_pods.folder)), (name, variable)


def test_a_release_can_be_packed(tmp_path: Path) -> None:
    chart().save(str(tmp_path))
    (packed,) = tmp_path.iterdir()
    listed = subprocess.run(["tar", "-tzf", packed], capture_output=True, text=True, check=True).stdout.split()
    assert "cagdask/values.schema.json" in listed
    assert "cagdask/templates/NOTES.txt" in listed

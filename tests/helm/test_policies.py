"""What must hold of every pod, port and policy that the chart makes, whatever the values."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.helm.rendering import CASES, Manifest, command, containers, one, pod, pods, render

pytest.importorskip("helm_python")

LONG_RUNNING = ("scheduler", "worker")


def each_container(case: str) -> list[tuple[str, Manifest, Manifest]]:
    return [(name, spec, c) for name, spec, _ in pods(render(CASES[case])) for c in containers(spec)]


@pytest.mark.parametrize("case", CASES)
def test_nothing_runs_as_root_or_can_become_it(case: str) -> None:
    for name, spec, _ in pods(render(CASES[case])):
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert security["runAsUser"] > 0, name
        assert security["runAsGroup"] > 0, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not set(spec) & {"hostNetwork", "hostPID", "hostIPC"}, name
        for volume in spec["volumes"]:
            assert "hostPath" not in volume, name
        for container in containers(spec):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


@pytest.mark.parametrize("case", CASES)
def test_only_the_hooks_get_a_token_of_the_api_server(case: str) -> None:
    for name, spec, _ in pods(render(CASES[case])):
        assert spec["automountServiceAccountToken"] is ("-certificates-" in name), name


@pytest.mark.parametrize("case", CASES)
def test_requests_are_limits(case: str) -> None:
    for name, spec, container in each_container(case):
        resources = container["resources"]
        assert resources["requests"] == resources["limits"], name
        assert set(resources["limits"]) == {"cpu", "memory", "ephemeral-storage"}, name
        (scratch,) = [volume for volume in spec["volumes"] if volume["name"] == "scratch"]
        assert scratch["emptyDir"]["sizeLimit"] == resources["limits"]["ephemeral-storage"], name


@pytest.mark.parametrize("case", CASES)
def test_what_is_written_lies_on_the_scratch_volume(case: str) -> None:
    for name, _, container in each_container(case):
        mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
        assert mounts["/tmp"]["name"] == "scratch", name
        writable = [path for path, mount in mounts.items() if not mount.get("readOnly")]
        assert writable == ["/tmp"], name
        env = {e["name"]: e.get("value", "") for e in container.get("env", [])}
        for variable in ("HOME", "TMPDIR", "NUMBA_CACHE_DIR", "MPLCONFIGDIR"):
            assert "certificates" in name or env[variable].startswith("/tmp"), (name, variable)


@pytest.mark.parametrize("case", CASES)
def test_long_running_containers_have_probes_on_their_own_port(case: str) -> None:
    seen = 0
    for name, _, container in each_container(case):
        if container["name"] not in LONG_RUNNING:
            continue
        seen += 1
        (port,) = [p["containerPort"] for p in container["ports"] if p["name"] == "http"]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert container[probe]["httpGet"] == {"path": "/health", "port": "http"}, name
        arguments = command(container)
        assert arguments[arguments.index("--dashboard-address") + 1] == f":{port}", name
    assert seen == 2


@pytest.mark.parametrize("case", CASES)
def test_declared_ports_are_those_of_the_arguments(case: str) -> None:
    for _, _, container in each_container(case):
        if container["name"] in LONG_RUNNING:
            flags = {"scheduler": ["--port"], "worker": ["--worker-port", "--nanny-port"]}[container["name"]]
            arguments = command(container)
            given = [int(arguments[arguments.index(flag) + 1]) for flag in flags]
            assert given == [p["containerPort"] for p in container["ports"] if p["name"] != "http"]


def services(manifests: list[Manifest]) -> list[tuple[str, Manifest]]:
    found = [(m["metadata"]["name"], m["spec"]) for m in manifests if m["kind"] == "Service"]
    for job in (m for m in manifests if m["kind"] == "DaskJob"):  # the operator names it so
        found.append((f"{job['metadata']['name']}-scheduler", job["spec"]["cluster"]["spec"]["scheduler"]["service"]))
    return found


@pytest.mark.parametrize("case", CASES)
def test_everybody_calls_the_scheduler_by_its_service(case: str) -> None:
    manifests = render(CASES[case])
    ((name, service),) = services(manifests)
    scheduler = pod(manifests, "-scheduler")["containers"][0]
    named = {p["name"]: p["containerPort"] for p in scheduler["ports"]}
    assert {p["name"]: named[p["targetPort"]] for p in service["ports"]} == named
    assert all(p["port"] == named[p["name"]] for p in service["ports"])
    protocol = "tcp" if CASES[case].get("tls", {}).get("enabled") is False else "tls"
    address = f"{protocol}://{name}:{named['comm']}"
    callers = [c for n, _, c in each_container(case) if c["name"] in ("worker", "wait", "driver", "test")]
    assert len(callers) == 4
    for container in callers:
        assert address in command(container), container["name"]
    assert command(scheduler)[command(scheduler).index("--protocol") + 1] == protocol


def matching(selector: dict[str, str], manifests: list[Manifest]) -> list[str]:
    return sorted(name for name, _, labels in pods(manifests) if selector.items() <= labels.items())


@pytest.mark.parametrize("case", CASES)
def test_selectors_find_the_pods_they_mean_and_no_others(case: str) -> None:
    manifests = render(CASES[case])
    for manifest in manifests:
        kind, name, spec = manifest["kind"], manifest["metadata"]["name"], manifest.get("spec", {})
        if kind == "Deployment":
            assert matching(spec["selector"]["matchLabels"], manifests) == [name]
        elif kind == "PodDisruptionBudget":
            assert matching(spec["selector"]["matchLabels"], manifests) == [name]
        elif kind == "NetworkPolicy":
            (found,) = matching(spec["podSelector"]["matchLabels"], manifests)
            assert name.removesuffix("driver") in found
        elif kind == "HorizontalPodAutoscaler":
            one(manifests, "Deployment", spec["scaleTargetRef"]["name"])
    for name, service in services(manifests):
        assert matching(service["selector"], manifests) == [name]


@pytest.mark.parametrize("case", CASES)
def test_two_releases_in_a_namespace_do_not_meet(case: str) -> None:
    for manifest in render(CASES[case]):
        spec = manifest.get("spec", {})
        for place in ("selector", "podSelector"):
            selector = spec.get(place, {}).get("matchLabels")
            assert selector is None or any(value.startswith("cags") for value in selector.values())


# -- TLS, credentials ------------------------------------------------------------------------------------------------

TLS = {"--tls-ca-file": "ca.crt", "--tls-cert": "tls.crt", "--tls-key": "tls.key"}


@pytest.mark.parametrize("case", CASES)
def test_everybody_speaks_tls_or_nobody(case: str) -> None:
    enabled = CASES[case].get("tls", {}).get("enabled", True)
    for name, spec, container in each_container(case):
        if "certificates" in name:
            continue
        arguments = command(container)
        env = {e["name"]: e.get("value") for e in container["env"]}
        assert env["DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION"] == str(enabled), name
        assert ("tcp" in " ".join(arguments)) is not enabled, name
        mounted = {m["name"]: m for m in container["volumeMounts"]}
        assert ("tls" in mounted) is enabled
        for flag, file in TLS.items():
            assert (flag in arguments) is enabled
            if enabled:
                assert arguments[arguments.index(flag) + 1] == f"{mounted['tls']['mountPath']}/{file}"
        secrets = [v["secret"] for v in spec["volumes"] if v["name"] == "tls"]
        assert all(secret["defaultMode"] == 0o440 for secret in secrets)
        wanted = CASES[case].get("tls", {}).get("existingSecret", "cags-cagdask-tls")
        assert [secret["secretName"] for secret in secrets] == ([wanted] if enabled else [])


@pytest.mark.parametrize("case", CASES)
def test_certificates_are_made_before_anything_starts_and_only_if_asked_for(case: str) -> None:
    tls = CASES[case].get("tls", {})
    made = tls.get("enabled", True) and not tls.get("existingSecret")
    hooks: dict[str, list[int]] = {}
    for manifest in render(CASES[case]):
        annotations = manifest["metadata"].get("annotations", {})
        if "helm.sh/hook" in annotations and manifest["kind"] != "Pod":
            hooks.setdefault(manifest["kind"], []).append(int(annotations["helm.sh/hook-weight"]))
            assert "hook-succeeded" in annotations["helm.sh/hook-delete-policy"]
    assert set(hooks) == ({"ServiceAccount", "Role", "RoleBinding", "Job"} if made else set())
    if made:
        assert max(hooks["ServiceAccount"] + hooks["Role"]) < min(hooks["RoleBinding"]) < min(hooks["Job"])


def test_the_hook_may_touch_one_secret_only() -> None:
    role = one(render({}), "Role")
    assert [rule["resources"] for rule in role["rules"]] == [["secrets"], ["secrets"]]
    create, other = role["rules"]
    assert create["verbs"] == ["create"]
    assert other["resourceNames"] == ["cags-cagdask-tls"]
    assert set(other["verbs"]) == {"get", "patch", "delete"}


@pytest.mark.parametrize("case", CASES)
def test_no_credential_is_in_a_manifest(case: str) -> None:
    for _, _, container in each_container(case):
        for entry in container.get("env", []):
            assert not re.search(r"SECRET|PASSWORD$|TOKEN|ACCESS_KEY", entry["name"]), entry
        text = " ".join(command(container))
        assert not re.search(r"secret_access_key|AKIA", text, re.IGNORECASE)


def test_credentials_reach_driver_and_workers() -> None:
    manifests = render(CASES["private S3 server"])
    for part, name in (("-run-", "driver"), ("-worker", "worker"), ("-test", "test")):
        (container,) = [c for c in pod(manifests, part)["containers"] if c["name"] == name]
        assert container["envFrom"] == [{"secretRef": {"name": "keys"}}]
        env = {e["name"]: e.get("value") for e in container["env"]}
        assert env["AWS_ENDPOINT_URL"] == "http://minio.storage:9000"
        assert env["AWS_REGION"] == "x"


def test_the_account_carries_the_role() -> None:
    manifests = render(CASES["role of a service account"])
    (account,) = [m for m in manifests if m["kind"] == "ServiceAccount" and "certificates" not in m["metadata"]["name"]]
    assert account["metadata"]["annotations"] == {"example.org/role": "cags"}
    for name, spec, _ in pods(manifests):
        assert "certificates" in name or spec["serviceAccountName"] == account["metadata"]["name"] == "reader"


def test_an_account_of_others_is_used_and_not_made() -> None:
    manifests = render(CASES["account of others"])
    assert not [m for m in manifests if m["kind"] == "ServiceAccount" and "certificates" not in m["metadata"]["name"]]
    assert pod(manifests, "-worker")["serviceAccountName"] == "theirs"


# -- network ---------------------------------------------------------------------------------------------------------


def allowed(policy: Manifest, direction: str) -> set[int]:
    return {port["port"] for rule in policy["spec"].get(direction, []) for port in rule["ports"]}


def test_every_pod_of_a_run_has_a_network_policy() -> None:
    manifests = render({})
    policies = [m for m in manifests if m["kind"] == "NetworkPolicy"]
    for part in ("-scheduler", "-worker", "-run-"):
        labels = next(labels for name, _, labels in pods(manifests) if part in name)
        found = [p for p in policies if p["spec"]["podSelector"]["matchLabels"].items() <= labels.items()]
        assert len(found) == 1
        assert found[0]["spec"]["policyTypes"] == ["Ingress", "Egress"]


def test_only_members_of_the_release_get_in() -> None:
    manifests = render({})
    assert allowed(one(manifests, "NetworkPolicy", "-scheduler"), "ingress") == {8786}
    assert allowed(one(manifests, "NetworkPolicy", "-worker"), "ingress") == {8788, 8789}
    assert one(manifests, "NetworkPolicy", "-driver")["spec"]["ingress"] == []
    for policy in (m for m in manifests if m["kind"] == "NetworkPolicy"):
        for rule in policy["spec"]["ingress"]:
            assert rule["from"]
            for peer in rule["from"]:
                assert matching(peer["podSelector"]["matchLabels"], manifests)


@pytest.mark.parametrize(
    ("case", "ports"),
    [
        ("default", {443}),
        ("private S3 server", {443, 9000}),
        ("https S3 server without port", {443}),
        ("everything else", {3128}),
    ],
)
def test_egress_reaches_the_scheduler_names_and_s3(case: str, ports: set[int]) -> None:
    for policy in (m for m in render(CASES[case]) if m["kind"] == "NetworkPolicy"):
        assert allowed(policy, "egress") == {53, 8786, 8788, 8789} | ports


# -- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("memory", "limit"), [("4Gi", 3686), ("1Gi", 921), ("3000Mi", 2700), ("96Gi", 88473)])
def test_dask_acts_before_the_kernel_does(memory: str, limit: int) -> None:
    container = pod(render({"worker": {"memory": memory}}), "-worker")["containers"][0]
    arguments = command(container)
    assert arguments[arguments.index("--memory-limit") + 1] == f"{limit}MiB"
    assert container["resources"]["limits"]["memory"] == memory


def test_threads_are_the_cores() -> None:
    arguments = command(pod(render(CASES["large workers"]), "-worker")["containers"][0])
    assert arguments[arguments.index("--nthreads") + 1] == "8"


def test_autoscaling_leaves_the_number_of_workers_to_the_autoscaler() -> None:
    manifests = render(CASES["autoscaling"])
    assert "replicas" not in one(manifests, "Deployment", "-worker")["spec"]
    spec = one(manifests, "HorizontalPodAutoscaler")["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (3, 30)
    wait = pod(manifests, "-run-")["initContainers"][0]
    assert command(wait)[command(wait).index("--workers") + 1] == "3"


@pytest.mark.parametrize(("case", "number"), [("default", "4"), ("large workers", "2"), ("everything else", "1")])
def test_the_run_waits_for_its_workers(case: str, number: str) -> None:
    arguments = command(pod(render(CASES[case]), "-run-")["initContainers"][0])
    assert arguments[arguments.index("--workers") + 1] == number


def test_the_job_resumes_and_does_not_repeat_a_misuse() -> None:
    job: dict[str, Any] = next(m for m in render({}) if m["kind"] == "Job" and "-run-" in m["metadata"]["name"])["spec"]
    assert job["backoffLimit"] == 4
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    fail, ignore = job["podFailurePolicy"]["rules"]
    assert fail["action"] == "FailJob"
    assert fail["onExitCodes"] == {"containerName": "driver", "operator": "In", "values": [2]}
    assert ignore["action"] == "Ignore"


# -- dashboard -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_the_dashboard_is_off_or_behind_a_password(case: str) -> None:
    scheduler = pod(render(CASES[case]), "-scheduler")["containers"][0]
    env = {e["name"]: e.get("value") for e in scheduler["env"]}
    arguments = command(scheduler)
    if CASES[case].get("dashboard", {}).get("enabled"):
        assert arguments[arguments.index("--preload") + 1] == "/opt/cagdask/dashboard_password.py"
        assert env["CAGDASK_DASHBOARD_PASSWORD_FILE"] in [
            f"{mount['mountPath']}/password" for mount in scheduler["volumeMounts"] if mount["name"] == "dashboard"
        ]
    else:
        assert "--no-dashboard" in arguments
        assert env["DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES"] == "['distributed.http.health']"

"""What the Helm chart makes of its values."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from lavise_service.companion import lifecycle
from lavise_service.companion.health import SERVICES
from lavise_service.companion.settings import Settings
from lavise_service.torchserve import Ports
from lavise_service.torchserve.config import write_config
from lavise_service.worker import doors
from tests.helm_chart import (
    BIN,
    CHART,
    ROOT,
    VALUES,
    Manifest,
    environment,
    helm,
    needs_helm,
    of_kind,
    pod,
    rendered,
)

pytestmark = needs_helm
PARTS = ("companion", "worker")
RULES = ROOT / "docker" / "monitoring" / "rules"
# What the templates set themselves.
CHART_SETS = {
    *("GRPC_LISTEN", "HTTP_LISTEN", "TORCHSERVE", "MODEL", "STORE", "ALLOW_ANONYMOUS"),
    *("TLS_CERT", "TLS_KEY", "TLS_CLIENT_CA", "TOKENS_FILE"),
    *("TORCHSERVE_CA", "TORCHSERVE_CERT", "TORCHSERVE_KEY"),
}
FILES = ("_cert", "_key", "_ca", "_file")
# A Secret's file, never a value that Helm would keep in its own Secret.
NOT_OFFERED = {"TOKENS"}


@pytest.mark.parametrize("values", VALUES)
def test_lint_has_nothing_to_say(values: str) -> None:
    done = helm("lint", "--strict", "--quiet", CHART, "--values", CHART / "ci" / f"{values}.yaml")
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stdout + done.stderr


@pytest.mark.parametrize("values", VALUES)
def test_kubernetes_knows_every_key(values: str, tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all(rendered(values)), encoding="utf-8")
    # Custom resources are checked by scripts/check_chart.py.
    done = subprocess.run(
        [BIN / "kubernetes-validate", "--strict", "--no-warn", tmp_path / "all.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["companion.tokens.secret="], "say who may ask"),
        (["companion.tls.clientCa.secret=ca"], "needs companion.tls.secret"),
        (["companion.tls.clientCa.secret=ca", "companion.tls.secret=tls"], "its probeSecret"),
        (["companion.store.kind=url"], "companion.store.url"),
        (["companion.store.claim.accessMode=ReadWriteOnce"], "need .*ReadWriteMany"),
        (["worker.modelStore.kind="], "where the model comes from"),
        (["worker.modelStore.claim="], "worker.modelStore.claim"),
        (["worker.modelStore.kind=url"], "worker.modelStore.url"),
        (["worker.tls.secret=tls"], "worker.tls takes two certificates"),
        (["worker.autoscaling.minReplicas=9"], "more than maxReplicas"),
        (["monitoring.serviceMonitor.enabled=true"], "serviceMonitor.token.secret"),
        (["companion.replicas=two"], "got string, want integer"),
        (["companion.settings.RETENTION=9"], "'RETENTION' not allowed"),
        (["companion.settings.RETENTION_DAYS=9"], "got number, want string"),
        (["companion.tokns.secret=x"], "'tokns' not allowed"),
        (["worker.image.digest=latest"], "does not match pattern"),
        (["worker.modelStore.url=http://models"], "does not match pattern"),
    ],
)
def test_values_that_cannot_work_are_refused(options: list[str], told: str) -> None:
    sets = [part for option in options for part in ("--set", option)]
    done = helm("template", "lavise", CHART, "--values", CHART / "ci" / "tokens.yaml", *sets)
    assert done.returncode != 0
    assert re.search(told, done.stderr), done.stderr


def test_every_setting_of_the_companion_is_offered_or_set() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    companion = schema["properties"]["companion"]["properties"]
    fields = {name.upper() for name in Settings.model_fields}
    assert set(companion["settings"]["properties"]) == fields - CHART_SETS - NOT_OFFERED


@pytest.mark.parametrize("values", VALUES)
def test_the_companion_accepts_its_environment(
    values: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    [container] = pod(values, "companion")["containers"]
    variables = environment(container)
    known = {f"LAVISE_{name.upper()}" for name in Settings.model_fields}
    assert {name for name in variables if name.startswith("LAVISE_")} <= known
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert str(settings.torchserve) == "lavise-worker:7070"
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    assert ports == {"grpc": settings.grpc_listen.port, "http": settings.http_listen.port}
    mounts = [Path(one["mountPath"]) for one in container["volumeMounts"]]
    files = [getattr(settings, name) for name in Settings.model_fields if name.endswith(FILES)]
    assert all(file.parent in mounts for file in files if file is not None)
    assert (settings.torchserve_cert is not None) == (values == "mtls")
    assert settings.store.startswith("s3://") or Path(settings.store) in mounts


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("values", VALUES)
def test_pods_have_no_rights(values: str, part: str) -> None:
    spec = pod(values, part)
    assert spec["automountServiceAccountToken"] is False
    account = of_kind(values, "ServiceAccount")[part]
    assert account["metadata"]["name"] == spec["serviceAccountName"]
    assert account["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"] + spec.get("initContainers", []):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"cpu", "memory"} <= set(container["resources"]["limits"])
        assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}  # noqa: S108
        volumes = {volume["name"] for volume in spec["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes


@pytest.mark.parametrize("values", VALUES)
def test_ports_that_are_named_are_there(values: str) -> None:
    deployments = of_kind(values, "Deployment")
    for service in of_kind(values, "Service").values():
        container = selected(deployments, service["spec"]["selector"])
        names = {port["name"] for port in container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= names
    for policy in of_kind(values, "NetworkPolicy").values():
        container = selected(deployments, policy["spec"]["podSelector"]["matchLabels"])
        names = {port["name"] for port in container["ports"]}
        for rule in policy["spec"]["ingress"]:
            assert {port["port"] for port in rule["ports"]} <= names
    for monitor in of_kind(values, "ServiceMonitor").values():
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        [port] = [endpoint["port"] for endpoint in monitor["spec"]["endpoints"]]
        services = [
            service
            for service in of_kind(values, "Service").values()
            if wanted <= service["metadata"]["labels"].items()
            and port in {one["name"] for one in service["spec"]["ports"]}
        ]
        assert len(services) == 1  # or a pod would be scraped twice


def selected(deployments: dict[str, Manifest], labels: dict[str, str]) -> Manifest:
    """The container with the ports of the pods that a selector selects."""
    templates = [one["spec"]["template"] for one in deployments.values()]
    [found] = [t for t in templates if labels.items() <= t["metadata"]["labels"].items()]
    [container] = [one for one in found["spec"]["containers"] if "ports" in one]
    result: Manifest = container
    return result


def test_grpc_callers_see_every_pod() -> None:
    services = of_kind("tokens", "Service")
    assert services["companion-grpc"]["spec"]["clusterIP"] == "None"
    assert services["worker"]["spec"]["clusterIP"] == "None"


@pytest.mark.parametrize("values", ["tokens", "mtls", "gpu-s3"])
def test_only_the_companion_reaches_a_worker(values: str) -> None:
    worker = of_kind(values, "NetworkPolicy")["worker"]["spec"]
    [calls, scrapes] = worker["ingress"]
    [peer] = calls["from"]
    assert peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "companion"
    assert [port["port"] for port in calls["ports"]] == ["grpc"]
    assert [port["port"] for port in scrapes["ports"]] == ["metrics"]
    reaches = [port["port"] for rule in worker["egress"] for port in rule["ports"]]
    assert reaches == ([53, 53, 443] if values == "gpu-s3" else [])


@pytest.mark.parametrize(
    ("values", "readiness"),
    [
        ("tokens", {"grpc": {"port": 50051, "service": SERVICES[1]}}),
        ("gpu-s3", {"httpGet": {"path": "/readyz", "port": "http", "scheme": "HTTPS"}}),
    ],
)
def test_readiness_is_a_real_prediction(values: str, readiness: Manifest) -> None:
    [container] = pod(values, "companion")["containers"]
    assert readiness.items() <= container["readinessProbe"].items()
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"


def test_with_a_client_ca_the_probes_show_a_certificate() -> None:
    spec = pod("mtls", "companion")
    [container] = spec["containers"]
    asked = {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
    for probe, path in asked.items():
        script, *arguments = container[probe]["exec"]["command"][2:]
        assert Path(script).name == "companion_probe.py"
        assert arguments == ["8000", "/etc/lavise/probe", path]
    assert "/etc/lavise/probe" in {mount["mountPath"] for mount in container["volumeMounts"]}


def test_behind_tls_nothing_of_torchserve_is_open() -> None:
    spec = pod("mtls", "worker")
    worker, beside = spec["containers"]
    assert "ports" not in worker
    times = [one["lifecycle"]["preStop"]["sleep"]["seconds"] for one in spec["containers"]]
    assert times[0] + 5 <= times[1] <= spec["terminationGracePeriodSeconds"] - 15
    assert doors(environment(worker)["LAVISE_WORKER_OPEN"]) == frozenset()
    variables = environment(beside)
    to = (variables["LAVISE_TLS_TO_GRPC"], variables["LAVISE_TLS_TO_METRICS"])
    assert to == tuple(f"127.0.0.1:{port}" for port in (Ports().grpc, Ports().metrics))
    listens = {f":{port['containerPort']}" for port in beside["ports"]}
    assert listens == {variables["LAVISE_TLS_GRPC"], variables["LAVISE_TLS_METRICS"]}
    assert variables["LAVISE_TLS_CLIENT"] == "lavise-companion"
    # What they are given is what tests/service/companion/test_torchserve_tls.py runs.
    scripts = of_kind("mtls", "ConfigMap")["scripts"]["data"]
    mounted = {Path(one) for one in (beside["command"][-1], beside["args"][0])}
    for path in mounted:
        assert scripts[path.name] == (CHART / "files" / path.name).read_text(encoding="utf-8")
    key = Path(environment(worker)["LAVISE_BUNDLE_KEY"])
    assert str(key.parent) in {one["mountPath"] for one in worker["volumeMounts"]}
    config = scripts["worker_tls.cfg"]
    assert set(re.findall(r"LAVISE_TLS\w*", config)) == set(variables)
    monitor = of_kind("mtls", "ServiceMonitor")["worker"]["spec"]["endpoints"][0]
    assert (monitor["scheme"], monitor["tlsConfig"]["serverName"]) == ("https", "lavise-worker")
    [plain] = pod("tokens", "worker")["containers"]
    assert doors(environment(plain)["LAVISE_WORKER_OPEN"]) == {"grpc", "metrics"}


def test_there_is_time_to_drain(tmp_path: Path) -> None:
    companion, worker = (pod("tokens", part) for part in PARTS)
    own = (
        lifecycle.LINGER_S + lifecycle.DRAIN_S + lifecycle._CUT_OFF_S + 2 * lifecycle._LAST_WORDS_S
    )
    assert sleep(companion) + own + 5 <= companion["terminationGracePeriodSeconds"]
    # By then TorchServe has closed every connection by its age, which gRPC stretches by a tenth.
    config = write_config(tmp_path, tmp_path, ["lavise"], Ports()).read_text(encoding="ascii")
    [age] = [line for line in config.splitlines() if "inference_max_connection_age_ms" in line]
    assert int(age.partition("=")[2]) * 1.1 / 1000 + 5 <= sleep(worker)
    assert sleep(worker) + 15 <= worker["terminationGracePeriodSeconds"]


def sleep(spec: Manifest) -> int:
    [container] = spec["containers"]
    seconds: int = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    return seconds


def test_a_gpu_is_asked_for_where_one_is_wanted() -> None:
    spec = pod("gpu-s3", "worker")
    [container] = spec["containers"]
    for kind in ("limits", "requests"):
        assert container["resources"][kind]["nvidia.com/gpu"] == 1
    assert container["image"].endswith("-cuda")
    assert spec["nodeSelector"] == {"accelerator": "nvidia-l4"}
    assert spec["runtimeClassName"] == "nvidia"
    assert spec["tolerations"]
    [container] = pod("tokens", "worker")["containers"]
    assert "nvidia.com/gpu" not in container["resources"]["limits"]


@pytest.mark.parametrize(
    ("values", "volume"),
    [
        ("single", None),
        ("tokens", {"persistentVolumeClaim": {"claimName": "lavise-models", "readOnly": True}}),
        ("gpu-s3", {"emptyDir": {"sizeLimit": "4Gi"}}),
    ],
)
def test_the_model_comes_from_one_place(values: str, volume: Manifest | None) -> None:
    spec = pod(values, "worker")
    volumes = {one["name"]: one for one in spec["volumes"]}
    mounts = {one["mountPath"]: one for one in spec["containers"][0]["volumeMounts"]}
    if volume is None:
        assert "models" not in volumes
        return
    assert volumes["models"] == {"name": "models", **volume}
    assert mounts["/models"]["readOnly"] is True
    assert ("initContainers" in spec) == (values == "gpu-s3")


def test_the_autoscaler_asks_for_what_the_adapter_serves() -> None:
    scaler = of_kind("gpu-s3", "HorizontalPodAutoscaler")["worker"]["spec"]
    [metric] = scaler["metrics"]
    adapter = yaml.safe_load((CHART.parent / "prometheus-adapter.yaml").read_text("utf-8"))
    [rule] = adapter["rules"]["custom"]
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]
    assert "replicas" not in of_kind("gpu-s3", "Deployment")["worker"]["spec"]
    assert of_kind("tokens", "HorizontalPodAutoscaler") == {}


def test_every_pod_may_be_moved_one_at_a_time() -> None:
    for part, budget in of_kind("single", "PodDisruptionBudget").items():
        assert part in PARTS
        assert budget["spec"]["maxUnavailable"] == 1


def test_the_rules_are_those_of_prometheus() -> None:
    found = of_kind("mtls", "PrometheusRule")
    rules = {path.stem: yaml.safe_load(path.read_text("utf-8")) for path in RULES.glob("*.yaml")}
    assert {name: one["spec"] for name, one in found.items()} == rules
    assert of_kind("tokens", "PrometheusRule") == {}


def test_the_store_outlives_the_release() -> None:
    claim = of_kind("tokens", "PersistentVolumeClaim")["store"]
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert of_kind("gpu-s3", "PersistentVolumeClaim") == {}


def test_kserve_gets_the_same_worker() -> None:
    done = subprocess.run(
        [BIN / "kubectl", "kustomize", ROOT / "docker" / "kserve"],
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = {one["kind"]: one["spec"] for one in yaml.safe_load_all(done.stdout)}
    runtime, model = found["ServingRuntime"], found["InferenceService"]["predictor"]["model"]
    assert model["runtime"] == "lavise"
    assert model["protocolVersion"] in runtime["protocolVersions"]
    [container] = runtime["containers"]
    [worker] = pod("tokens", "worker")["containers"]
    for same in ("image", "resources"):
        assert container[same] == worker[same]

"""Checks the Helm chart and KServe's manifests, under every values file: ``make chart``.

helm lint --strict, helm template, kubernetes-validate --strict, the keys of custom resources
against the definitions that their projects publish, and checkov. The last two come in an
environment of their own, because their pins clash with ours.
"""

import json
import subprocess
import sys
from pathlib import Path

import yaml

from scripts.own_environment import own_environment, run

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "docker" / "helm" / "lavise"
OUT = ROOT / "build" / "chart"
TOOLS = ROOT / "build" / "chart-tools"
BIN = Path(sys.executable).parent
PACKAGES = ["checkov==3.3.30", "cloudcoil-models-prometheus-operator==0.80.1.0"]
# Its dependencies are those of a model server; the definitions need none of them.
BARE_PACKAGES = ["kserve==0.21.0"]
EXPLAINED = {
    "CKV_K8S_43": "a tag where the values give no digest; image.digest pins one",
    "CKV_K8S_15": "IfNotPresent is right for a digest, and for tags that do not move, as ours",
    "CKV2_K8S_6": "single.yaml shows networkPolicy.enabled false; KServe's pods are the mesh's",
}
"""Findings of checkov that are as they should be, and why."""


def findings(manifest: Path) -> list[str]:
    """Returns checkov's findings that nothing explains."""
    checkov = (TOOLS / "bin" / "checkov", "--framework", "kubernetes", "--skip-download")
    done = subprocess.run(
        [*checkov, "--file", manifest, "--output", "json", "--quiet"],
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads(done.stdout)
    if report["summary"]["parsing_errors"] or not report["summary"]["passed"]:
        raise SystemExit(f"checkov could not read {manifest}: {report['summary']}")
    return [
        f"{one['check_id']} {one['check_name']}: {one['resource']}"
        for one in report["results"]["failed_checks"]
        if one["check_id"] not in EXPLAINED
    ]


def as_pod(manifest: str) -> str:
    """Returns the pod that KServe makes of both, for those who know nothing of KServe."""
    documents = {one["kind"]: one for one in yaml.safe_load_all(manifest)}
    runtime = documents["ServingRuntime"]["spec"]
    predictor = documents["InferenceService"]["spec"]["predictor"]
    names = ("automountServiceAccountToken", "enableServiceLinks", "securityContext")
    spec = {key: runtime[key] for key in ("containers", "volumes")}
    spec |= {key: predictor[key] for key in names}
    metadata = {"name": "lavise-predictor", "namespace": "lavise"}
    return yaml.safe_dump({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})


def check(name: str, manifest: str) -> None:
    """Checks one set of manifests, and says what was found."""
    path = OUT / f"{name}.yaml"
    path.write_text(manifest, encoding="utf-8")
    run(BIN / "kubernetes-validate", "--strict", "--quiet", "--no-warn", path)
    script = ROOT / "scripts" / "custom_resources.py"
    kinds = run(TOOLS / "bin" / "python", script, text=manifest).strip()
    left = findings(path)
    print(f"{name}: valid; custom resources known ({kinds}); checkov: {len(left)} unexplained")
    if left:
        raise SystemExit("\n".join(left))


def main() -> None:
    """Checks everything."""
    own_environment(TOOLS, PACKAGES, BARE_PACKAGES)
    OUT.mkdir(parents=True, exist_ok=True)
    for values in sorted(CHART.glob("ci/*.yaml")):
        run(BIN / "helm", "lint", "--strict", CHART, "--values", values)
        template = (BIN / "helm", "template", "lavise", CHART, "--namespace", "lavise")
        check(values.stem, run(*template, "--values", values))
    kserve = run(BIN / "kubectl", "kustomize", ROOT / "docker" / "kserve")
    check("kserve", f"{kserve}---\n{as_pod(kserve)}")


if __name__ == "__main__":
    main()

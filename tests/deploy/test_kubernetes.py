"""The Kubernetes manifests fit the published schemas, strictly, and their names refer to one another."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from bebr.cli import main

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = sorted(path.parent for path in (ROOT / "deploy" / "kubernetes").rglob("kustomization.yaml"))
OLDEST, NEWEST = "1.29", "1.35"

Manifest = dict[str, Any]


def check(manifest: Manifest, version: str) -> None:
    """Raise ValidationError where the manifest breaks the schema of that Kubernetes version; unknown fields do."""
    kubernetes_validate.validate(manifest, version, strict=True)


def load(path: Path) -> Manifest:
    manifest: Manifest = yaml.safe_load(path.read_text("utf-8"))
    return manifest


def manifest_paths() -> list[Path]:
    paths = [path for folder in FOLDERS for path in sorted(folder.glob("*.yaml"))]
    return [path for path in paths if path.name != "kustomization.yaml"]


def of_kind(kind: str) -> list[Manifest]:
    return [manifest for manifest in map(load, manifest_paths()) if manifest["kind"] == kind]


def named(kind: str, name: str) -> Manifest:
    [manifest] = [each for each in of_kind(kind) if each["metadata"]["name"] == name]
    return manifest


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("path", manifest_paths(), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_manifest_fits_the_schema(path: Path, version: str) -> None:
    check(load(path), version)


def break_replicas(manifest: Manifest) -> None:
    manifest["spec"]["replicas"] = "one"


def break_spelling(manifest: Manifest) -> None:
    manifest["spec"]["template"]["spec"]["enableServiceLink"] = False


def break_selector(manifest: Manifest) -> None:
    del manifest["spec"]["selector"]


@pytest.mark.parametrize("break_it", [break_replicas, break_spelling, break_selector])
def test_schema_catches_a_fault(break_it: Any) -> None:
    manifest = named("StatefulSet", "bebr")
    break_it(manifest)
    with pytest.raises(kubernetes_validate.ValidationError):
        check(manifest, NEWEST)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_kustomization_lists_every_file(folder: Path) -> None:
    kustomization = load(folder / "kustomization.yaml")
    listed = [*kustomization["resources"], *(patch["path"] for patch in kustomization.get("patches", []))]
    assert all((folder / name).exists() for name in listed)
    files = {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml"}
    assert files == {name for name in listed if name.endswith(".yaml")}


def test_selectors_match_pods() -> None:
    pods = [each["spec"]["template"] for each in of_kind("StatefulSet")]
    for pod, owner in zip(pods, of_kind("StatefulSet"), strict=True):
        assert owner["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
        assert named("Service", owner["spec"]["serviceName"])["spec"]["clusterIP"] == "None"
    selectors = [each["spec"]["selector"] for each in of_kind("Service")]
    selectors += [each["spec"]["selector"]["matchLabels"] for each in of_kind("PodDisruptionBudget")]
    for selector in selectors:
        assert any(selector.items() <= pod["metadata"]["labels"].items() for pod in pods), selector


def test_port_names_resolve() -> None:
    ports = {
        port["name"]
        for each in of_kind("StatefulSet")
        for container in each["spec"]["template"]["spec"]["containers"]
        for port in container["ports"]
    }
    for service in of_kind("Service"):
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    [container] = named("StatefulSet", "bebr")["spec"]["template"]["spec"]["containers"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] in ports


def test_pods_are_confined() -> None:
    for each in [*of_kind("StatefulSet"), *of_kind("Job")]:
        pod = each["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]


def test_service_links_are_off() -> None:
    """A Service called bebr would set BEBR_PORT=tcp://... in its own pods, and the service would refuse to start."""
    assert named("StatefulSet", "bebr")["spec"]["template"]["spec"]["enableServiceLinks"] is False


def test_compose_and_kubernetes_run_the_same_store() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]["valkey"]
    [container] = named("StatefulSet", "bebr-valkey")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == compose["image"]
    flags = [flag for flag in compose["command"] if not flag.startswith("${")]
    assert [flag for flag in container["args"] if flag in flags] == flags


def test_the_job_that_encodes_makes_each_part_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Its options are those of the command, which reads them: it fails only because there is no input here."""
    spec = named("Job", "bebr-encode")["spec"]
    [container] = spec["template"]["spec"]["containers"]
    parts = int(next(each["value"] for each in container["env"] if each["name"] == "PARTS"))
    assert (spec["completionMode"], spec["completions"]) == ("Indexed", parts) and spec["backoffLimitPerIndex"] > 0
    for index in (0, parts - 1):
        names = {"$(JOB_COMPLETION_INDEX)": str(index), "$(PARTS)": str(parts)}
        arguments = list(container["args"])
        for name, value in names.items():
            arguments = [argument.replace(name, value) for argument in arguments]
        assert "$" not in "".join(arguments) and arguments[0] == "encode" and f"--part={index}/{parts}" in arguments
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 1 and "there is no file or folder '/data/input'" in capsys.readouterr().err

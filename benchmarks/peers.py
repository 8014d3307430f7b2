"""The libraries a user would pick instead, each in an environment of its own, beside ours."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from distilrec.runner import ALLOCATOR

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENTS = Path(os.environ.get("DISTILREC_PEERS", ROOT / ".peers"))
REQUIREMENTS = {
    "hopwise": ["torch==2.13.0", "hopwise==0.9.1"],
    "recbole": ["torch==2.13.0", "recbole==1.2.1", "setuptools<81", "numpy<2"],
    "rectools": ["rectools==0.19.0", "numpy<2"],
}


def python_of(library: str) -> Path:
    """Its interpreter; the environment is made at first use (minutes)."""
    environment = ENVIRONMENTS / library
    if not (environment / "complete").is_file():
        print(f"installing {library} into {environment}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        pip = [environment / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *REQUIREMENTS[library]], check=True)
        (environment / "complete").touch()
    return environment / "bin" / "python"


def _environment(threads: int, is_tuned: bool) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if name not in ALLOCATOR}
    tuning = {**ALLOCATOR, "DISTILREC_TUNED": "1"} if is_tuned else {}
    return {**plain, **tuning, "OMP_NUM_THREADS": str(threads)}


class Peer:
    """A process that answers questions, one JSON line each; between them it sleeps.

    As a user has it, or, tuned, with our allocator's settings and without the anomaly detection that one of the
    RecBole family's modules turns on for all of them.
    """

    def __init__(self, library: str, script: Path, *arguments: str, threads: int, is_tuned: bool = False) -> None:
        folder = ENVIRONMENTS / f"{library}-files"
        folder.mkdir(parents=True, exist_ok=True)
        self.log = (folder / "log").open("w")
        self.process = subprocess.Popen(
            [python_of(library), script, *arguments],
            cwd=folder,
            env=_environment(threads, is_tuned),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )

    def ask(self, *question: object) -> dict[str, Any]:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(" ".join(map(str, question)) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"no answer to {question}: see {self.log.name}")
        return json.loads(answer)

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.log.close()

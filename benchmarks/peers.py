"""The libraries a user would pick instead, each in an environment of its own, beside ours."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

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


class Peer:
    """A process that answers questions, one JSON line each; between them it sleeps."""

    def __init__(self, library: str, script: Path, *arguments: str, threads: int = 2) -> None:
        folder = ENVIRONMENTS / f"{library}-files"
        folder.mkdir(parents=True, exist_ok=True)
        self.log = (folder / "log").open("w")
        self.process = subprocess.Popen(
            [python_of(library), script, *arguments],
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
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

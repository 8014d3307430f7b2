"""Run the pipeline on this machine: `python -m distilrec.pipelines.retrain_scene JOB.json`."""

import json
import sys
from pathlib import Path

from kfp import local

from distilrec.pipelines.retrain_scene.pipeline import retrain_scene_with


def main(job_file: str) -> None:
    """The job names the pipeline's parameters, and the folder for the artifacts."""
    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=job["pipeline_root"])
    retrain_scene_with()(**job["parameters"])


if __name__ == "__main__":
    main(sys.argv[1])

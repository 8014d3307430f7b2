"""The pipeline as a file for Kubeflow."""

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path

from kfp import compiler

from distilrec.core.tasks import Task
from distilrec.io.compiled import write_pipeline
from distilrec.pipelines.retrain_scene import retrain_scene_with


def compile_pipeline(target: Path, image: str, tasks: Mapping[str, Task]) -> None:
    """Raises RunError if the file cannot be written."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Kubeflow's own deprecations
        compiler.Compiler().compile(retrain_scene_with(tasks, image), f"{folder}/pipeline.yaml")
        write_pipeline(target, Path(folder, "pipeline.yaml").read_text(encoding="utf-8"))

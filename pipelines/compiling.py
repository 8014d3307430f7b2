"""The pipeline as a file for Kubeflow."""

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path

from kfp import compiler

from distilrec.core.tasks import Task
from distilrec.io.compiled import write_pipeline
from distilrec.pipelines.retrain_scene import retrain_scene_with, retrain_scenes_with


def compile_pipeline(target: Path, image: str, tasks: Mapping[str, Task], is_backfill: bool) -> None:
    """Of one scene, or of many. Raises RunError if the file cannot be written."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Kubeflow's own deprecations
        pipeline = (retrain_scenes_with if is_backfill else retrain_scene_with)(tasks, image)
        compiler.Compiler().compile(pipeline, f"{folder}/pipeline.yaml")
        write_pipeline(target, Path(folder, "pipeline.yaml").read_text(encoding="utf-8"))

"""retrain_scenes: many scenes, each by the same pipeline."""

from collections.abc import Mapping

from kfp import dsl

from distilrec.core.tasks import Task
from distilrec.pipelines.retrain_scene.pipeline import retrain_scene_with

AT_ONCE = 2


def retrain_scenes_with(tasks: Mapping[str, Task] | None = None, image: str = ""):
    """As `retrain_scene_with`."""
    retrain_scene = retrain_scene_with(tasks, image)

    @dsl.pipeline(name="retrain-scenes", display_name="distilrec: retrain many scenes")
    def retrain_scenes(scenes: list[str], as_of: str = "", overrides: str = "", require_promotion: bool = False):
        """Retrain each of the scenes, some at a time; one that fails does not stop the others.

        Args:
            scenes: their configs: s3:// locations, paths of YAML files, or YAML texts.
            as_of: only events before this ISO 8601 date or time; empty means all, but not on Kubeflow.
            overrides: settings that differ, such as `teach.max_epochs=5`.
            require_promotion: fail the run if the gate holds a student.
        """
        with dsl.ParallelFor(scenes, name="scenes", parallelism=AT_ONCE) as scene:
            retrain_scene(scene=scene, as_of=as_of, overrides=overrides, require_promotion=require_promotion)

    return retrain_scenes

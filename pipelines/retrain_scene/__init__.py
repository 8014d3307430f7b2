"""The per-scene pipeline, and the same for many scenes."""

from distilrec.pipelines.retrain_scene.backfill import retrain_scenes_with
from distilrec.pipelines.retrain_scene.pipeline import retrain_scene, retrain_scene_with

__all__ = ["retrain_scene", "retrain_scene_with", "retrain_scenes_with"]

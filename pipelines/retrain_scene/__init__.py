"""The per-scene pipeline."""

from distilrec.pipelines.retrain_scene.pipeline import retrain_scene, retrain_scene_with

__all__ = ["retrain_scene", "retrain_scene_with"]

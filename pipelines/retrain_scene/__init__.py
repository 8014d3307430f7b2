"""The per-scene pipeline."""

from distilrec.pipelines.retrain_scene.pipeline import retrain_scene

__all__ = ["retrain_scene"]

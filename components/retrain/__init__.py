"""The retrain component."""

from distilrec.components.retrain.component import retrain

__all__ = ["retrain"]

"""The evaluate component."""

from distilrec.components.evaluate.component import evaluate

__all__ = ["evaluate"]

"""The benchmark component."""

from distilrec.components.benchmark.component import benchmark

__all__ = ["benchmark"]

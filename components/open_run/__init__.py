"""The open-run component."""

from distilrec.components.open_run.component import open_run

__all__ = ["open_run"]

"""The prepare component."""

from distilrec.components.prepare.component import prepare

__all__ = ["prepare"]

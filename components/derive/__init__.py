"""The derive component."""

from distilrec.components.derive.component import derive

__all__ = ["derive"]

"""The teach component."""

from distilrec.components.teach.component import teach

__all__ = ["teach"]

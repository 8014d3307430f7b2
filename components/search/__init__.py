"""The search component."""

from distilrec.components.search.component import search

__all__ = ["search"]

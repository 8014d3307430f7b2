"""The promote component."""

from distilrec.components.promote.component import promote

__all__ = ["promote"]

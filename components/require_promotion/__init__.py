"""The require-promotion component."""

from distilrec.components.require_promotion.component import require_promotion

__all__ = ["require_promotion"]

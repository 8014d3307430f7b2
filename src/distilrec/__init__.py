"""distilrec: from a scene's interaction log to a small, fast student that ranks as well as its teacher."""

__version__ = "0.1.0"

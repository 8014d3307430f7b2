"""KFP components: thin doorways to `distilrec.entry`, one folder a step."""

from importlib.metadata import version

IMAGE = f"distilrec-python:{version('distilrec')}"
"""One image for all steps; its tag is the package's version."""

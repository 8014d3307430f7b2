"""What gives another result from the same settings within one version of the package. Raised by whoever changes it."""

REVISIONS = {"search": 2, "run": 2}
"""search: 2, a cell's input is not rectified. run: 2, a run's folder says its name, and its summary the MLflow page."""

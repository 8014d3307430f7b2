"""What gives another result from the same settings within one version of the package. Raised by whoever changes it."""

REVISIONS = {"search": 2, "retrain": 2, "run": 3}
"""search: 2, a cell's input is not rectified. retrain: 2, RD's ranks are among all unseen items. run: 3, a run's folder
says its name and its scenes, and its summary the MLflow page."""

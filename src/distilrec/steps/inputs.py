"""Opening what earlier steps wrote, verified."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distilrec.core.errors import ArtifactError
from distilrec.core.events import Sequences
from distilrec.core.split import Split
from distilrec.io.store import manifest_of
from distilrec.io.tables import Dataset, read_dataset

MADE_FROM = {
    "teach": ("prepare",),
    "derive": ("search",),
    "retrain": ("prepare", "teach", "derive"),
    "evaluate": ("prepare", "retrain"),
    "benchmark": ("teach", "retrain"),
}
"""What of a run belongs together. Not the search: what was found on other data may be trained on these."""


@dataclass(frozen=True)
class OpenDataset:
    dataset: Dataset
    manifest: dict[str, Any]

    @property
    def sequences(self) -> Sequences:
        return self.dataset.sequences

    @property
    def split(self) -> Split:
        return self.dataset.split

    @property
    def deciding(self) -> str:
        return str(self.manifest["deciding"])

    @property
    def content(self) -> str:
        return str(self.manifest["content"])


def require_made_from(folder: Path, manifest: dict[str, Any], given: Mapping[str, dict[str, Any]]) -> None:
    """By step: the manifests of what else was given beside `folder`, which must be what it was made from.

    Raises:
        ArtifactError: it was made from another output of one of these steps.
    """
    for step, other in given.items():
        if manifest.get("inputs", {}).get(step) != other["content"]:
            words = f"{folder} was made from another output of {step} than the one given beside it"
            raise ArtifactError("DR-ART-001", words)


def manifest_of_dataset(path: Path) -> dict[str, Any]:
    """Raises ArtifactError: it is no finished dataset, or one of before datasets said who is asked."""
    manifest = manifest_of(path, "prepare")
    if "asked" not in manifest:
        raise ArtifactError("DR-ART-001", f"an older version wrote the dataset in {path}: prepare it again")
    return manifest


def open_dataset(path: Path) -> OpenDataset:
    manifest = manifest_of_dataset(path)
    return OpenDataset(read_dataset(path), manifest)

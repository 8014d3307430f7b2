"""Opening what earlier steps wrote, verified."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distilrec.core.events import Sequences
from distilrec.io.store import manifest_of
from distilrec.io.tables import Dataset, read_dataset


@dataclass(frozen=True)
class OpenDataset:
    dataset: Dataset
    manifest: dict[str, Any]

    @property
    def sequences(self) -> Sequences:
        return self.dataset.sequences

    @property
    def deciding(self) -> str:
        return str(self.manifest["deciding"])

    @property
    def content(self) -> str:
        return str(self.manifest["content"])


def open_dataset(path: Path) -> OpenDataset:
    manifest = manifest_of(path, "prepare")
    return OpenDataset(read_dataset(path), manifest)

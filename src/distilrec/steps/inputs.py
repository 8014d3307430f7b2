"""Opening what earlier steps wrote, verified."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distilrec.core.cell import Student
from distilrec.core.events import Sequences
from distilrec.core.sasrec import SASRec
from distilrec.io.models import load_student, load_teacher
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
    manifest = manifest_of(path)
    return OpenDataset(read_dataset(path), manifest)


def open_teacher(path: Path) -> tuple[SASRec, dict[str, Any]]:
    manifest = manifest_of(path)
    return load_teacher(path), manifest


def open_student(path: Path) -> tuple[Student, dict[str, Any]]:
    manifest = manifest_of(path)
    return load_student(path), manifest

"""JSON files and JSON lines: strict (no NaN), written whole; and any text likewise."""

import json
import os
from pathlib import Path
from typing import Any

from distilrec.core.errors import ArtifactError


def dumps(data: Any) -> str:
    return json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def as_json(data: Any) -> Any:
    """As it would be read again."""
    return json.loads(dumps(data))


def write_text(path: Path, text: str) -> None:
    """Whole, or not at all."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)


def write_json(path: Path, data: Any) -> None:
    write_text(path, dumps(data))


def read_json(path: Path) -> Any:
    """Raises ArtifactError for a file that is missing or no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError("DR-ART-001", f"{path} is missing") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ArtifactError("DR-ART-001", f"{path} is not JSON: {error}") from None


def as_line(data: dict[str, Any]) -> str:
    return json.dumps(data, allow_nan=False, ensure_ascii=False) + "\n"


class LinesOf:
    """A file of JSON lines that another process appends to, read once: each time only what is new."""

    def __init__(self, path: Path) -> None:
        self.path, self.offset = path, 0

    def new(self) -> list[dict[str, Any]]:
        """Complete lines only: a last line still being written is left for the next time."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self.offset)
            complete, end, _ = file.read().rpartition(b"\n")
        self.offset += len(complete) + len(end)
        return [json.loads(line) for line in complete.split(b"\n") if line]

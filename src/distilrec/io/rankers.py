"""The folder of a ranker: what is registered, and served."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from distilrec.core.errors import ArtifactError
from distilrec.serving.distilrec_ranker import Ranker, RankerError, write_settings


def complete_ranker(folder: Path, items: Path, scene: str, exclude_seen: bool) -> None:
    """Beside the exported graphs: the scene's item table, the settings, and every file's hash."""
    table = pq.read_table(items).combine_chunks()
    with pa.ipc.new_file(folder / "items.arrow", table.schema) as file:
        file.write_table(table)
    write_settings(folder, {"scene": scene, "exclude_seen": exclude_seen})


def open_ranker(folder: Path, threads: int = 1) -> Ranker:
    """Raises ArtifactError for a folder that is not what was written."""
    try:
        return Ranker(folder, threads)
    except RankerError as error:
        raise ArtifactError("DR-ART-001", str(error)) from None


def titles_of(folder: Path) -> dict[str | int, str]:
    """By raw id; the id itself where the scene has no item table."""
    with pa.memory_map(str(folder / "items.arrow")) as file:
        table = pa.ipc.open_file(file).read_all()
    return dict(zip(table["item"].to_pylist(), table["title"].to_pylist(), strict=True))

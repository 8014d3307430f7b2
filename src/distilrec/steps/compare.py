"""compare: models of several runs on the same test users."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pyarrow.parquet as pq

from distilrec.core.compared import Compared, compared
from distilrec.core.errors import ArtifactError, ConfigError, RunError
from distilrec.core.events import Floats
from distilrec.core.metrics import per_user
from distilrec.io.jsons import read_json
from distilrec.io.store import MANIFEST, manifest_of


def compare(methods: Sequence[Sequence[str]], model: str) -> list[Compared]:
    """NDCG@10 of `model`, a column of `ranks.parquet` such as student, in the deciding variant.

    Args:
        methods: of each the folders of its runs of one scene, or those that `evaluate` wrote.

    Raises:
        RunError: a folder holds no evaluation, or those of several scenes.
        ArtifactError: an evaluation is altered, or is of other data or of another variant than the first one.
        ConfigError: a run has no such model.
    """
    evaluated = [[_Evaluation.of(_quality_of(run)) for run in runs] for runs in methods]
    first = evaluated[0][0]
    for one in chain.from_iterable(evaluated):
        one.require_comparable(first)
    values = [[one.ndcg10(model) for one in of_runs] for of_runs in evaluated]
    return compared(list(zip(methods, values, strict=True)))


def _quality_of(given: str) -> Path:
    """What `evaluate` wrote, the newest in a run's folder."""
    run = Path(given)
    if not given or not run.is_dir():
        raise RunError("DR-RUN-005", f"{given!r} is no folder")
    if (run / "quality.json").is_file():
        return run
    found = list(run.glob(f"**/evaluate/quality/{MANIFEST}"))
    if not found:
        raise RunError("DR-RUN-005", f"{run} holds no evaluation")
    scenes = sorted({manifest.relative_to(run).parts[0] for manifest in found if (run / "run.json").is_file()})
    if len(scenes) > 1:
        raise RunError("DR-RUN-005", f"{run} holds {', '.join(scenes)}: name one, such as {run / scenes[0]}")
    return max(found, key=lambda manifest: manifest.stat().st_mtime).parent


@dataclass(frozen=True)
class _Evaluation:
    """Attributes:
    data: the dataset's content.
    deciding: whether seen items are kept or removed.
    """

    folder: Path
    data: str
    deciding: str

    @classmethod
    def of(cls, folder: Path) -> "_Evaluation":
        data = manifest_of(folder, "evaluate")["inputs"]["prepare"]
        return cls(folder, str(data), str(read_json(folder / "quality.json")["deciding"]))

    def require_comparable(self, first: "_Evaluation") -> None:
        if self.data != first.data:
            raise ArtifactError("DR-ART-002", f"{self.folder} was evaluated on other data than {first.folder}")
        if self.deciding != first.deciding:
            words = f"with seen items {self.deciding}, {first.folder} with seen items {first.deciding}"
            raise ArtifactError("DR-ART-002", f"{self.folder} was evaluated {words}")

    def ndcg10(self, model: str) -> Floats:
        """Of every test user."""
        ranks, suffix = pq.read_table(self.folder / "ranks.parquet"), f"_{self.deciding}"
        if model + suffix not in ranks.column_names:
            there = [name.removesuffix(suffix) for name in ranks.column_names if name.endswith(suffix)]
            raise ConfigError("DR-CONF-003", f"{self.folder} has no model {model!r}, only {', '.join(there)}")
        return per_user(ranks[model + suffix].to_numpy(), "ndcg", 10)

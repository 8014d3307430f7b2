"""A trained model as a folder: weights (safetensors), what to build (JSON), training history, exported form."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from distilrec.core.bert4rec import BERT4Rec
from distilrec.core.config import Retrain, Teach
from distilrec.core.dropout import Dropout
from distilrec.core.errors import ArtifactError
from distilrec.core.factors import USER_MODELS
from distilrec.core.nextitnet import NextItNet
from distilrec.core.recommender import Recommender
from distilrec.core.sasrec import SASRec
from distilrec.core.space import Genotype
from distilrec.core.spaces import genotype_of, student_of
from distilrec.io.jsons import read_json, write_json
from distilrec.io.store import manifest_of


@dataclass(frozen=True)
class TeacherShape:
    """All that the architecture of a teacher depends on."""

    model: str
    num_items: int
    max_length: int
    width: int
    num_blocks: int
    num_heads: int
    inner: int
    dilations: tuple[int, ...]
    dropout: float
    num_users: int = 0
    """Of a model that knows them by number."""

    @classmethod
    def of(cls, config: Teach, num_items: int, max_length: int, num_users: int = 0) -> "TeacherShape":
        return cls(
            config.model,
            num_items,
            max_length,
            config.width,
            config.num_blocks,
            config.num_heads,
            config.inner,
            config.dilations,
            config.dropout,
            num_users if config.knows_users else 0,
        )

    def build(self) -> Recommender:
        """Raises KeyError for a model that this version does not have."""
        shared = (self.num_items, self.width, self.max_length, Dropout(self.dropout), self.num_blocks)
        makers: dict[str, Callable[[], Recommender]] = {
            "sasrec": lambda: SASRec(*shared, self.num_heads, self.inner),
            "bert4rec": lambda: BERT4Rec(*shared, self.num_heads, self.inner),
            "nextitnet": lambda: NextItNet(*shared, tuple(self.dilations)),
            **{name: partial(model, self.num_users, self.num_items, self.width) for name, model in USER_MODELS.items()},
        }
        return makers[self.model]()


def build_student(num_items: int, config: Retrain, genotype: Genotype) -> Recommender:
    return student_of(num_items, Dropout(config.dropout), genotype)


def save_weights(folder: Path, weights: dict[str, Tensor]) -> None:
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / "weights.safetensors")


def load_weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "weights.safetensors")


def save_teacher(folder: Path, shape: TeacherShape, weights: dict[str, Tensor], history: list[dict[str, Any]]) -> None:
    save_weights(folder, weights)
    write_json(folder / "model.json", asdict(shape))
    write_json(folder / "history.json", history)


def load_teacher(folder: Path) -> tuple[Recommender, dict[str, Any]]:
    """The model in eval mode and the manifest of its folder, verified."""
    manifest = manifest_of(folder, "teach")
    try:
        model = TeacherShape(**read_json(folder / "model.json")).build()
    except (TypeError, KeyError):
        raise ArtifactError("DR-ART-001", f"{folder / 'model.json'} is not a teacher of this version") from None
    model.load_state_dict(load_weights(folder))
    return model.eval(), manifest


def save_student(
    folder: Path, num_items: int, genotype: Genotype, weights: dict[str, Tensor], history: list[dict[str, Any]]
) -> None:
    save_weights(folder, weights)
    write_json(folder / "model.json", {"model": "student", "num_items": num_items})
    write_json(folder / "genotype.json", genotype.to_json())
    write_json(folder / "history.json", history)


def load_student(folder: Path) -> tuple[Recommender, dict[str, Any]]:
    """The model in eval mode and the manifest of its folder, verified."""
    manifest = manifest_of(folder, "retrain")
    num_items = int(read_json(folder / "model.json")["num_items"])
    genotype = genotype_of(read_json(folder / "genotype.json"))
    model = student_of(num_items, Dropout(0.0), genotype)
    model.load_state_dict(load_weights(folder))
    return model.eval(), manifest

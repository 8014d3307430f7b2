"""Teachers and students of one split, trained one after the other; each is trained once and found again by name."""

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from benchmarks.derrd.protocol import MAX_EPOCHS, Best, means_of, whole_ranks
from benchmarks.derrd.recipes import NUM_LISTED, RECIPES, TEACHER, Recipe
from benchmarks.derrd.split import Split
from distilrec.core.config import content_hash
from distilrec.core.cost import count_params
from distilrec.core.factors import USER_MODELS, UserModel
from distilrec.core.ranked import TeacherRanking
from distilrec.core.revisions import REVISIONS
from distilrec.core.snapshot import Snapshot
from distilrec.core.terms import terms_of
from distilrec.core.user_fit import Pairs, UserFit, UserTeaching, ranking_by
from distilrec.core.views import sizes_of_users
from distilrec.io.checkpoints import Checkpoints
from distilrec.io.jsons import read_json, write_json
from distilrec.io.machine import versions
from distilrec.io.store import LocalStore

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TEACHER_SEED = 0
"""One teacher for all students, as in the release."""
SECONDS_BETWEEN_SNAPSHOTS = 120.0


@dataclass(frozen=True)
class Row:
    """One training.

    Attributes:
        ranks: of the test items among 499 negatives, by cut-off, each of its own best epoch.
        whole: the same among all items, of the epoch with the best H@5 on validation.
    """

    num_params: int
    seconds: float
    epochs: int
    best_epochs: dict[str, int]
    valid: dict[str, float]
    ranks: dict[str, list[int]]
    whole: list[int]

    def summary(self) -> dict[str, Any]:
        kept = {name: value for name, value in asdict(self).items() if name not in ("ranks", "whole")}
        return {**kept, "sampled": means_of(self.ranks), "whole": means_of(dict.fromkeys(self.ranks, self.whole))}


class Workshop:
    """A split, and everything trained on it. `max_epochs` shortens every training, to try the machinery."""

    def __init__(self, folder: Path, split: Split, max_epochs: int | None = None) -> None:
        self.folder, self.split, self.max_epochs = folder, split, max_epochs
        self.pairs = Pairs.of(split.train, DEVICE)
        self.taught: dict[str, tuple[UserModel, TeacherRanking, str]] = {}

    def row(self, base: str, name: str, seed: int) -> Row:
        return self.trained(name, RECIPES[base][name], seed)

    def has(self, base: str, name: str, seed: int) -> bool:
        return self._path(name, RECIPES[base][name], seed).is_file()

    def trained(self, name: str, recipe: Recipe, seed: int) -> Row:
        path = self._path(name, recipe, seed)
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            model, row = self._train(path.stem, recipe, seed)
            save_file({key: tensor.cpu().contiguous() for key, tensor in model.items()}, path.with_suffix(".weights"))
            write_json(path, asdict(row))
            hit = row.summary()["sampled"]["hr@5"]
            print(f"{path.stem}: H@5 {hit:.4f} after {row.epochs} epochs, {row.seconds:.0f} s", flush=True)
        return Row(**read_json(path))

    def teacher(self, base: str) -> tuple[UserModel, TeacherRanking]:
        """The trained teacher and its ranking, made once."""
        if base not in self.taught:
            recipe = RECIPES[base][TEACHER]
            self.trained(TEACHER, recipe, TEACHER_SEED)
            path = self._path(TEACHER, recipe, TEACHER_SEED)
            model = self._model(recipe, TEACHER_SEED)
            model.load_state_dict(load_file(path.with_suffix(".weights")))
            self.taught[base] = (model, ranking_by(model, self.pairs, NUM_LISTED), path.stem)
        return self.taught[base][:2]

    def _path(self, name: str, recipe: Recipe, seed: int) -> Path:
        teacher = (
            self._path(TEACHER, RECIPES[recipe.base][TEACHER], TEACHER_SEED).stem if recipe.terms.weights() else ""
        )
        told = (recipe.described(), teacher, seed, self.split.negatives_sha256, DEVICE, self.max_epochs)
        made_by = (versions(), REVISIONS["retrain"])
        return self.folder / "rows" / f"{recipe.base}-{name}-{seed}-{content_hash(*told, *made_by)}.json"

    def _model(self, recipe: Recipe, seed: int) -> UserModel:
        train = self.split.train
        model = USER_MODELS[recipe.base](len(train), train.num_items, recipe.width)
        model.initialise(torch.Generator().manual_seed(seed))
        return model.to(DEVICE)

    def fit(self, recipe: Recipe, seed: int) -> UserFit:
        """A training that has not begun."""
        student = self._model(recipe, seed)
        generator = torch.Generator(DEVICE).manual_seed(seed + 1000)
        teaching = self._teaching(student, recipe, seed) if recipe.terms.weights() else None
        return UserFit(student, self.pairs, recipe.training, generator, teaching)

    def _teaching(self, student: UserModel, recipe: Recipe, seed: int) -> UserTeaching:
        teacher, ranking = self.teacher(recipe.base)
        sizes, first_weights = sizes_of_users(student, teacher, MAX_EPOCHS), torch.Generator().manual_seed(seed + 2000)
        terms = {name: term.to(DEVICE) for name, term in terms_of(recipe.terms, sizes, first_weights).items()}
        return UserTeaching(teacher, lambda: ranking, terms, recipe.terms.weights())

    def _train(self, name: str, recipe: Recipe, seed: int) -> tuple[dict[str, torch.Tensor], Row]:
        """The best weights, and what came of them. Resumes from the latest snapshot."""
        fit = self.fit(recipe, seed)
        checkpoints = Checkpoints(LocalStore(self.folder / "store"), "derrd", "train", name)
        best, weights, seconds = Best(), {}, 0.0
        if found := checkpoints.latest():
            saved = found[0]
            fit.restore(saved)
            best, weights, seconds = Best(**saved.values["best"]), saved.get("best"), float(saved.values["seconds"])
        begun = snapped = time.monotonic()
        epochs = fit.epochs()
        while not (best.is_over(fit.epoch) or fit.epoch == self.max_epochs):
            record = next(epochs)
            if best.see(fit.epoch, fit.model, self.split):
                weights = {key: tensor.clone() for key, tensor in fit.model.state_dict().items()}
            now = time.monotonic()
            if now - snapped > SECONDS_BETWEEN_SNAPSHOTS:
                values = {"best": asdict(best), "seconds": seconds + now - begun}
                checkpoints.save(fit.epoch, _with(fit.snapshot(), weights, values), [])
                losses = {key: round(value, 4) for key, value in record.losses.items()}
                print(f"{name}: epoch {fit.epoch}, {losses}, {best.valid}", flush=True)
                snapped = time.monotonic()
        took = seconds + time.monotonic() - begun
        fit.model.load_state_dict(weights)
        whole = whole_ranks(fit.model, self.split).tolist()
        row = Row(count_params(fit.model), took, fit.epoch, best.epochs, best.valid, best.ranks, whole)
        return weights, row


def _with(saved: Snapshot, weights: dict[str, torch.Tensor], values: dict[str, Any]) -> Snapshot:
    saved.put("best", weights)
    return replace(saved, values={**saved.values, **values})

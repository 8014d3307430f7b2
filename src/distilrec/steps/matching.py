"""What earlier steps made belongs to this scene and to this dataset."""

from pathlib import Path
from typing import Any

from distilrec.core.config import SceneConfig
from distilrec.core.errors import ArtifactError
from distilrec.core.factors import UserModel
from distilrec.core.recommender import Recommender
from distilrec.io.jsons import read_json
from distilrec.io.models import load_teacher
from distilrec.steps.inputs import OpenDataset, require_made_from


def open_teacher(folder: Path, config: SceneConfig, data: OpenDataset) -> tuple[Recommender, dict[str, Any]]:
    """In eval mode, and the manifest of its folder.

    Raises:
        ArtifactError: it is another model than the scene's, or was trained on another dataset: it may know the targets.
    """
    model, manifest = load_teacher(folder)
    require_made_from(folder, manifest, {"prepare": data.manifest})
    found, wanted = read_json(folder / "model.json")["model"], config.teach.model
    if found != wanted:
        raise ArtifactError("DR-ART-001", f"{folder} holds a teacher {found}, the scene's is {wanted}")
    return model, manifest


def require_student_of(folder: Path, student: Recommender, teacher: Recommender, data: OpenDataset) -> None:
    """Raises ArtifactError unless a teacher of histories has a student of histories, and one of users its own kind."""
    of_users = [isinstance(model, UserModel) for model in (student, teacher)]
    if any(of_users) and type(student) is not type(teacher):
        names = [type(model).__name__ for model in (student, teacher)]
        raise ArtifactError("DR-ART-001", f"{folder} holds a student {names[0]}, the teacher is {names[1]}")
    _require_sizes(folder, student, data)


def _require_sizes(folder: Path, model: Recommender, data: OpenDataset) -> None:
    sizes = {"items": (model.num_items, data.sequences.num_items)}
    if isinstance(model, UserModel):
        sizes["users"] = (model.num_users, len(data.sequences))
    for what, (found, wanted) in sizes.items():
        if found != wanted:
            raise ArtifactError("DR-ART-001", f"{folder} is of {found:,} {what}, the dataset has {wanted:,}")

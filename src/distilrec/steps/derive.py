"""derive: from the searched distributions to one architecture, and the weights it inherits."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from distilrec.core.config import SceneConfig
from distilrec.core.cost import model_cost
from distilrec.core.errors import ArtifactError
from distilrec.core.space import inherited
from distilrec.core.spaces import family_of
from distilrec.io.drawing import draw_genotype
from distilrec.io.jsons import as_json, read_json, write_json
from distilrec.io.models import build_student, load_weights, save_weights
from distilrec.io.store import manifest_of, whole_folder
from distilrec.steps.adapters import Adapters
from distilrec.steps.content import content_of


def derive(config: SceneConfig, search: Path, out: Path, adapters: Adapters) -> dict[str, Any]:
    """What the search chose, without what carries nothing. Returns the manifest."""
    manifest = manifest_of(search, "search")
    found = read_json(search / "choice.json")
    space = family_of(config).space(config.search, config.max_length)
    asked = as_json(asdict(space))
    if found["space"] != asked:
        raise ArtifactError("DR-ART-001", f"{search} was searched in {found['space']}, the scene says {asked}")
    choice = {name: tuple(rows) for name, rows in found["choice"].items()}
    genotype = space.derive(choice)
    student = build_student(found["num_items"], config.retrain, genotype)
    cost = {"measured": asdict(model_cost(student)), "predicted": found["predicted_cost"], "limits": found["limits"]}
    with whole_folder(out) as folder:
        write_json(folder.path / "genotype.json", genotype.to_json())
        write_json(folder.path / "cost.json", cost)
        drawing = draw_genotype(genotype)
        (folder.path / "genotype.svg").write_text(drawing, encoding="utf-8")
        save_weights(folder.path, inherited(student, load_weights(search)))
        content = content_of("search", config, "derive", str(manifest["content"]))
        folder.manifest.update(adapters.stamp("derive", content, inputs={"search": manifest["content"]}))
    return folder.manifest

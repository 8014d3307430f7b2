"""derive: from the searched distributions to one architecture, and the weights it inherits."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from distilrec.core.cell import derive as derive_genotype
from distilrec.core.cell import inherited
from distilrec.core.config import SceneConfig
from distilrec.core.cost import model_cost
from distilrec.core.errors import ArtifactError
from distilrec.core.genotype import edges_of
from distilrec.io.jsons import read_json, write_json
from distilrec.io.models import build_student, load_weights, save_weights
from distilrec.io.pictures import draw_genotype
from distilrec.io.store import manifest_of, whole_folder
from distilrec.steps.adapters import Adapters
from distilrec.steps.content import content_of


def derive(config: SceneConfig, search: Path, out: Path, adapters: Adapters) -> dict[str, Any]:
    """The most likely operation of each edge; zero edges and dead nodes dropped. Returns the manifest."""
    manifest = manifest_of(search, "search")
    found = read_json(search / "choice.json")
    knobs = config.search
    if len(found["choice"]) != len(edges_of(knobs.num_nodes)):
        searched = f"{search} was searched with another search.num_nodes than {knobs.num_nodes}"
        raise ArtifactError("DR-ART-001", searched)
    genotype = derive_genotype(found["choice"], knobs.num_cells, knobs.num_nodes, knobs.width, config.max_length)
    student = build_student(found["num_items"], config.retrain, genotype)
    drawing = draw_genotype(genotype.to_json(), genotype.live_nodes(), found["operations"])
    with whole_folder(out) as folder:
        write_json(folder.path / "genotype.json", genotype.to_json())
        write_json(folder.path / "cost.json", asdict(model_cost(student)))
        (folder.path / "genotype.svg").write_text(drawing, encoding="utf-8")
        save_weights(folder.path, inherited(student, load_weights(search)))
        folder.manifest.update(
            adapters.stamp("derive", content_of("search", config, "derive", str(manifest["content"])))
        )
    return folder.manifest

"""derive: a doorway to `distilrec.entry.derive`."""

from kfp import dsl
from kfp.dsl import Artifact, Input, Output

from distilrec.components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def derive(
    scene: str,
    overrides: str,
    search: Input[Artifact],
    genotype: Output[Artifact],
) -> None:
    """Derive the genotype from the search.

    Args:
        scene: the scene's config: YAML text, an s3:// location, or the path of a YAML file.
        overrides: settings that differ, such as `teach.max_epochs=5`.
        search: what search wrote.
        genotype: genotype, drawing, cost, inherited weights.
    """
    from distilrec import entry

    manifest = entry.derive(scene, overrides, search.path, genotype.path)
    genotype.metadata.update({key: str(manifest[key]) for key in ("content", "seconds")})

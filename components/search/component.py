"""search: a doorway to `distilrec.entry.search`."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Model, Output

from distilrec.components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def search(
    scene: str,
    overrides: str,
    dataset: Input[Dataset],
    teacher: Input[Model],
    search: Output[Artifact],
) -> None:
    """Search the student's architecture by gradient.

    Args:
        scene: the scene's config: YAML text, an s3:// location, or the path of a YAML file.
        overrides: settings that differ, such as `teach.max_epochs=5`.
        dataset: what prepare wrote.
        teacher: what teach wrote.
        search: supernet weights, choice, costs, history.
    """
    from distilrec import entry

    manifest = entry.search(scene, overrides, dataset.path, teacher.path, search.path)
    search.metadata.update({key: str(manifest[key]) for key in ("content", "seconds")})

"""teach: a doorway to `distilrec.entry.teach`."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Model, Output

from distilrec.components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def teach(
    scene: str,
    overrides: str,
    dataset: Input[Dataset],
    teacher: Output[Model],
) -> None:
    """Train the teacher.

    Args:
        scene: the scene's config: YAML text, an s3:// location, or the path of a YAML file.
        overrides: settings that differ, such as `teach.max_epochs=5`.
        dataset: what prepare wrote.
        teacher: weights, config, history.
    """
    from distilrec import entry

    manifest = entry.teach(scene, overrides, dataset.path, teacher.path)
    teacher.metadata.update({key: str(manifest[key]) for key in ("content", "seconds")})

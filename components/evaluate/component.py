"""evaluate: a doorway to `distilrec.entry.evaluate`."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Model, Output

from distilrec.components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate(
    scene: str,
    overrides: str,
    dataset: Input[Dataset],
    student: Input[Model],
    quality: Output[Artifact],
) -> None:
    """Measure teacher, student, champion and floors on the same test users.

    Args:
        scene: the scene's config: YAML text, an s3:// location, or the path of a YAML file.
        overrides: settings that differ, such as `teach.max_epochs=5`.
        dataset: what prepare wrote.
        student: what retrain wrote.
        quality: metrics, intervals, ranks per user, examples.
    """
    from distilrec import entry

    manifest = entry.evaluate(scene, overrides, dataset.path, student.path, quality.path)
    quality.metadata.update({key: str(manifest[key]) for key in ("content", "seconds")})

"""benchmark: a doorway to `distilrec.entry.benchmark`."""

from kfp import dsl
from kfp.dsl import Artifact, Input, Model, Output

from distilrec.components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def benchmark(
    scene: str,
    overrides: str,
    teacher: Input[Model],
    student: Input[Model],
    latency: Output[Artifact],
) -> None:
    """Count and time teacher and student.

    Args:
        scene: the scene's config: YAML text, an s3:// location, or the path of a YAML file.
        overrides: settings that differ, such as `teach.max_epochs=5`.
        teacher: what teach wrote.
        student: what retrain wrote.
        latency: percentiles, ratios, costs, samples.
    """
    from distilrec import entry

    manifest = entry.benchmark(scene, overrides, teacher.path, student.path, latency.path)
    latency.metadata.update({key: str(manifest[key]) for key in ("content", "seconds")})

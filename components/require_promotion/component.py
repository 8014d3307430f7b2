"""require-promotion: a doorway to `distilrec.entry.require_promotion`."""

from kfp import dsl
from kfp.dsl import Artifact, Input

from distilrec.components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def require_promotion(
    scene: str,
    overrides: str,
    is_required: bool,
    outcome: Input[Artifact],
) -> None:
    """Fail the run if a promotion was required and the gate holds the student. Kubeflow keeps nothing of a task that
    fails, so `promote`, which writes the report with the reasons, must not.

    Args:
        scene: the scene's config: YAML text, an s3:// location, or the path of a YAML file.
        overrides: settings that differ, such as `teach.max_epochs=5`.
        is_required: otherwise nothing is asked.
        outcome: what promote wrote.
    """
    from distilrec import entry

    entry.require_promotion(scene, overrides, is_required, outcome.path)

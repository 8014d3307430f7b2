"""close-run: a doorway to `distilrec.entry.close_run`."""

from kfp import dsl

from distilrec.components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def close_run(
    scene: str,
    overrides: str,
    status: dsl.PipelineTaskFinalStatus,
) -> None:
    """Give the scene back, close the run in MLflow, and tell the webhook how the run ended.

    Args:
        scene: the scene's config: YAML text, an s3:// location, or the path of a YAML file.
        overrides: settings that differ, such as `teach.max_epochs=5`.
        status: how the steps ended.
    """
    from distilrec import entry

    entry.close_run(scene, overrides, status.state, status.error_message or "")

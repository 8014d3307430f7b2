"""open-run: a doorway to `distilrec.entry.open_run`."""

from kfp import dsl

from distilrec.components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def open_run(
    scene: str,
    overrides: str,
    as_of: str,
) -> None:
    """Take the scene, so that no other run of it begins, and open the run in MLflow.

    Args:
        scene: the scene's config: YAML text, an s3:// location, or the path of a YAML file.
        overrides: settings that differ, such as `teach.max_epochs=5`.
        as_of: only events before this ISO 8601 date or time.
    """
    from distilrec import entry

    entry.open_run(scene, overrides, as_of)

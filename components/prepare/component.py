"""prepare: a doorway to `distilrec.entry.prepare`."""

from kfp import dsl
from kfp.dsl import Dataset, Output

from distilrec.components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def prepare(
    scene: str,
    overrides: str,
    as_of: str,
    dataset: Output[Dataset],
) -> None:
    """Turn raw interactions into a dataset with floors.

    Args:
        scene: the scene's config: YAML text, an s3:// location, or the path of a YAML file.
        overrides: settings that differ, such as `teach.max_epochs=5`.
        as_of: only events before this ISO 8601 date or time; empty means all.
        dataset: sequences, item table, floors.
    """
    from distilrec import entry

    manifest = entry.prepare(scene, overrides, as_of, dataset.path)
    dataset.metadata.update({key: str(manifest[key]) for key in ("content", "seconds")})

"""promote: a doorway to `distilrec.entry.promote`."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Markdown, Metrics, Model, Output

from distilrec.components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def promote(
    scene: str,
    overrides: str,
    dataset: Input[Dataset],
    teacher: Input[Model],
    search: Input[Artifact],
    genotype: Input[Artifact],
    student: Input[Model],
    quality: Input[Artifact],
    latency: Input[Artifact],
    outcome: Output[Artifact],
    report: Output[HTML],
    summary: Output[Markdown],
    metrics: Output[Metrics],
) -> None:
    """Decide, register, record, and write the scene's summary and report.

    Args:
        scene: the scene's config: YAML text, an s3:// location, or the path of a YAML file.
        overrides: settings that differ, such as `teach.max_epochs=5`.
        dataset: what prepare wrote.
        teacher: what teach wrote.
        search: what search wrote.
        genotype: what derive wrote.
        student: what retrain wrote.
        quality: what evaluate wrote.
        latency: what benchmark wrote.
        outcome: summary.json, report.html, summary.md.
        report: the report.
        summary: the summary in a few lines.
        metrics: the headline numbers.
    """
    from distilrec import entry

    result = entry.promote(
        scene, overrides, dataset.path, teacher.path, search.path, genotype.path, student.path, quality.path,
        latency.path, outcome.path, report.path, summary.path,
    )  # fmt: skip
    for name, value in result.items():
        metrics.log_metric(name, value)

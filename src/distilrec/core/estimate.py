"""How long each step will probably take, from the sizes alone: for a plan, and for the first minutes of the
time left. As soon as a step reports its epochs, its own pace replaces this."""

from distilrec.core.config import SceneConfig

STEPS = ("prepare", "teach", "search", "derive", "retrain", "evaluate", "benchmark", "promote")
MULTIPLY_ADDS_PER_SECOND = 20e9
"""Of a training on two cores of a small server, measured on the demo; forward and backward, softmax included."""
FIXED_SECONDS = dict(zip(STEPS, (4.0, 6.0, 10.0, 8.0, 20.0, 10.0, 12.0, 20.0), strict=True))
"""Starting a process, importing, exporting, registering."""


def predicted_seconds(config: SceneConfig, num_events: int, num_items: int) -> dict[str, float]:
    """By step, if every training runs to its last epoch."""
    length, teach, search = config.max_length, config.teach, config.search
    teacher_pass = teach.num_blocks * (12 * teach.width**2 + 2 * length * teach.width)
    teacher_scores = teach.width * num_items
    student_scores = search.width * num_items
    num_edges = search.num_nodes * (search.num_nodes + 1) // 2
    one_operation = 4 * search.width**2
    sampled = search.num_cells * num_edges * one_operation
    distilled = teacher_pass + 2 * teacher_scores + 4 * student_scores + 3 * sampled
    all_operations = distilled + 3 * 10 * sampled
    share = 1 - search.architecture_share
    searched = share * (distilled + all_operations / search.architecture_every)
    per_event = {
        "teach": teach.max_epochs * 3 * (teacher_pass + teacher_scores),
        "search": search.epochs * searched,
        "retrain": config.retrain.max_epochs * distilled,
    }
    return {
        step: FIXED_SECONDS[step] + per_event.get(step, 0) * num_events / MULTIPLY_ADDS_PER_SECOND for step in STEPS
    }

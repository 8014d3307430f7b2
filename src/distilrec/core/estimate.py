"""How long each step will probably take, from the sizes alone: for a plan, and for the first minutes of the
time left. As soon as a step reports its epochs, its own pace replaces this."""

from distilrec.core.config import SceneConfig, Search, UserTraining

STEPS = ("prepare", "teach", "search", "derive", "retrain", "evaluate", "benchmark", "promote")
MULTIPLY_ADDS_PER_SECOND = 20e9
"""Of a training on two cores of a small server, measured on the demo; forward and backward, softmax included."""
FIXED_SECONDS = dict(zip(STEPS, (4.0, 6.0, 10.0, 8.0, 20.0, 10.0, 12.0, 20.0), strict=True))
"""Starting a process, importing, exporting, registering."""
NUMBERS_OF_THREADS = 2
"""That requests are timed with: one and all."""


PARAMETER_UPDATE = 100
"""What a step of Adam costs for each parameter, in multiply-adds: of a user model it moves all, whatever the batch."""
RANKING = 50
"""What each score of a validation costs beside its computation."""


def predicted_seconds(config: SceneConfig, num_users: int, num_events: int, num_items: int) -> dict[str, float]:
    """By step, if every training runs to its last epoch."""
    passes = _of_users if config.teach.knows_users else _of_histories
    work = passes(config, num_users, num_events, num_items)
    fixed = dict(FIXED_SECONDS)
    fixed["benchmark"] += NUMBERS_OF_THREADS * config.benchmark.seconds * len(config.benchmark.batch_sizes)
    return {step: fixed[step] + work.get(step, 0) / MULTIPLY_ADDS_PER_SECOND for step in STEPS}


def _of_users(config: SceneConfig, num_users: int, num_events: int, num_items: int) -> dict[str, float]:
    def epoch(width: int, knobs: UserTraining) -> float:
        batches = -(-num_events // knobs.batch_size)
        updates = batches * PARAMETER_UPDATE * (num_users + num_items) * width
        asked = min(num_users, config.prepare.max_asked_users)
        return 6 * num_events * width + updates + asked * num_items * (width + RANKING)

    teach, retrain = config.teach, config.retrain
    return {
        "teach": teach.max_epochs * epoch(teach.width, teach.factors),
        "retrain": retrain.max_epochs * epoch(config.search.width, retrain.factors),
    }


def _of_histories(config: SceneConfig, _: int, num_events: int, num_items: int) -> dict[str, float]:
    search, retrain = config.search, config.retrain
    scored = num_items if config.loss.kind_for(num_items) == "softmax" else config.loss.num_negatives
    teacher_pass = _teacher_pass(config)
    asking = teacher_pass + config.teach.width * num_items
    sampled, whole = _student_passes(search)
    distilled = 3 * (sampled + search.width * scored)
    searched = (1 - search.architecture_share) * (distilled + 3 * whole / search.architecture_every)
    masked = config.teach.masked.max_epochs if config.teach.model == "bert4rec" else 0
    teacher_epochs = config.teach.max_epochs + masked
    per_event = {
        "teach": teacher_epochs * 3 * (teacher_pass + config.teach.width * scored),
        "search": 0.0 if search.space == "fixed" else asking + search.epochs * searched,
        "retrain": asking + retrain.max_epochs * distilled,
    }
    return {step: num_events * work for step, work in per_event.items()}


def _teacher_pass(config: SceneConfig) -> int:
    """Multiply-adds of a position, forward."""
    teach = config.teach
    if teach.model == "nextitnet":
        return teach.num_blocks * len(teach.dilations) * 6 * teach.width**2
    return teach.num_blocks * ((4 + 2 * teach.inner) * teach.width**2 + 2 * config.max_length * teach.width)


def _student_passes(search: Search) -> tuple[float, float]:
    """Multiply-adds of a position, forward: of what a weight step evaluates, and of all options."""
    if search.space == "transformer":
        own = search.transformer
        layer = 4 + 2 * own.inner + (own.inner + own.inner**2 + 2 if own.gates else 0)
        whole = own.num_layers * sum(layer * width**2 for width in own.widths_of(search.width))
        return (whole if own.relaxation == "softmax" else whole / len(own.divisors)), whole
    num_edges = search.num_nodes * (search.num_nodes + 1) // 2
    sampled = search.num_cells * num_edges * 4 * search.width**2
    return sampled, 10 * sampled

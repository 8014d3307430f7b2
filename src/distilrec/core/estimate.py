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
DRAWN_ITEM = 2500
"""What each item that a distillation term draws for a context costs beside its score."""
EXPERTS_ASKED = 0.25
"""Of all, over a training in which the selection's temperature falls."""
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
    batch = retrain.factors.batch_size
    told = _of_terms(config, min(batch, num_users), 2 * min(batch, num_items)) * -(-num_events // batch)
    return {
        "teach": teach.max_epochs * epoch(teach.width, teach.factors),
        "retrain": retrain.max_epochs * (epoch(config.search.width, retrain.factors) + told),
    }


def _of_terms(config: SceneConfig, num_contexts: float, num_items: float) -> float:
    """Of a batch, with the gradients."""
    terms, width, wide = config.retrain.terms, config.search.width, config.teach.width
    drawn = sum(terms.drawn().values()) + (terms.rrd.num_uninteresting if terms.rrd else 0)
    drawn += terms.rd.num_sampled if terms.rd else 0
    experts = terms.de.num_experts * EXPERTS_ASKED if terms.de else 0.0
    of_an_expert = 4 * (width + wide) * (width + wide) // 2
    return num_contexts * drawn * (DRAWN_ITEM + 6 * width) + experts * (num_contexts + num_items) * of_an_expert


def _of_histories(config: SceneConfig, num_users: int, num_events: int, num_items: int) -> dict[str, float]:
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
    work = {step: num_events * each for step, each in per_event.items()}
    positions = retrain.batch_size * min(config.max_length, num_events / num_users)
    told = min(positions, retrain.term_positions)
    work["retrain"] += retrain.max_epochs * num_events / positions * _of_terms(config, told, min(told, num_items))
    return work


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

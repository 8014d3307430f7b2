"""Every knob of a scene: its default, unit, reason and range, once. Closed and frozen.

One YAML file is one scene. Nothing else in the package repeats a default.
"""

import hashlib
import json
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from distilrec.core.errors import ConfigError


class Closed(BaseModel):
    """Refuses unknown keys, NaN and assignment."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


def checked_name(name: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9-]{1,46}[a-z0-9]", name):
        raise ConfigError(
            "DR-CONF-004",
            f"scene: {name!r} is not 3 to 48 lower-case letters, digits and hyphens, beginning with a letter",
        )
    return name


SceneName = Annotated[str, AfterValidator(checked_name)]


class Columns(Closed):
    """The names of the columns in the user's file."""

    user: str = "user_id"
    item: str = "item_id"
    time: str | None = "timestamp"
    """Seconds since 1970 (see `time_unit`), or dates: ISO 8601 text such as 2024-01-31 or 2024-01-31T12:30:00Z, with
    hyphens, or a Parquet timestamp. Numbers like 20240131 are refused. Null where there is none: then the scene has no
    order, and all of it is of 1970."""
    sequence: str | None = None
    """Whole numbers that order events of one time; without it the order of the file does."""


class ItemTable(Closed):
    """Titles for the report, optional."""

    path: str
    item: str = "item_id"
    title: str = "title"


class FileData(Closed):
    """The user's own interactions, with a header: .csv (comma; values quoted as RFC 4180 has it, line breaks in them
    included), .tsv (tab; nothing is quoted, and an id between quotation marks is refused) or .parquet; a file, or a
    folder of them."""

    source: Literal["file"]
    path: str
    """Relative to the scene file, or absolute; beside a scene in S3, absolute or in S3 too. Of a folder (in S3 it ends
    in "/") all files in the order of their names, but those that begin with "_" or "."; all must be readable."""
    columns: Columns = Columns()
    time_unit: Literal["s", "ms", "us", "ns"] = "s"
    """Of times that are numbers. Refused if they are of 1970 in it and of 1990 to 2099 in a longer one."""
    items: ItemTable | None = None


class MovieLensData(Closed):
    """The demo: MovieLens-1M by age, from the cache that `distilrec fetch movielens-1m` fills."""

    source: Literal["movielens-1m"]
    ages: Literal["all", "under-25", "25-34", "35-and-over"]


class SyntheticData(Closed):
    """Walks on a random Markov chain: a learner's score is known in advance from `predictability`."""

    source: Literal["synthetic"]
    num_users: int = Field(300, ge=10, le=10_000_000)
    num_items: int = Field(60, ge=5, le=10_000_000)
    events_per_user: int = Field(30, ge=5, le=100_000)
    predictability: float = Field(0.9, ge=0.0, le=1.0)
    """Chance that the next item is the chain's successor and not a uniformly random item."""
    seed: int = Field(0, ge=0)


class Prepare(Closed):
    order: Literal["time", "none"] = "time"
    """None: a user has each item once, in a random order that the ids decide, and not the seed: what is hidden from
    validation and test is random, and a history is a set."""
    min_user_events: int = Field(5, ge=3, le=1000)
    """One each is for training, validation and test. With a temporal split the events before validation's count."""
    min_item_events: int = Field(5, ge=1, le=100_000)
    """Convention of the 5-core sets of the literature."""
    split: Literal["leave-one-out", "temporal"] = "leave-one-out"
    """Temporal: training ends at a cut, and what users had first after it is asked (docs/method.md)."""
    valid_days: float = Field(7, gt=0, le=3650)
    """Temporal: how long before the test's cut training ends; then validation's targets begin."""
    test_days: float = Field(7, gt=0, le=3650)
    """Temporal: how long before `as_of`, or before the newest event, the test's targets begin."""
    min_users: int = Field(50, ge=10)
    """Below it no interval over test users is worth reading."""
    min_items: int = Field(20, ge=5)
    max_asked_users: int = Field(100_000, ge=1000)
    """Of validation and of test each: of more, so many are drawn by the seed. Intervals are narrow long before."""


class Loss(Closed):
    """Of the next item, in every training."""

    kind: Literal["auto", "softmax", "sampled-softmax", "gbce"] = "auto"
    """Auto: full softmax for catalogues of up to `softmax_up_to` items, sampled softmax for larger ones."""
    softmax_up_to: int = Field(50_000, ge=2)
    """There the scores take some ten times the multiply-adds of the default teacher's encoder."""
    num_negatives: int = Field(512, ge=1, le=100_000)
    """Uniform, shared by 128 positions, drawn anew for the next 128."""
    calibration: float = Field(0.75, ge=0, le=1)
    """gBCE's t: 0 is plain binary cross-entropy, 1 undoes the effect of sampling (Petrov & Macdonald 2023)."""

    def kind_for(self, num_items: int) -> str:
        """`softmax`, `sampled-softmax` or `gbce`."""
        if self.kind != "auto":
            return self.kind
        return "softmax" if num_items <= self.softmax_up_to else "sampled-softmax"


def _require_falling(where: str, start: float, end: float) -> None:
    if end > start:
        raise ConfigError("DR-CONF-005", f"{where}: temperature_end {end} is above temperature_start {start}")


class Descent(Closed):
    """What moves weights."""

    learning_rate: float = Field(2e-3, gt=0, le=1)
    """After a linear warm-up over the first epoch: of a search constant, else half a cosine to zero."""
    weight_decay: float = Field(0.01, ge=0, le=1)
    batch_size: int = Field(32, ge=1, le=65_536)
    """Windows. Small batches need fewer epochs; on two cores the time per epoch hardly changes from 32 to 128."""
    gradient_clip: float = Field(5.0, gt=0)
    """Global norm (AdaRec code)."""


class Training(Descent):
    """Until validation says that it is enough."""

    max_epochs: int = Field(20, ge=1, le=10_000)
    patience: int = Field(5, ge=1, le=10_000)
    """Epochs without a better validation NDCG@10 before it stops."""


class UserTraining(Closed):
    """Of BPR and NeuMF, as DE-RRD's release has it. Losses are sums over a batch: their weights hold for its size."""

    learning_rate: float = Field(1e-3, gt=0, le=1)
    """Constant."""
    weight_decay: float = Field(1e-3, ge=0, le=1)
    """L2 through Adam, on everything that is trained."""
    batch_size: int = Field(1024, ge=1, le=1_000_000)
    """Observed pairs, each with a negative."""


class Masked(Training):
    """BERT4Rec's first stage: some items of each window are hidden, and filled in from both sides."""

    share: float = Field(0.4, gt=0, lt=1)
    """Of the items that are to be guessed (AdaRec code: 0.4, on MovieLens 0.5)."""


USER_MODELS = ("bpr", "neumf")


class Teach(Training):
    """SASRec (Kang & McAuley 2018), NextItNet (Yuan et al. 2019) or BERT4Rec (Sun et al. 2019); or, for scenes whose
    users are known by a number and not by a history, BPR (Rendle et al. 2009) or NeuMF (He et al. 2017)."""

    model: Literal["sasrec", "nextitnet", "bert4rec", "bpr", "neumf"] = "sasrec"
    """The student of BPR or NeuMF is the same model, `search.width` wide: they need `search.space: fixed`."""
    width: int = Field(64, ge=4, le=4096)
    num_blocks: int = Field(4, ge=1, le=128)
    """Attention blocks. NextItNet: groups, each with one residual block for every dilation."""
    num_heads: int = Field(2, ge=1, le=64)
    """Not NextItNet."""
    inner: int = Field(4, ge=1, le=16)
    """Of the feed-forward layers, in widths (Kang & McAuley: 1). Not NextItNet."""
    dilations: tuple[Annotated[int, Field(ge=1, le=512)], ...] = Field((1, 4), min_length=1, max_length=16)
    """NextItNet only: of the first convolution of each residual block; the second has twice as much."""
    dropout: float = Field(0.2, ge=0, le=0.99)
    masked: Masked = Masked()
    """BERT4Rec only. The keys above govern the fine-tuning that follows: causal, towards the next item."""
    factors: UserTraining = UserTraining()
    """BPR and NeuMF only, in place of learning_rate, weight_decay, batch_size and gradient_clip; of the keys above they
    read model, width, max_epochs and patience. They need some hundred epochs."""

    @property
    def knows_users(self) -> bool:
        """By number, in place of their histories."""
        return self.model in USER_MODELS

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "Teach":
        if self.model in ("sasrec", "bert4rec") and self.width % self.num_heads:
            raise ConfigError(
                "DR-CONF-005", f"teach: width {self.width} is not a multiple of num_heads {self.num_heads}"
            )
        return self


class Distillation(Closed):
    """(1 - share) * task + share * (soft targets + embedding + hidden), AdaRec's target-oriented loss."""

    share: float = Field(0.5, ge=0, le=1)
    """gamma (AdaRec code)."""
    embedding_weight: float = Field(1.0, ge=0, le=1000)
    hidden_weight: float = Field(1.0, ge=0, le=1000)
    layers: Literal["transport", "left", "right", "left-jump", "right-jump"] = "transport"
    """Which teacher layer teaches which student layer: earth mover's distance over all pairs, or one to one: the
    first ones, the last ones, or evenly spaced from the first (4 of 8: 0, 2, 4, 6) or to the last (1, 3, 5, 7)."""
    layer_weights: Literal["adaptive", "uniform"] = "adaptive"
    """Of the transport: a layer that is cheap to move gets more weight after each step, or all stay alike."""
    layer_temperature: float = Field(10.0, gt=0, le=1e6)
    """Of the cost attention over layers (AdaRec code: 10; BERT-EMD: 1 to 10)."""
    teacher: Literal["stored", "live"] = "stored"
    """Stored: asked once at the start and kept in half precision under TMPDIR. Live: asked batch by batch."""
    named_items: int = Field(128, ge=1, le=10_000)
    """The teacher's most likely items at each position, kept with their probabilities; the rest is one outcome."""


class DistillationExperts(Closed):
    """DE (Kang et al. 2020), with the settings of its release."""

    weight: float = Field(1e-2, ge=0, le=1e6)
    num_experts: int = Field(30, ge=1, le=1000)
    temperature_start: float = Field(1.0, ge=1e-12, le=100)
    """Of the selection's Gumbel-softmax, in the first epoch."""
    temperature_end: float = Field(1e-10, ge=1e-12, le=100)
    """In the last of `max_epochs`; a training that stops early never sees it."""

    @model_validator(mode="after")
    def _temperature_falls(self) -> "DistillationExperts":
        _require_falling("de", self.temperature_start, self.temperature_end)
        return self


class RelaxedRanking(Closed):
    """RRD (Kang et al. 2020), with the settings of its release."""

    weight: float = Field(1e-3, ge=0, le=1e6)
    interesting: Literal["sampled", "top"] = "sampled"
    """By rank, anew each epoch, or each batch of a sequential student; or the teacher's first ones, which its authors
    later found better."""
    num_interesting: int = Field(40, ge=1, le=10_000)
    num_uninteresting: int = Field(40, ge=0, le=1000)
    temperature: float = Field(10.0, ge=1e-6, le=1e6)
    """T of the chance exp(-rank / T). A larger one draws from deeper in the teacher's list: better for NeuMF
    (docs/derrd.md)."""


class PointwiseRanking(Closed):
    """RD (Tang & Wang 2018), for comparison."""

    weight: float = Field(0.1, ge=0, le=1e6)
    """Not tuned."""
    num_positives: int = Field(10, ge=1, le=10_000)
    temperature: float = Field(10.0, gt=0, le=1e6)
    """T of the weight exp(-rank / T)."""
    mu: float = Field(0.1, gt=0, le=1e6)
    """Of the weight tanh(mu * difference of the ranks)."""
    num_sampled: int = Field(100, ge=1, le=1000)
    """Items from which the student's rank is estimated."""
    warm_up: float = Field(0.05, ge=0, le=1)
    """The share of `max_epochs` before the difference of the ranks counts: an untrained student's ranks say nothing."""


class Collaborative(Closed):
    """CD (Lee et al. 2019), for comparison."""

    weight: float = Field(1e-3, ge=0, le=1e6)
    """Not tuned."""
    num_sampled: int = Field(40, ge=1, le=10_000)
    temperature: float = Field(10.0, ge=1e-6, le=1e6)
    """T of the chance exp(-rank / T)."""
    calibration: float = Field(1.0, gt=0, le=1e6)
    """The teacher's scores are divided by it before they become probabilities."""


class Terms(Closed):
    """Distillation terms beside the losses of `distillation`: each that is named is added with its weight, as a mean
    over positions to a sequential student's mean, as a sum over users to the sum of BPR and NeuMF."""

    de: DistillationExperts | None = None
    rrd: RelaxedRanking | None = None
    rd: PointwiseRanking | None = None
    cd: Collaborative | None = None

    def weights(self) -> dict[str, float]:
        """Of those that are named."""
        named = {"de": self.de, "rrd": self.rrd, "rd": self.rd, "cd": self.cd}
        return {name: knobs.weight for name, knobs in named.items() if knobs is not None}

    def drawn(self) -> dict[str, int]:
        """How many of the teacher's items a context has, by term."""
        drawn = {"rrd": self.rrd.num_interesting} if self.rrd else {}
        drawn |= {"rd": self.rd.num_positives} if self.rd else {}
        return drawn | ({"cd": self.cd.num_sampled} if self.cd else {})


class Budget(Closed):
    """What the student may cost at most; the search adapts its weight on cost to meet it. All that are set hold."""

    encoder_macs: int | None = Field(None, ge=0)
    """Multiply-adds of one full sequence, ids to last state; scoring the catalogue is not among them."""
    encoder_params: int | None = Field(None, ge=0)
    """Without embeddings."""
    p50_ms: float | None = Field(None, gt=0)
    """Of one user's request in exported form, by the latency table; the report warns of more than 15 % above it."""
    joules: float | None = Field(None, gt=0)
    """Of a thousand such requests, by the latency table of a machine that counts its energy."""

    def limits(self) -> dict[str, float]:
        """By the measures of a student's cost."""
        asked = {"macs": self.encoder_macs, "params": self.encoder_params, "p50_ms": self.p50_ms}
        asked["joules"] = self.joules
        return {measure: float(limit) for measure, limit in asked.items() if limit is not None}


class Transformer(Closed):
    """The space "transformer" alone (DNS-Rec): the width and the number of layers are searched."""

    num_layers: int = Field(4, ge=1, le=16)
    """At most: the depth is searched from 1 to it (DNS-Rec: 4)."""
    divisors: tuple[Annotated[int, Field(ge=1, le=64)], ...] = Field((1, 2, 4), min_length=1, max_length=6)
    """The widths to choose from: `search.width` over each of these (DNS-Rec: 1, 2, 4)."""
    widths: Literal["shared", "per-layer"] = "shared"
    """One width for all layers (DNS-Rec), or one for each."""
    head_width: int | None = Field(None, ge=1, le=512)
    """Features of an attention head, so that narrower layers have fewer heads; by default the smallest width."""
    inner: int = Field(2, ge=1, le=16)
    """Of the feed-forward layers, in widths (DNS-Rec: 2 on MovieLens-1M, 4 on Gowalla)."""
    attention: Literal["linear", "softmax", "as-released"] = "linear"
    """Linear and softmax: causal, all positions of a window at once. As released: linear, to both sides within a
    prefix, one forward for each prefix; for comparison only, since a window of L positions takes L of them."""
    gates: bool = True
    """Data-aware gates, fed by the embedded input; about half of a layer's multiply-adds."""
    relaxation: Literal["softmax", "gumbel"] = "gumbel"
    """Gumbel: hard draws, straight-through. Softmax: all options, mixed by softmax(logits / temperature) in every step
    (DNS-Rec); what is only ever a part of a mixture is not told apart."""
    constraint: Literal["dynamic", "static"] = "dynamic"
    """Dynamic: the cost is multiplied by the share of the most likely depth, and so lets off what has become shallow
    (DNS-Rec). Without a budget."""

    def widths_of(self, width: int) -> tuple[int, ...]:
        """To choose from, rising."""
        return tuple(sorted({width // divisor for divisor in self.divisors}))

    def kind(self) -> str:
        """What a latency of these students depends on beside width and length."""
        return (
            f"transformer, divisors {self.divisors}, heads {self.head_width}, inner {self.inner}, {self.attention}, "
            f"gates {self.gates}"
        )


MOST_ARCHITECTURES = 5_000
"""With widths of their own: the best within a budget is found by going through all."""


class Search(Descent):
    space: Literal["cell", "transformer", "fixed", "adarec-as-released"] = "cell"
    """Cell: AdaRec's. Transformer: DNS-Rec's. Fixed: no search; `width`, `num_cells`, `num_nodes` and `operation` are
    the student (of BPR and NeuMF the width alone), and nothing is trained before `retrain`. As released: AdaRec with
    the faults of its public code, for comparison only (docs/method.md). It brings its own learning rates, batch sizes,
    temperatures, losses and costs: the keys for them are not read then. num_cells, cells, depth and num_nodes are not
    the transformers'."""
    operation: Literal["conv3", "dilated_conv3", "conv5", "dilated_conv5"] = "conv3"
    """Space "fixed" alone: of every node, one after the other."""
    width: int = Field(32, ge=4, le=4096)
    """The student's (AdaRec: 32 for a SASRec teacher); of transformers the largest."""
    num_cells: int = Field(4, ge=1, le=64)
    """At most, if the depth is searched."""
    cells: Literal["shared", "per-depth"] = "shared"
    """One architecture for all cells (AdaRec), or one for each depth."""
    depth: Literal["fixed", "searched"] = "fixed"
    """Searched: the number of cells is a decision too, from 1 to `num_cells` (AdaBERT). Straight-through, its gradient
    is that of the state after the cells; the hidden states' loss takes part in it by the score function alone."""
    num_nodes: int = Field(3, ge=1, le=8)
    dropout: float = Field(0.1, ge=0, le=0.99)
    epochs: int = Field(12, ge=1, le=10_000)
    architecture_learning_rate: float = Field(0.05, gt=0, le=10)
    """Adam moves a logit by about this much a step. The release's 2e-5 leaves the distributions uniform."""
    architecture_every: int = Field(2, ge=1, le=1000)
    """Weight steps (sampled path only) for each architecture step (all operations)."""
    architecture_after: int = Field(2, ge=0, le=10_000)
    """Epochs before the first architecture step: untrained weights favour operations that have none."""
    architecture_gradient: Literal["straight-through", "score-function"] = "straight-through"
    """Straight-through: all options, one draw. Score function: the losses of several draws; unbiased, noisier."""
    architecture_samples: int = Field(4, ge=2, le=64)
    """Draws of the score function; each one's baseline is the mean loss of the others."""
    architecture_data: Literal["held-out", "training"] = "held-out"
    """Bilevel, first order: on users of their own; or on the batch of the weight step (AdaRec code)."""
    architecture_share: float = Field(0.3, gt=0, lt=1)
    """Share of the training users held out for the architecture steps."""
    temperature_start: float = Field(1.0, gt=0, le=100)
    temperature_end: float = Field(0.2, gt=0, le=100)
    """The floor: far below it the straight-through gradient vanishes (the release reaches 1.7e-4)."""
    cost_weight: float = Field(0.1, ge=0, le=1000)
    """beta, on an expected cost in [0, 1]. Not comparable with the release's 8 on costs of 23 to 102. With a budget it
    is only where the weight starts; it may then fall below zero."""
    cost_measures: tuple[Literal["params", "macs", "p50_ms", "joules"], ...] = Field(("params", "macs"), min_length=1)
    """Their shares of the largest possible cost are averaged, unless there is a budget; p50_ms and joules need a
    latency table."""
    transformer: Transformer = Transformer()
    latency_table: str | None = None
    """File that `distilrec profile` wrote on the machine that will serve; relative to the scene file, or absolute."""
    budget: Budget = Budget()
    distillation: Distillation = Distillation()

    @model_validator(mode="after")
    def _temperature_falls(self) -> "Search":
        _require_falling("search", self.temperature_start, self.temperature_end)
        return self

    @model_validator(mode="after")
    def _there_is_a_depth_to_search(self) -> "Search":
        if self.depth == "searched" and self.num_cells == 1:
            raise ConfigError("DR-CONF-005", "search: the depth of num_cells 1 cannot be searched")
        return self

    @model_validator(mode="after")
    def _others_have_no_more(self) -> "Search":
        asked = {
            "cells": self.cells != "shared",
            "depth": self.depth != "fixed",
            "budget": bool(self.budget.limits()),
            "latency_table": self.latency_table is not None,
        }
        for name, is_asked in asked.items():
            if self.space in ("adarec-as-released", "fixed") and is_asked:
                raise ConfigError("DR-CONF-005", f"search: {name} cannot be chosen with space {self.space}")
        return self

    @model_validator(mode="after")
    def _latency_is_measured(self) -> "Search":
        for measure in ("p50_ms", "joules"):
            is_asked = measure in self.cost_measures or measure in self.budget.limits()
            if is_asked and self.latency_table is None:
                raise ConfigError("DR-CONF-005", f"search: {measure} is asked for and there is no latency_table")
        return self

    @model_validator(mode="after")
    def _widths_are_whole_heads(self) -> "Search":
        own = self.transformer
        if self.space != "transformer":
            return self
        for divisor in own.divisors:
            heads = own.head_width or self.width // max(own.divisors)
            if self.width % divisor or not heads or (self.width // divisor) % heads:
                raise ConfigError(
                    "DR-CONF-005",
                    f"search: width {self.width} over {divisor} is not a multiple of the head width {heads}",
                )
        if own.widths == "per-layer" and len(own.divisors) ** own.num_layers > MOST_ARCHITECTURES:
            raise ConfigError(
                "DR-CONF-005",
                f"search: transformer.num_layers {own.num_layers} of {len(own.divisors)} widths each are more than "
                f"{MOST_ARCHITECTURES} architectures",
            )
        return self

    @model_validator(mode="after")
    def _a_mixture_is_not_drawn(self) -> "Search":
        is_soft = self.space == "transformer" and self.transformer.relaxation == "softmax"
        if is_soft and self.architecture_gradient == "score-function":
            raise ConfigError(
                "DR-CONF-005", "search: architecture_gradient score-function needs transformer.relaxation gumbel"
            )
        return self

    @model_validator(mode="after")
    def _some_epochs_decide(self) -> "Search":
        if self.space != "fixed" and self.architecture_after >= self.epochs:
            raise ConfigError(
                "DR-CONF-005",
                f"search: epochs {self.epochs} leave no architecture step after architecture_after "
                f"{self.architecture_after}",
            )
        return self


class Retrain(Training):
    """The derived student is trained on with distillation."""

    start: Literal["inherited", "scratch"] = "inherited"
    """From the supernet's weights, or from new ones."""
    dropout: float = Field(0.1, ge=0, le=0.99)
    distillation: Distillation = Distillation()
    terms: Terms = Terms()
    """Multiplied by `distillation.share`, as its other losses are."""
    term_positions: int = Field(512, ge=1, le=1_000_000)
    """Of a batch, drawn anew, at most: a term reads the vectors of all items that it draws for each."""
    factors: UserTraining = UserTraining()
    """BPR and NeuMF only, in place of learning_rate, weight_decay, batch_size and gradient_clip. Of the distillation
    they read `terms`, added with their weights, and `distillation.named_items`, of each user."""

    @model_validator(mode="after")
    def _the_teacher_names_enough(self) -> "Retrain":
        for name, drawn in self.terms.drawn().items():
            if drawn > self.distillation.named_items:
                words = f"retrain: terms.{name} draws {drawn} of the teacher's items"
                named = f"distillation.named_items names {self.distillation.named_items}"
                raise ConfigError("DR-CONF-005", f"{words}, {named}")
        return self


class Evaluate(Closed):
    deciding: Literal["auto", "kept", "removed"] = "auto"
    """Which variant gates, stops early and makes the headline. Auto: removed where fewer than 1 % of the
    events repeat an item of the same user (films), kept otherwise (sessions, music)."""
    sampled: tuple[Literal["uniform-100", "popular-100", "uniform-499"], ...] = ()
    """The target among a few items too, as SASRec, BERT4Rec and DE-RRD have it: for comparison with their numbers."""
    bootstrap_repeats: int = Field(1000, ge=100, le=100_000)
    num_examples: int = Field(10, ge=0, le=100)
    """Test users shown side by side in the report."""


class Serve(Closed):
    """The form in which a student is registered."""

    variant: Literal["float32", "int8", "indexed"] = "float32"
    """Int8: weights in a quarter of the bytes, activations quantised as they come. Indexed: float32, with an index that
    finds the best of a large catalogue without scoring all of it."""
    max_int8_loss: float = Field(0.01, ge=0, le=1)
    """Of validation NDCG@10, relative to float32: the gate holds an int8 student that loses more."""
    index_effort: int = Field(64, ge=1, le=100_000)
    """Lists of the index that a search reads (nprobe): more find more, and take longer."""
    min_index_recall: float = Field(0.95, ge=0, le=1)
    """Share of the ten best items, on validation, that the index must find, or the gate holds the student."""

    @property
    def evaluated(self) -> str:
        """What the served student is called among the models: an index changes no score."""
        return "student_int8" if self.variant == "int8" else "student"

    @property
    def timed(self) -> str:
        """What it is called among the latencies."""
        return {"float32": "student_onnx", "int8": "student_int8", "indexed": "student_indexed"}[self.variant]

    @property
    def speedup(self) -> str:
        """What the gate's ratio of latencies is called."""
        return f"teacher_onnx_over_{self.timed}"


class Benchmark(Closed):
    repeats: int = Field(300, ge=100, le=100_000)
    """Rounds of requests, in each of which every candidate has its turn, after warm-up."""
    warmup: int = Field(30, ge=1, le=10_000)
    threads: int = Field(1, ge=1, le=256)
    """Of the figures that the gate and the headlines take."""
    batch_sizes: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field((1, 8, 32, 256), min_length=1, max_length=16)
    """Users in a request."""
    seconds: float = Field(4.0, gt=0, le=3600)
    """For each batch size above one and each number of threads; there are fewer rounds if it does not suffice for all,
    but never fewer than ten."""


class Gate(Closed):
    """What a student must show to become the champion. Ratios are paired over the same test users."""

    min_student_over_teacher: float = Field(0.95, ge=0, le=10)
    min_student_over_teacher_low: float = Field(0.85, ge=0, le=10)
    min_change_to_champion: float = Field(-0.01, ge=-1, le=10)
    min_change_to_champion_low: float = Field(-0.10, ge=-1, le=10)
    min_speedup_low: float = Field(2.0, ge=0, le=1000)
    """Lower end of the p50 speed-up over the teacher, both in exported form."""
    above_floors: bool = True


class SceneConfig(Closed):
    """One scene."""

    scene: SceneName
    """Also the registered model's name: ranker-<scene>."""
    data: Annotated[FileData | MovieLensData | SyntheticData, Field(discriminator="source")]
    seed: int = Field(0, ge=0, lt=2**31)
    max_length: int = Field(100, ge=2, le=4096)
    """Positions that teacher and student look at; older history is cut off, in training windowed."""
    loss: Loss = Loss()
    threads: int = Field(2, ge=1, le=256)
    """Of every training; fixed, because sums in another order give another result. Trainings side by side on one
    machine should not have more than its cores together: two of two threads each on two cores were ten times slower."""
    prepare: Prepare = Prepare()
    teach: Teach = Teach()
    search: Search = Search()
    retrain: Retrain = Retrain()
    evaluate: Evaluate = Evaluate()
    serve: Serve = Serve()
    benchmark: Benchmark = Benchmark()
    gate: Gate = Gate()

    @model_validator(mode="after")
    def _order_and_split_need_times(self) -> "SceneConfig":
        if isinstance(self.data, FileData) and self.data.columns.time is None and self.prepare.order == "time":
            raise ConfigError("DR-CONF-005", "prepare: order time needs data.columns.time, which is null")
        days = {name: getattr(self.prepare, name) for name in ("valid_days", "test_days")}
        for name, value in days.items():
            if self.prepare.split != "temporal" and value != Prepare.model_fields[name].default:
                raise ConfigError(
                    "DR-CONF-005", f"prepare: {name} {value} needs split temporal, which is leave-one-out"
                )
        if self.prepare.split == "temporal" and self.prepare.order == "none":
            raise ConfigError("DR-CONF-005", "prepare: split temporal needs order time, which is none")
        return self

    @model_validator(mode="after")
    def _users_are_not_searched_for(self) -> "SceneConfig":
        model, space = self.teach.model, self.search.space
        if self.teach.knows_users and space != "fixed":
            raise ConfigError("DR-CONF-005", f"teach: model {model} needs search.space fixed, which is {space}")
        if model == "neumf" and self.serve.variant == "indexed":
            raise ConfigError("DR-CONF-005", "serve: variant indexed finds inner products, and neumf's scores are none")
        return self

    @model_validator(mode="after")
    def _terms_are_heard(self) -> "SceneConfig":
        if self.teach.knows_users or not self.retrain.terms.weights():
            return self
        named = f"retrain: terms {', '.join(self.retrain.terms.weights())}"
        if self.search.space == "adarec-as-released":
            raise ConfigError(
                "DR-CONF-005", f"{named} need a student that is distilled, as adarec-as-released's is not"
            )
        if self.retrain.distillation.share == 0:
            raise ConfigError("DR-CONF-005", f"{named} count for nothing: retrain.distillation.share is 0")
        return self

    @property
    def students(self) -> str:
        """The family that they are of, a key of FAMILIES."""
        return self.teach.model if self.teach.knows_users else self.search.space


def content_hash(*parts: Any) -> str:
    """sha256 over the canonical JSON of the parts, first 16 digits."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

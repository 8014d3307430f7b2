"""The rows of the tables: which model, which terms, with which weights. Weights hold for sums over batches of 1024."""

from dataclasses import dataclass, field
from typing import Any

from distilrec.core.config import (
    Collaborative,
    DistillationExperts,
    PointwiseRanking,
    RelaxedRanking,
    Terms,
    UserTraining,
)

NUM_LISTED = 500
"""Of the teacher's best unobserved items (DE-RRD code)."""
TEACHER, STUDENT, RRD, DE, DERRD = "teacher", "student", "rrd", "de", "derrd"


@dataclass(frozen=True)
class Recipe:
    base: str
    width: int
    terms: Terms = field(default_factory=Terms)
    training: UserTraining = field(default_factory=UserTraining)

    def described(self) -> dict[str, Any]:
        """All that the training depends on but its data and its teacher."""
        terms = self.terms.model_dump(mode="json")
        return {
            "base": self.base,
            "width": self.width,
            "terms": terms,
            **self.training.model_dump(),
            "listed": NUM_LISTED,
        }


LISTWISE, REBUILT = RelaxedRanking(weight=1e-2), DistillationExperts(weight=1e-4, num_experts=5)
"""For NeuMF. RRD's published weight is 1e-1, on Foursquare; a tenth of it is better here. DE's is the published one;
its experts are the fewest of the paper's grid, because four embeddings have their own."""


def deep(weight: float, temperature: float = 100.0) -> RelaxedRanking:
    """RRD beyond the paper, whose T is at most 20: with 100, half of what it draws is deeper than the list's first 75,
    and a tenth deeper than the first 236."""
    return RelaxedRanking(weight=weight, temperature=temperature, num_interesting=50, num_uninteresting=50)


RECIPES: dict[str, dict[str, Recipe]] = {
    "bpr": {
        TEACHER: Recipe("bpr", 200),
        STUDENT: Recipe("bpr", 20),
        RRD: Recipe("bpr", 20, Terms(rrd=RelaxedRanking())),
        "rrd_deep": Recipe("bpr", 20, Terms(rrd=deep(1e-3))),
        DE: Recipe("bpr", 20, Terms(de=DistillationExperts())),
        DERRD: Recipe("bpr", 20, Terms(de=DistillationExperts(), rrd=RelaxedRanking())),
        "rrd_top": Recipe("bpr", 20, Terms(rrd=RelaxedRanking(interesting="top"))),
        "rd": Recipe("bpr", 20, Terms(rd=PointwiseRanking())),
        "cd": Recipe("bpr", 20, Terms(cd=Collaborative())),
    },
    "neumf": {
        TEACHER: Recipe("neumf", 250, training=UserTraining(weight_decay=1e-5)),
        STUDENT: Recipe("neumf", 25),
        RRD: Recipe("neumf", 25, Terms(rrd=LISTWISE)),
        "rd": Recipe("neumf", 25, Terms(rd=PointwiseRanking())),
        "cd": Recipe("neumf", 25, Terms(cd=Collaborative())),
        DE: Recipe("neumf", 25, Terms(de=REBUILT)),
        DERRD: Recipe("neumf", 25, Terms(de=REBUILT, rrd=LISTWISE)),
        "rrd_top": Recipe("neumf", 25, Terms(rrd=LISTWISE.model_copy(update={"interesting": "top"}))),
        "rrd_deep": Recipe("neumf", 25, Terms(rrd=deep(5e-3))),
        "derrd_deep": Recipe("neumf", 25, Terms(de=REBUILT, rrd=deep(5e-3))),
    },
}
"""phi = 0.1. BPR as released, which is the default; RD and CD were not released and are not tuned. NeuMF's settings
were not released either: those of `TRIED` were not better on validation."""
TRIED = {
    "student, weight decay 0.00001": (STUDENT, Recipe("neumf", 25, training=UserTraining(weight_decay=1e-5))),
    "RRD, T 20 instead of 100": (RRD, Recipe("neumf", 25, Terms(rrd=deep(5e-3, temperature=20.0)))),
    "RRD, weight 0.1": (RRD, Recipe("neumf", 25, Terms(rrd=RelaxedRanking(weight=1e-1)))),
    "teacher, weight decay 0.001": (TEACHER, Recipe("neumf", 250)),
}
"""For NeuMF."""

"""The rows of the tables: which model, which terms, with which weights. Weights hold for sums over batches of 1024."""

from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import BaseModel

from distilrec.core.config import Collaborative, DistillationExperts, PointwiseRanking, RelaxedRanking
from distilrec.core.user_fit import UserTraining

NUM_LISTED = 500
"""Of the teacher's best unobserved items (DE-RRD code)."""
TEACHER, STUDENT, RRD, DE, DERRD = "teacher", "student", "rrd", "de", "derrd"
SETTINGS: dict[str, BaseModel] = {
    "de": DistillationExperts(),
    "rrd": RelaxedRanking(),
    "rrd_top": RelaxedRanking(interesting="top"),
    "rd": PointwiseRanking(),
    "cd": Collaborative(),
}
"""By term; one name after an underscore is a variant of the term before it."""


@dataclass(frozen=True)
class Recipe:
    """Attributes:
    weights: by name of a term's settings.
    """

    base: str
    width: int
    weights: dict[str, float] = field(default_factory=dict)
    training: UserTraining = field(default_factory=UserTraining)

    def described(self) -> dict[str, Any]:
        """All that the training depends on but its data and its teacher."""
        settings = {name: SETTINGS[name].model_dump(mode="json") for name in self.weights}
        return {**asdict(self), "settings": settings, "num_listed": NUM_LISTED}


RECIPES: dict[str, dict[str, Recipe]] = {
    "bpr": {
        TEACHER: Recipe("bpr", 200),
        STUDENT: Recipe("bpr", 20),
        RRD: Recipe("bpr", 20, {"rrd": 1e-3}),
        DE: Recipe("bpr", 20, {"de": 1e-2}),
        DERRD: Recipe("bpr", 20, {"de": 1e-2, "rrd": 1e-3}),
        "rrd_top": Recipe("bpr", 20, {"rrd_top": 1e-3}),
        "rd": Recipe("bpr", 20, {"rd": 1e-1}),
        "cd": Recipe("bpr", 20, {"cd": 1e-3}),
    },
    "neumf": {
        TEACHER: Recipe("neumf", 250),
        STUDENT: Recipe("neumf", 25),
        RRD: Recipe("neumf", 25, {"rrd": 1e-1}),
        DE: Recipe("neumf", 25, {"de": 1e-4}),
        DERRD: Recipe("neumf", 25, {"de": 1e-4, "rrd": 1e-1}),
    },
}
"""phi = 0.1. BPR as released; its weights of RD and CD, which are not published, are of RRD's order of size and not
tuned. NeuMF's weights are the published best ones on Foursquare."""

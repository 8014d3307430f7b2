"""DE-RRD's protocol: the target among 499 negatives, and a stop when no cut-off has improved for 20 epochs.

Shapes: U users, T targets of each, K negatives.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from benchmarks.derrd.split import Split
from distilrec.core.evaluation import rank_users
from distilrec.core.events import Ints
from distilrec.core.factors import UserModel
from distilrec.core.metrics import per_user
from distilrec.core.recommender import ModelScorer

CUTOFFS = (5, 10, 20)
PATIENCE = 20
MAX_EPOCHS = 1000
SCORING_BATCH = 256


def sampled_ranks(model: UserModel, targets_TU: list[Ints], negatives_UK: Tensor) -> Ints:
    """Of each of a user's targets among its negatives, 1 the best, shape (T, U); ties count against it."""
    device, count = model.items.weight.device, len(targets_TU)
    ids = torch.cat([*(torch.from_numpy(targets_U)[:, None] for targets_U in targets_TU), negatives_UK], dim=1)
    ranks: list[Tensor] = []
    model.eval()
    for users in torch.arange(len(ids)).split(SCORING_BATCH):
        with torch.inference_mode():
            scores = _scores(model, users.to(device), ids[users].to(device))
            if not scores.isfinite().all():
                raise ArithmeticError("a score is not a finite number")
            ranks.append(1 + (scores[:, None, count:] >= scores[:, :count, None]).sum(dim=2).cpu())
    return torch.cat(ranks).numpy().T


def _scores(model: UserModel, users_N: Tensor, ids_NK: Tensor) -> Tensor:
    """Shape (N, K). Products with the whole catalogue take half of the time of picking 500 vectors a user."""
    states_NS = model.states(users_N)
    return model.score(states_NS).gather(1, ids_NK) if model.is_inner_product else model.score_of(states_NS, ids_NK)


def whole_ranks(model: UserModel, split: Split) -> Ints:
    """Of every user's test item among all items, those of training and validation removed."""
    return rank_users(ModelScorer(model), split.past, split.test_U).removed


@dataclass
class Best:
    """What early stopping remembers. Each cut-off reports the test ranks of its own best epoch on validation, as the
    authors' logs do; the weights that are kept are those of the best H@5.

    Attributes:
        valid: the best H@N on validation by N.
        epochs: when that was.
        ranks: the test ranks then.
    """

    valid: dict[str, float] = field(default_factory=dict)
    epochs: dict[str, int] = field(default_factory=dict)
    ranks: dict[str, list[int]] = field(default_factory=dict)

    def see(self, epoch: int, model: UserModel, split: Split) -> bool:
        """Judge the model after an epoch. Whether H@5 on validation is the best so far."""
        valid, test = sampled_ranks(model, [split.valid_U, split.test_U], split.negatives_UK)
        hits = {str(cutoff): float(per_user(valid, "hr", cutoff).mean()) for cutoff in CUTOFFS}
        better = [name for name, hit in hits.items() if hit > self.valid.get(name, -1.0)]
        for name in better:
            self.valid[name], self.epochs[name], self.ranks[name] = hits[name], epoch, test.tolist()
        return "5" in better

    def is_over(self, epoch: int) -> bool:
        return epoch >= MAX_EPOCHS or epoch - max(self.epochs.values(), default=epoch) >= PATIENCE


def means_of(ranks: dict[str, list[int]]) -> dict[str, float]:
    """Every metric of the published tables, such as `hr@5`."""
    return {
        f"{metric}@{cutoff}": float(per_user(np.array(of_cutoff), metric, int(cutoff)).mean())
        for cutoff, of_cutoff in ranks.items()
        for metric in ("hr", "mrr", "ndcg")
    }

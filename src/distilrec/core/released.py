"""AdaRec as its public code executes it, faults included, so that the improvement can be measured.

What it restores: operations that see the future, in windows padded on the left; batch statistics; reverse KL, summed
over positions and padding; constant costs of another width and length; one batch for weights and architecture;
distributions that hardly move; the epoch chosen by ranking a noisily drawn architecture; fine-tuning without
distillation, from which the inherited student is kept if it ranks better (adarec.md sections 2 to 4 and 8). Not
restored: the untied output layer, the learning rate that falls in steps, padding beyond the longest window of a batch
in the losses, the choice of epochs by MRR@5 or HR@5, which is by NDCG@10 here, BERT4Rec fine-tuned in both directions,
the other direction of the divergence by which the teacher's layers are weighed, layer weights without a floor, and the
betas of AdamW for the weights.

Shapes: B sequences, L positions, D width, V items, E teacher width, S student layers, T teacher layers.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from distilrec.core.batching import Batch
from distilrec.core.cell import OPERATION, Student, Supernet
from distilrec.core.config import Distillation
from distilrec.core.decisions import Choice, Draw, draw, most_likely
from distilrec.core.distill import LayerDistillation
from distilrec.core.evaluation import Scorer
from distilrec.core.lessons import Distiller, Losses
from distilrec.core.objective import Objective
from distilrec.core.recommender import ModelScorer
from distilrec.core.search import ArchitectureSearch, SearchRecord
from distilrec.core.sequence_model import Layers, SequenceModel
from distilrec.core.snapshot import Snapshot
from distilrec.core.teaching import LiveTeacher
from distilrec.core.transport import transport_loss

GAMMA, BETA = 0.5, 8.0
COST_CONV3, COST_CONV5, COST_POOL, COST_FREE = 0.56531834, 2.12701275, 0.48075444, 0.48074893
COSTS = (*[COST_CONV3] * 3, *[COST_CONV5] * 3, *[COST_POOL] * 2, *[COST_FREE] * 2)
"""Printed by the release: those of 128 wide students on windows of 100, whatever the student is."""
SEARCH = {"learning_rate": 5e-3, "weight_decay": 5e-4, "batch_size": 64, "architecture_data": "training"}
"""And 200 epochs, which are left to the scene: `search.epochs`."""
RETRAIN: dict[str, Any] = {
    "learning_rate": 1e-4,
    "weight_decay": 5e-4,
    "batch_size": 128,
    "start": "inherited",
    "patience": 10_000,
}
"""And 100 epochs, all of them: `retrain.max_epochs`."""
ARCHITECTURE_LEARNING_RATE, ARCHITECTURE_WEIGHT_DECAY = 2e-5, 1e-4


class LeftPadded(SequenceModel):
    """Moves each window to the end of `max_length` positions and its layers back."""

    def forward(self, ids_BL: Tensor) -> Layers:
        length = ids_BL.shape[1]
        ids_BL = F.pad(ids_BL, (0, self.max_length - length), value=self.num_items)
        missing_B1 = (ids_BL == self.num_items).sum(dim=1, keepdim=True)
        here_L = torch.arange(self.max_length, device=ids_BL.device)
        got = super().forward(ids_BL.gather(1, (here_L - missing_B1) % self.max_length))
        back_BL = ((here_L + missing_B1) % self.max_length)[:, :length]

        def moved(x_BLD: Tensor) -> Tensor:
            return x_BLD.gather(1, back_BL[..., None].expand(-1, -1, x_BLD.shape[2]))

        return Layers(moved(got.embedded_BLD), tuple(moved(h_BLD) for h_BLD in got.hidden), moved(got.state_BLD))


class ReleasedSupernet(LeftPadded, Supernet):
    pass


class ReleasedStudent(LeftPadded, Student):
    @property
    def reach(self) -> int:
        """It sees the future, and padding."""
        return self.max_length


class ReleasedDistiller(Distiller):
    """(1 - gamma) * task + gamma * (embedding + hidden + reverse soft), sums over positions and padding."""

    def __init__(self, teacher: LiveTeacher, layers: LayerDistillation, config: Distillation) -> None:
        super().__init__(teacher, layers, config)
        self.model = teacher.model

    def loss(self, model: SequenceModel, batch: Batch, objective: Objective) -> tuple[Tensor, Losses]:
        got = model(batch.inputs_BL)
        task = objective(batch.take(got.state_BLD), model.item_vectors(), batch.take(batch.targets_BL))
        with torch.no_grad():
            taught = self.model(batch.inputs_BL)
            log_teacher_BLV = self.model.score(taught.state_BLD).log_softmax(dim=2)
        soft = _reverse_divergence(model.score(got.state_BLD).log_softmax(dim=2), log_teacher_BLV)
        embedding = F.mse_loss(self.layers.embedding(got.embedded_BLD), taught.embedded_BLD)
        hidden = self._hidden(got, taught)
        total = (1 - GAMMA) * task.total + GAMMA * (embedding + hidden + soft)
        return total, Losses(total.item(), task.task, soft.item(), embedding.item(), hidden.item())

    def _hidden(self, got: Layers, taught: Layers) -> Tensor:
        student = [self.layers.hidden(h_BLD).log_softmax(dim=2) for h_BLD in got.hidden]
        teacher = [h_BLE.log_softmax(dim=2) for h_BLE in taught.hidden]
        distances_ST = torch.stack([torch.stack([_reverse_divergence(s, t) for t in teacher]) for s in student])
        return transport_loss(distances_ST, self.layers.flow(distances_ST.detach().double().numpy()))


def _reverse_divergence(log_student_BLC: Tensor, log_teacher_BLC: Tensor) -> Tensor:
    """KL(student || teacher), summed over positions, over B only."""
    return F.kl_div(log_teacher_BLC, log_student_BLC, reduction="batchmean", log_target=True)


class ReleasedSearch(ArchitectureSearch):
    """One loss and one backward for weights and architecture, on the same training batch."""

    def __init__(self, *given: Any) -> None:
        self.best = -1.0
        self.best_tensors: dict[str, Tensor] = {}
        super().__init__(*given)
        self.architecture_optimiser = torch.optim.AdamW(
            self.logits.values(), lr=ARCHITECTURE_LEARNING_RATE, weight_decay=ARCHITECTURE_WEIGHT_DECAY
        )

    def temperature(self) -> float:
        return float(0.8 ** (self.epoch // 5))

    def choice(self) -> Choice:
        """Of the epoch whose noisy draw ranked best; zero edges and dead cells included."""
        if not self.best_tensors:
            return most_likely(self.logits)
        return most_likely({name: self.best_tensors[f"logits.{name}"] for name in self.logits})

    def weights(self) -> dict[str, Tensor]:
        """Of the same epoch."""
        start = "weights."
        return {name[len(start) :]: t for name, t in self.best_tensors.items() if name.startswith(start)}

    def _record(self, *given: Any) -> SearchRecord:
        record = super()._record(*given)
        if record.valid[self.data.deciding] > self.best:
            self.best = record.valid[self.data.deciding]
            kept = {f"weights.{name}": tensor for name, tensor in self.supernet.state_dict().items()}
            kept |= {f"logits.{name}": rows.detach() for name, rows in self.logits.items()}
            self.best_tensors = {name: tensor.clone() for name, tensor in kept.items()}
        return record

    def snapshot(self) -> Snapshot:
        saved = super().snapshot()
        saved.values["best"] = self.best
        saved.put("best", self.best_tensors)
        return saved

    def restore(self, saved: Snapshot) -> None:
        super().restore(saved)
        self.best = float(saved.values["best"])
        self.best_tensors = saved.get("best")

    def weight_step(self, batch: Batch, temperature: float) -> Losses:
        """Moves both."""
        drawn = draw(self.logits, temperature, self.generator)
        loss, losses = self._loss(drawn, batch)
        assert drawn.mixture is not None
        total = loss + BETA * (drawn.mixture[OPERATION] @ torch.tensor(COSTS)).sum()
        self.weight_optimiser.zero_grad(set_to_none=False)
        self.architecture_optimiser.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        for parameter in self.trained.parameters():
            if parameter.grad is None:  # what was not drawn has the gradient zero there, and decays
                parameter.grad = torch.zeros_like(parameter)
        self.weight_optimiser.step()
        self.architecture_optimiser.step()
        return losses

    def _architecture_is_due(self) -> bool:
        return False

    def _warm_up(self, epochs_done: float) -> None:
        """There is none."""

    def validated(self) -> Scorer:
        with torch.no_grad():
            drawn = draw(self.logits, self.temperature(), self.generator)
        return ModelScorer(self.supernet.select(Draw(drawn.choice)))

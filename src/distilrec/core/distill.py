"""What a student learns from a teacher beside its soft targets: embeddings and hidden states.

Shapes: B sequences, L positions, D student width, E teacher width, N real positions taken together,
S student layers, T teacher layers.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distilrec.core.batching import Batch
from distilrec.core.config import Distillation
from distilrec.core.events import Floats
from distilrec.core.parallel import ALONE, Processes
from distilrec.core.sequence_model import Layers
from distilrec.core.teaching import Taught
from distilrec.core.transport import one_to_one, optimal_flow, reweighted, transport_loss


@dataclass(frozen=True)
class LayerLosses:
    """Both are means over the real positions; the flow says which layer learnt from which."""

    embedding: Tensor
    hidden: Tensor
    flow_ST: Floats


class LayerDistillation(nn.Module):
    """Projections shared by all layers, and the layer weights of the transport (buffers: they are checkpointed).

    Embeddings: mean squared error. Hidden states: earth mover's distance with the ground distance
    D_ij = mean over positions of KL(softmax(teacher_j) || softmax(W student_i)), softmax over channels
    (AdaRec code; the release has the arguments of KL swapped and counts padding).

    A supernet of searched depth shows as many layers as were drawn: row S - 1 of the weights is for S layers.
    """

    student_weight_SS: Tensor
    teacher_weight_ST: Tensor

    def __init__(
        self, width: int, teacher_width: int, num_layers: int, num_teacher_layers: int, config: Distillation
    ) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Linear(width, teacher_width)
        self.hidden = nn.Linear(width, teacher_width)
        alike_SS = torch.ones(num_layers, num_layers, dtype=torch.float64).tril()
        self.register_buffer("student_weight_SS", alike_SS / alike_SS.sum(dim=1, keepdim=True))
        alike_ST = torch.full((num_layers, num_teacher_layers), 1.0 / num_teacher_layers, dtype=torch.float64)
        self.register_buffer("teacher_weight_ST", alike_ST)

    def forward(self, student: Layers, teacher: Taught, batch: Batch, processes: Processes = ALONE) -> LayerLosses:
        embedding = F.mse_loss(self.embedding(batch.take(student.embedded_BLD)), teacher.embedded_NE)
        distances_ST = self._distances([batch.take(h_BLD) for h_BLD in student.hidden], teacher.hidden_TNE)
        flow = self.flow(processes.sum(distances_ST.detach().double() * batch.share).numpy())
        return LayerLosses(embedding, transport_loss(distances_ST, flow), flow)

    def flow(self, costs_ST: Floats) -> Floats:
        """Which layer learns how much from which; in train mode the layer weights follow."""
        num_layers, num_teacher_layers = costs_ST.shape
        if self.config.layers != "transport":
            return one_to_one(self.config.layers, num_layers, num_teacher_layers)
        row = num_layers - 1
        weights = (self.student_weight_SS[row, :num_layers], self.teacher_weight_ST[row])
        flow = optimal_flow(costs_ST, weights[0].numpy(), weights[1].numpy())
        if self.training and self.config.layer_weights == "adaptive":
            moved_ST = flow * np.maximum(costs_ST, 0.0)
            for weight, moved in zip(weights, (moved_ST.sum(axis=1), moved_ST.sum(axis=0)), strict=True):
                temperature = self.config.layer_temperature
                weight.copy_(torch.from_numpy(reweighted(moved, weight.numpy().copy(), temperature)))
        return flow

    def _distances(self, student: list[Tensor], teacher_TNE: Tensor) -> Tensor:
        log_student = torch.stack([self.hidden(h_ND).log_softmax(dim=1).flatten() for h_ND in student])
        log_teacher_TNE = teacher_TNE.log_softmax(dim=2)
        probability = log_teacher_TNE.exp()
        num_positions = log_teacher_TNE.shape[1]
        minus_entropy_T = (probability * log_teacher_TNE).sum(dim=(1, 2))
        cross_ST = log_student @ probability.flatten(1).T
        return (minus_entropy_T - cross_ST) / num_positions

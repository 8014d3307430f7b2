"""Which next-item loss a training minimises: chosen by config, by default from the size of the catalogue."""

import torch
from torch import Tensor

from distilrec.core.config import Loss
from distilrec.core.sampled import Sampling, sampled_loss
from distilrec.core.softmax import NextItemLoss, SoftTargets, softmax_loss


class Objective:
    """Of the states (N, D), the item vectors (V, D) and the targets (N,). The training loop seeds `generator`."""

    def __init__(self, config: Loss, num_items: int) -> None:
        self.generator = torch.Generator()
        kind = config.kind_for(num_items)
        calibration = config.calibration if kind == "gbce" else None
        negatives = min(config.num_negatives, num_items)
        self._sampling = None if kind == "softmax" else Sampling(negatives, calibration, self.generator)

    def __call__(
        self,
        states_ND: Tensor,
        vectors_VD: Tensor,
        targets_N: Tensor,
        teacher: SoftTargets | None = None,
        teacher_share: float = 0.0,
    ) -> NextItemLoss:
        if self._sampling is None:
            return softmax_loss(states_ND, vectors_VD, targets_N, teacher, teacher_share)
        return sampled_loss(states_ND, vectors_VD, targets_N, self._sampling, teacher, teacher_share)

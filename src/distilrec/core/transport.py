"""The exact earth mover's distance between student and teacher layers, with cost attention.

    min over F of sum_ij F_ij D_ij,  F >= 0,  sum_j F_ij = w_i (student),  sum_i F_ij = w_j (teacher)

After every step a layer that is cheap to move gets more weight (BERT-EMD, arXiv 2010.06133):

    u_i = sum_j F_ij D_ij / w_i,   v_i = sum_k u_k / u_i,   w = softmax(v / temperature)

Shapes: S student layers, T teacher layers.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distilrec.core.events import Floats

SMALLEST = 1e-6  # below it a weight or a unit cost counts as this much, so that no quotient overflows


def optimal_flow(distances_ST: Floats, student_S: Floats, teacher_T: Floats) -> Floats:
    """The cheapest flow, shape (S, T), solved exactly by network simplex (POT's `ot.emd`)."""
    import ot  # here, because importing it takes seconds and only search and retrain need it

    flow: NDArray[np.float64] = ot.emd(student_S / student_S.sum(), teacher_T / teacher_T.sum(), distances_ST)
    return flow


def one_to_one(mapping: str, num_layers: int, num_teacher_layers: int) -> Floats:
    """The flow of a fixed mapping (AdaRec code, its ablations): each student layer learns from one teacher layer.

    left: the first teacher layers. right: the last. left-jump, right-jump: evenly spaced, with the first or the last.
    Where there are more student than teacher layers, several learn from the same one.
    """
    layers = np.arange(num_layers)
    last = num_teacher_layers - 1
    taught_by = {
        "left": layers,
        "right": layers + num_teacher_layers - num_layers,
        "left-jump": layers * num_teacher_layers // num_layers,
        "right-jump": (layers + 1) * num_teacher_layers // num_layers - 1,
    }[mapping]
    flow = np.zeros((num_layers, num_teacher_layers))
    flow[layers, np.clip(taught_by, 0, last)] = 1.0 / num_layers
    return flow


def transport_loss(distances_ST: Tensor, flow_ST: Floats) -> Tensor:
    """sum F D, differentiable in D; its gradient is the flow (envelope theorem), which is not differentiated."""
    return (torch.as_tensor(flow_ST, dtype=distances_ST.dtype) * distances_ST).sum()


def reweighted(moved_cost_L: Floats, weights_L: Floats, temperature: float) -> Floats:
    """New layer weights from what each layer's mass cost to move; finite, positive, sum 1 at any temperature."""
    unit_L = np.maximum(moved_cost_L / np.maximum(weights_L, SMALLEST), SMALLEST)
    attraction_L = unit_L.sum() / unit_L / temperature
    powers_L = np.exp(attraction_L - attraction_L.max())
    floored_L = np.maximum(powers_L / powers_L.sum(), SMALLEST)
    result: Floats = floored_L / floored_L.sum()
    return result

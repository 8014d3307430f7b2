"""What a model costs: parameters and multiply-adds, counted from its definition.

Multiply-adds are those of one full sequence of the model's length, ids to last state: convolutions, linear
layers and both products of attention (the whole L x L square, which is what is computed). Embedding look-up
has none; scoring the catalogue is listed apart. Checked against torch's own counter.

Shapes: E edges, O operations.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from distilrec.core.cell import Student
from distilrec.core.nextitnet import DilatedConv, NextItNet
from distilrec.core.operations import OPERATIONS, Operation
from distilrec.core.sasrec import SASRec
from distilrec.core.sequence_model import SequenceModel


@dataclass(frozen=True)
class ModelCost:
    """Attributes:
    encoder_params: parameters without item and position embeddings.
    embedding_params: those of the embeddings (shared by input and output).
    encoder_macs: multiply-adds of one full sequence, ids to last state.
    scoring_macs: multiply-adds of scoring the whole catalogue from one state.
    """

    encoder_params: int
    embedding_params: int
    encoder_macs: int
    scoring_macs: int


def count_params(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def model_cost(model: SequenceModel) -> ModelCost:
    """Raises TypeError for a model without a counter."""
    embedding_params = count_params(model.items) + (count_params(model.positions) if model.positions else 0)
    return ModelCost(
        encoder_params=count_params(model) - embedding_params,
        embedding_params=embedding_params,
        encoder_macs=model.max_length * _macs_per_position(model),
        scoring_macs=model.num_items * model.width,
    )


def _macs_per_position(model: SequenceModel) -> int:
    if isinstance(model, SASRec):
        return len(model.stack) * (12 * model.width**2 + 2 * model.max_length * model.width)
    if isinstance(model, NextItNet):
        return sum(module.linear.weight.numel() for module in model.modules() if isinstance(module, DilatedConv))
    if isinstance(model, Student):
        return sum(module.macs_per_position() for module in model.modules() if isinstance(module, Operation))
    raise TypeError(f"no counter of multiply-adds for {type(model).__name__}")


@dataclass(frozen=True)
class OperationCost:
    params: int
    macs: int


def operation_costs(width: int, max_length: int) -> dict[str, OperationCost]:
    """Cost of each operation at the student's own width and length."""
    built = {name: make(width) for name, make in OPERATIONS.items()}
    return {name: OperationCost(count_params(op), op.macs_per_position() * max_length) for name, op in built.items()}


def relative_costs(costs: dict[str, OperationCost]) -> Tensor:
    """The mean of the shares of the largest parameters and multiply-adds: in [0, 1], shape (O,)."""
    most_params = max(cost.params for cost in costs.values())
    most_macs = max(cost.macs for cost in costs.values())
    return torch.tensor([(cost.params / most_params + cost.macs / most_macs) / 2 for cost in costs.values()])


def expected_cost(probability_EO: Tensor, relative_O: Tensor) -> Tensor:
    """Expected cost of a cell over that of the dearest cell: in [0, 1], differentiable."""
    return (probability_EO @ relative_O).mean() / relative_O.max()

"""What a model costs: parameters and multiply-adds, counted from its definition.

Multiply-adds are those of one full sequence of the model's length, ids to last state: convolutions, linear
layers and both products of attention (the whole L x L square, which is what is computed). Embedding look-up
has none; scoring the catalogue is listed apart. Checked against torch's own counter.

Shapes: E edges, O operations.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from distilrec.core.operations import OPERATIONS
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
    embedding_params = sum(count_params(module) for module in model.modules() if isinstance(module, nn.Embedding))
    return ModelCost(
        encoder_params=count_params(model) - embedding_params,
        embedding_params=embedding_params,
        encoder_macs=model.max_length * model.macs_per_position(),
        scoring_macs=model.num_items * model.width,
    )


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

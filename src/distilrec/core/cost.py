"""What a model costs: parameters and multiply-adds, counted from its definition. What a choice will cost, predicted
before it is built, each space knows: cell_costs.py, transformer_costs.py.

Multiply-adds are those of one full sequence of the model's length, ids to last state: convolutions, linear
layers and both products of attention (the whole L x L square, which is what is computed). Embedding look-up
has none; scoring the catalogue is listed apart. Checked against torch's own counter.
"""

from dataclasses import dataclass

from torch import nn

from distilrec.core.recommender import Recommender

PARAMS, MACS = "params", "macs"


@dataclass(frozen=True)
class ModelCost:
    """Attributes:
    encoder_params: parameters without embeddings.
    embedding_params: those of the embeddings, of items, positions and users (items' are shared by input and output).
    encoder_macs: multiply-adds of one full sequence, ids to last state; none of a user's, which is looked up.
    scoring_macs: multiply-adds of scoring the whole catalogue from one state.
    """

    encoder_params: int
    embedding_params: int
    encoder_macs: int
    scoring_macs: int


def count_params(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def model_cost(model: Recommender) -> ModelCost:
    embedding_params = sum(count_params(module) for module in model.modules() if isinstance(module, nn.Embedding))
    return ModelCost(
        encoder_params=count_params(model) - embedding_params,
        embedding_params=embedding_params,
        encoder_macs=model.macs_of_context(),
        scoring_macs=model.macs_of_scoring(),
    )

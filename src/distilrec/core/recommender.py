"""What every model is to evaluation, export, benchmark and serving, teacher or student: a context leads to a state, and
a state scores the catalogue.

Shapes: B contexts, L the longest context, S width of a state, V items, N states taken together.
"""

from abc import ABC, abstractmethod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from distilrec.core.contexts import HISTORIES, contexts_of
from distilrec.core.events import Ints, Sequences


class Recommender(nn.Module, ABC):
    """Attributes:
    width: of a representation.
    max_length: of a context.
    asked_with: a key of CONTEXTS.
    is_inner_product: whether a score is the product of the state and the item's vector, and nothing else.
    """

    num_items: int
    width: int
    max_length: int
    asked_with: str = HISTORIES
    is_inner_product = True

    @abstractmethod
    def initialise(self, generator: torch.Generator) -> None:
        """New weights."""

    @abstractmethod
    def item_vectors(self) -> Tensor:
        """Shape (V, S)."""

    @abstractmethod
    def state_after(self, ids_BL: Tensor, lengths_B: Tensor) -> Tensor:
        """The states (B, S) of contexts. L is max_length."""

    def score(self, states_NS: Tensor) -> Tensor:
        """Logits of shape (N, V)."""
        return states_NS @ self.item_vectors().T

    def score_at_once(self, states_NS: Tensor) -> Tensor:
        """As `score`, however much memory it takes: what is exported."""
        return self.score(states_NS)

    def score_next(self, ids_BL: Tensor, lengths_B: Tensor) -> Tensor:
        """Logits of shape (B, V), of contexts of any length."""
        return self.score(self.state_after(ids_BL, lengths_B))

    @property
    def state_width(self) -> int:
        return self.width

    @property
    @abstractmethod
    def reach(self) -> int:
        """How many of the newest places of a context a state depends on."""

    @abstractmethod
    def macs_to_state(self) -> int:
        """Multiply-adds of one `state_after`."""

    @abstractmethod
    def macs_of_context(self) -> int:
        """Multiply-adds of a context of full length, to its last state."""

    def macs_of_scoring(self) -> int:
        """Multiply-adds from one state to the scores of the catalogue; what depends on the items alone is ready."""
        return self.num_items * self.state_width

    def params_to_state(self) -> int:
        """Those that `state_after` reads, without embeddings."""
        in_tables = {id(module.weight) for module in self.modules() if isinstance(module, nn.Embedding)}
        return sum(parameter.numel() for parameter in self.parameters() if id(parameter) not in in_tables)


class ModelScorer:
    """A model in eval mode."""

    def __init__(self, model: Recommender) -> None:
        self.model = model.eval()

    def score(self, sequences: Sequences, users: Ints) -> NDArray[np.float32]:
        """Shape (B, V)."""
        device = next(self.model.parameters()).device
        ids_BL, lengths_B = contexts_of(self.model, sequences, users)
        with torch.inference_mode():
            scores_BV = self.model.score_next(
                torch.from_numpy(ids_BL).to(device), torch.from_numpy(lengths_B).to(device)
            )
        scores: NDArray[np.float32] = scores_BV.cpu().numpy()
        return scores

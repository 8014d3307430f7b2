"""What every teacher and student is: a causal map from a sequence of items to a state per position.

Shapes: B sequences, L positions, D width, V items (no padding column), N positions taken together.
The padding id is V, the last row of the item embedding, which stays zero.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from distilrec.core.dropout import Dropout
from distilrec.core.recommender import Recommender


@dataclass(frozen=True)
class Layers:
    """All that distillation looks at. Every tensor has shape (B, L, D).

    Attributes:
        embedded_BLD: item plus position embedding, if the model has positions.
        hidden: the output of each block or cell, first to last.
        state_BLD: the state *after* position t, from which the item at t + 1 is scored.
    """

    embedded_BLD: Tensor
    hidden: tuple[Tensor, ...]
    state_BLD: Tensor


class SequenceModel(Recommender):
    """Embeddings shared between input and output; a subclass puts its `layers` between, and may `finish` the last.

    Positions are counted from the beginning of the window, as in training, so a short history is scored
    the same whatever padding stands behind it.
    """

    norm: nn.Module

    def __init__(self, num_items: int, width: int, max_length: int, dropout: Dropout, num_positions: int) -> None:
        """Without positions, `num_positions` is 0."""
        super().__init__()
        self.num_items = num_items
        self.width = width
        self.max_length = max_length
        self.items = nn.Embedding(num_items + 1, width, padding_idx=num_items)
        self.positions = nn.Embedding(num_positions, width) if num_positions else None
        self.dropout = dropout
        self.layers = nn.ModuleList()

    def initialise(self, generator: torch.Generator) -> None:
        initialise(self, generator)

    def finish(self, hidden_BLD: Tensor) -> Tensor:
        """From the last layer's output to the state: the teachers' last `norm`; cells are normalised inside."""
        normed_BLD: Tensor = self.norm(hidden_BLD)
        return normed_BLD

    @property
    def num_layers(self) -> int:
        """How many hidden layers distillation sees."""
        return len(self.layers)

    @abstractmethod
    def macs_per_position(self) -> int:
        """Multiply-adds between embedding and state, for one position of a sequence of the model's length."""

    def embed(self, ids_BL: Tensor) -> Tensor:
        return self.placed(self.items(ids_BL))

    def placed(self, items_BLD: Tensor, places_BL: Tensor | None = None) -> Tensor:
        """With the positions added: by default those from the first on."""
        if self.positions is not None:
            here = self.positions.weight[: items_BLD.shape[1]] if places_BL is None else self.positions(places_BL)
            items_BLD = items_BLD + here
        dropped_BLD: Tensor = self.dropout(items_BLD)
        return dropped_BLD

    def forward(self, ids_BL: Tensor) -> Layers:
        return self.run(self.embed(ids_BL), self.layers)

    def run(self, embedded_BLD: Tensor, layers: Iterable[Callable[[Tensor], Tensor]]) -> Layers:
        """One layer after the other."""
        hidden = [embedded_BLD]
        for layer in layers:
            hidden.append(layer(hidden[-1]))
        return Layers(embedded_BLD, tuple(hidden[1:]), self.finish(hidden[-1]))

    def item_vectors(self) -> Tensor:
        """Shape (V, D)."""
        return self.items.weight[:-1]

    def score_next(self, ids_BL: Tensor, lengths_B: Tensor) -> Tensor:
        """Logits of shape (B, V) for the item after the last real position of each sequence."""
        return self.score(at_positions(self(ids_BL).state_BLD, lengths_B - 1))

    @property
    def reach(self) -> int:
        """How many of the newest positions a state depends on: all, unless a subclass sees less."""
        return self.max_length

    def macs_to_state(self) -> int:
        return self.reach * self.macs_per_position()

    def macs_of_context(self) -> int:
        return self.max_length * self.macs_per_position()

    def state_after(self, ids_BL: Tensor, lengths_B: Tensor) -> Tensor:
        """The states (B, D) that `score_next` scores, computed from the positions in reach alone. L is max_length."""
        if self.reach >= self.max_length:
            return at_positions(self(ids_BL).state_BLD, lengths_B - 1)
        first_B = (lengths_B - self.reach).clamp_min(0)
        places_BL = first_B[:, None] + torch.arange(self.reach, device=ids_BL.device)
        embedded_BLD = self.placed(self.items(ids_BL.gather(1, places_BL)), places_BL)
        return at_positions(self.run(embedded_BLD, self.layers).state_BLD, lengths_B - 1 - first_B)


def at_positions(states_BLD: Tensor, positions_B: Tensor) -> Tensor:
    """One state of each sequence, shape (B, D)."""
    here_B1D = positions_B[:, None, None].expand(-1, 1, states_BLD.shape[2])
    return states_BLD.gather(1, here_B1D).squeeze(1)


def initialise(model: nn.Module, generator: torch.Generator) -> None:
    """Draw every matrix from N(0, 0.02), the output layers of GPT-2's recipe; vectors keep their defaults.

    Normalisations start as the identity, biases at zero, the padding row at zero.
    """
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.02, generator=generator)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
    for module in model.modules():
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            with torch.no_grad():
                module.weight[module.padding_idx] = 0.0

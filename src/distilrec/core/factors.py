"""Models of scenes without order: a user is an embedding, not a history. Only users seen in training can be ranked for.

They share with the sequential models what ranking needs (recommender.py): here a context is a user's number.

Shapes: N users, V items, K items of each user, D width, S width of a state.
"""

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distilrec.core.contexts import USERS
from distilrec.core.dots import dots
from distilrec.core.recommender import Recommender

TILE_ELEMENTS = 1_000_000
"""Of the hidden layer when NeuMF scores many items: what a core's cache holds."""


class UserModel(Recommender):
    """Users' states and items' vectors of one width S, made of `num_parts` representations of width D each."""

    max_length = 1
    asked_with = USERS
    reach = 1
    num_parts: int

    def __init__(self, num_users: int, num_items: int, width: int) -> None:
        super().__init__()
        self.num_users, self.num_items, self.width = num_users, num_items, width
        self.users = nn.Embedding(num_users, self.num_parts * width)
        self.items = nn.Embedding(num_items, self.num_parts * width)

    def initialise(self, generator: torch.Generator) -> None:
        """Embeddings from N(0, 0.01) (DE-RRD code)."""
        for table in (self.users, self.items):
            nn.init.normal_(table.weight, std=0.01, generator=generator)

    def state_after(self, ids_BL: Tensor, lengths_B: Tensor) -> Tensor:  # noqa: ARG002
        return self.states(ids_BL[:, 0])

    def states(self, users_N: Tensor) -> Tensor:
        """Shape (N, S)."""
        states_NS: Tensor = self.users(users_N)
        return states_NS

    def parts(self, vectors: Tensor) -> tuple[Tensor, ...]:
        """The representations in states or item vectors, each (N, D): what distillation experts rebuild."""
        return torch.split(vectors, self.width, dim=-1)

    def item_vectors(self) -> Tensor:
        """Shape (V, S)."""
        vectors_VS: Tensor = self.items.weight
        return vectors_VS

    @property
    def state_width(self) -> int:
        return self.num_parts * self.width

    def macs_to_state(self) -> int:
        return 0

    def macs_of_context(self) -> int:
        return 0

    def params_to_state(self) -> int:
        """A state is looked up; NeuMF's layers score."""
        return 0

    @abstractmethod
    def score_of(self, states_NS: Tensor, ids_NK: Tensor) -> Tensor:
        """Logits of some items of each state, shape (N, K)."""

    @abstractmethod
    def loss(self, users_N: Tensor, positives_N: Tensor, negatives_N: Tensor) -> Tensor:
        """Summed over N observed pairs, each with an item that was not observed."""


class BPR(UserModel):
    """Matrix factorisation without biases, trained pairwise (Rendle et al. 2009)."""

    num_parts = 1

    def score_of(self, states_NS: Tensor, ids_NK: Tensor) -> Tensor:
        return dots(states_NS, self.items.weight, ids_NK)

    def loss(self, users_N: Tensor, positives_N: Tensor, negatives_N: Tensor) -> Tensor:
        """-sum log sigmoid(positive - negative)."""
        apart_NS = self.items(positives_N) - self.items(negatives_N)
        return F.softplus(-(self.states(users_N) * apart_NS).sum(dim=1)).sum()


class NeuMF(UserModel):
    """Products of one pair of embeddings beside one hidden layer on another pair (He et al. 2017); as in DE-RRD's
    tables the hidden layer leads from 2 D to D, and there is no pre-training."""

    num_parts = 2
    is_inner_product = False

    def __init__(self, num_users: int, num_items: int, width: int) -> None:
        super().__init__(num_users, num_items, width)
        self.hidden = nn.Linear(2 * width, width)
        self.out = nn.Linear(2 * width, 1)

    def initialise(self, generator: torch.Generator) -> None:
        """The layers uniformly (Glorot & Bengio 2010), biases zero."""
        super().initialise(generator)
        for layer in (self.hidden, self.out):
            nn.init.xavier_uniform_(layer.weight, generator=generator)
            nn.init.zeros_(layer.bias)

    def score(self, states_NS: Tensor) -> Tensor:
        columns = max(1, min(self.num_items, TILE_ELEMENTS // self.width))
        rows = max(1, TILE_ELEMENTS // (columns * self.width))
        product_ND, hidden_ND = self._of_users(states_NS)
        product_VD, hidden_VD = self._ready(self.items.weight)
        tiles = torch.split(hidden_VD, columns)
        matched = [
            torch.cat([self._through_hidden(chunk_ND[:, None], tile) for tile in tiles], dim=1)
            for chunk_ND in torch.split(hidden_ND, rows)
        ]
        logits_NV: Tensor = product_ND @ product_VD.T + torch.cat(matched)
        return logits_NV

    def score_at_once(self, states_NS: Tensor) -> Tensor:
        return self._match(states_NS[:, None], self._ready(self.items.weight[None]))

    def macs_of_scoring(self) -> int:
        return self.width**2 + 2 * self.num_items * self.width

    def score_of(self, states_NS: Tensor, ids_NK: Tensor) -> Tensor:
        """In tiles, unless a gradient is wanted: each tile would have one of the whole tables."""
        if ids_NK.numel() < self.num_items:
            return self._match(states_NS[:, None], self._ready(self.items(ids_NK)))
        product_VD, hidden_VD = self._ready(self.items.weight)
        rows = len(ids_NK) if torch.is_grad_enabled() else max(1, TILE_ELEMENTS // (ids_NK.shape[1] * self.width))
        tiles = zip(torch.split(states_NS[:, None], rows), torch.split(ids_NK, rows), strict=True)
        matched = [
            self._match(chunk, (F.embedding(ids, product_VD), F.embedding(ids, hidden_VD))) for chunk, ids in tiles
        ]
        return torch.cat(matched)

    def loss(self, users_N: Tensor, positives_N: Tensor, negatives_N: Tensor) -> Tensor:
        """Binary cross-entropy: the positives are one, the negatives zero."""
        logits_N2 = self.score_of(self.states(users_N), torch.stack([positives_N, negatives_N], dim=1))
        return F.softplus(-logits_N2[:, 0]).sum() + F.softplus(logits_N2[:, 1]).sum()

    def _ready(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Items' factors of the product, and their half of the hidden layer before it meets the users'."""
        product, hidden = self.parts(vectors)
        return product, F.linear(hidden, self.hidden.weight[:, self.width :])

    def _of_users(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """The same of the users, their factors with the weights of the last layer."""
        product, hidden = self.parts(states)
        on_hidden = F.linear(hidden, self.hidden.weight[:, : self.width], self.hidden.bias)
        return product * self.out.weight[0, : self.width], on_hidden

    def _through_hidden(self, users: Tensor, items: Tensor) -> Tensor:
        """What the hidden layer adds to logits, and the bias; shape (N, K), from (N, 1, D) and (N or 1, K, D)."""
        added: Tensor = (users + items).relu_() @ self.out.weight[0, self.width :] + self.out.bias
        return added

    def _match(self, states: Tensor, items: tuple[Tensor, Tensor]) -> Tensor:
        """Logits of shape (N, K), from (N, 1, S) and items of shape (N or 1, K, D)."""
        product, hidden = self._of_users(states)
        logits: Tensor = (product @ items[0].transpose(1, 2)).squeeze(1)
        return logits + self._through_hidden(hidden, items[1])


USER_MODELS: dict[str, type[UserModel]] = {"bpr": BPR, "neumf": NeuMF}

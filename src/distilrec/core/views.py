"""What distillation terms see of the two kinds of model.

Shapes: N contexts, I items, K items of each context, D width, V items.
"""

from functools import cached_property

from torch import Tensor

from distilrec.core.dots import dots
from distilrec.core.factors import UserModel
from distilrec.core.terms import Sizes


class UserView:
    """Some users of a model."""

    def __init__(self, model: UserModel, users_N: Tensor) -> None:
        self.model, self.users_N = model, users_N

    @cached_property
    def _states(self) -> Tensor:
        return self.model.states(self.users_N)

    def contexts(self) -> tuple[Tensor, ...]:
        return self.model.parts(self._states)

    def items(self, ids_I: Tensor) -> tuple[Tensor, ...]:
        return self.model.parts(self.model.items(ids_I))

    def scores(self, ids_NK: Tensor) -> Tensor:
        return self.model.score_of(self._states, ids_NK)


class StateView:
    """The states (N, D) of a sequential model, and its item vectors (V, D)."""

    def __init__(self, states_ND: Tensor, vectors_VD: Tensor) -> None:
        self.states_ND, self.vectors_VD = states_ND, vectors_VD

    def contexts(self) -> tuple[Tensor, ...]:
        return (self.states_ND,)

    def items(self, ids_I: Tensor) -> tuple[Tensor, ...]:
        return (self.vectors_VD[ids_I],)

    def scores(self, ids_NK: Tensor) -> Tensor:
        return dots(self.states_ND, self.vectors_VD, ids_NK)


def sizes_of_users(student: UserModel, teacher: UserModel, num_epochs: int) -> Sizes:
    """Of two models of one kind."""
    assert type(student) is type(teacher), "representations of different kinds do not pair up"
    widths = ((student.width, teacher.width),) * student.num_parts
    return Sizes(widths, widths, student.num_items, num_epochs)

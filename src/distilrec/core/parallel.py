"""One training in several processes, each with its part of every batch (torchrun starts them)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distilrec.core.events import Ints

if TYPE_CHECKING:  # steps that train nothing hold this class too, and start without torch
    from torch import Tensor
    from torch.nn import Parameter


@dataclass(frozen=True)
class Processes:
    """This process and how many there are. All hold the same weights; gradients are summed before each step.

    Whatever all processes must agree on is drawn from a generator that they share; masks of dropout and
    negatives are drawn from generators seeded by process.

    Attributes:
        add_up: replaces a tensor by its sum over all processes, in place.
    """

    rank: int = 0
    count: int = 1
    add_up: Callable[["Tensor"], object] = lambda _: None

    @property
    def content(self) -> tuple[str, ...]:
        """What a result depends on beside settings and data: masks and negatives are another draw."""
        return (f"{self.count} processes",) if self.count > 1 else ()

    def part(self, rows: Ints) -> Ints:
        """This process's rows of a batch. With fewer rows than processes some have the first, at no weight."""
        return rows[self.rank :: self.count]

    def sum(self, tensor: "Tensor") -> "Tensor":
        """The same on every process. In place."""
        self.add_up(tensor)
        return tensor

    def sum_gradients(self, parameters: Iterable["Parameter"]) -> None:
        """Every process must have used the same parameters."""
        if self.count == 1:
            return
        from torch.nn.utils import parameters_to_vector, vector_to_parameters

        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        vector_to_parameters(self.sum(parameters_to_vector(gradients)), gradients)


ALONE = Processes()

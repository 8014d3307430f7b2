"""Drawing items from a teacher's ranking: some of its best ones by rank, some of all the others alike.

Nothing here loops over users, and no list of "all the other items" is ever made: the j-th item that is not excluded
is found by counting the excluded ones before it.

Shapes: N rows (users, or positions of sequences), C items that the teacher lists, V items, K interesting and
L uninteresting items that are drawn, P excluded pairs of row and item.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

NONE = -1
"""Stands where a row has fewer items than asked for."""


@dataclass(frozen=True)
class Law:
    """How a term draws.

    Attributes:
        temperature: T of p_k ~ exp(-k / T) over the ranks k (Kang et al. 2020); None takes the first ones unsampled,
            which the authors later found better.
        is_below_list: whether the uninteresting items are those that the teacher does not list; else any unseen ones.
        is_scored: whether the teacher's scores of the interesting items are wanted too.
    """

    num_interesting: int
    num_uninteresting: int
    temperature: float | None
    is_below_list: bool = True
    is_scored: bool = False


@dataclass(frozen=True)
class Drawn:
    """Item ids, `NONE` at the end of rows that have fewer.

    Attributes:
        interesting_NK: in the teacher's order, best first.
        ranks_NK: their ranks with the teacher, from 0.
        uninteresting_NL: in no order.
        scores_NK: the teacher's of the interesting ones, where the law wants them; anything where there is none.
    """

    interesting_NK: Tensor
    ranks_NK: Tensor
    uninteresting_NL: Tensor
    scores_NK: Tensor | None = None

    def of(self, rows: Tensor) -> "Drawn":
        scores_NK = None if self.scores_NK is None else self.scores_NK[rows]
        return Drawn(self.interesting_NK[rows], self.ranks_NK[rows], self.uninteresting_NL[rows], scores_NK)


@dataclass(frozen=True)
class Allowed:
    """The items of each row that are not excluded.

    Attributes:
        keys_P: row * (V + 1) + (item - how many excluded ones precede it), ascending.
        starts_N: the first key of each row.
        counts_N: how many items are allowed.
    """

    keys_P: Tensor
    starts_N: Tensor
    counts_N: Tensor
    num_items: int

    @classmethod
    def excluding(cls, rows_P: Tensor, items_P: Tensor, num_rows: int, num_items: int) -> "Allowed":
        """Pairs in any order, also twice."""
        pairs_P = torch.unique(rows_P * num_items + items_P)
        rows_P, items_P = pairs_P // num_items, pairs_P % num_items
        sizes_N = torch.bincount(rows_P, minlength=num_rows)
        starts_N = sizes_N.cumsum(0) - sizes_N
        before_P = torch.arange(len(rows_P), device=rows_P.device) - starts_N[rows_P]
        return cls(rows_P * (num_items + 1) + items_P - before_P, starts_N, num_items - sizes_N, num_items)

    @classmethod
    def joined(cls, parts: Sequence["Allowed"]) -> "Allowed":
        """The rows of one after those of the other."""
        num_items, first_row, first_key = parts[0].num_items, 0, 0
        keys, starts = [], []
        for part in parts:
            keys.append(part.keys_P + first_row * (num_items + 1))
            starts.append(part.starts_N + first_key)
            first_row, first_key = first_row + len(part.counts_N), first_key + len(part.keys_P)
        return cls(torch.cat(keys), torch.cat(starts), torch.cat([part.counts_N for part in parts]), num_items)

    def nth(self, rows: Tensor, places: Tensor) -> Tensor:
        """The item at each place, from 0, among those allowed to its row; both of one shape."""
        before = torch.searchsorted(self.keys_P, rows * (self.num_items + 1) + places, right=True)
        return places + before - self.starts_N[rows]

    def one_each(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """A uniform item for each of the rows, which may repeat."""
        return self.nth(rows, _below(self.counts_N[rows], generator))

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Of every row `count` different items, uniformly; shape (N, count), with `NONE` where there are fewer."""
        places = distinct(self.counts_N, count, generator)
        rows = torch.arange(len(places), device=places.device)[:, None].expand_as(places)
        return torch.where(places == NONE, NONE, self.nth(rows, places.clamp_min(0)))


@dataclass(frozen=True)
class TeacherRanking:
    """Attributes:
    ranked_NC: the teacher's best items, without those observed; `NONE` at the end.
    unseen: not observed.
    others: neither observed nor listed.
    """

    ranked_NC: Tensor
    unseen: Allowed
    others: Allowed

    @classmethod
    def of(cls, ranked_NC: Tensor, seen_rows_P: Tensor, seen_items_P: Tensor, num_items: int) -> "TeacherRanking":
        """Of what a row has not seen at most half is listed, the best: the others are what a term ranks it above."""
        unseen = Allowed.excluding(seen_rows_P, seen_items_P, len(ranked_NC), num_items)
        most_N = (unseen.counts_N + 1) // 2
        is_listed_C = torch.arange(ranked_NC.shape[1], device=ranked_NC.device)
        ranked_NC = ranked_NC.masked_fill(is_listed_C >= most_N[:, None], NONE)
        rows, places = torch.nonzero(ranked_NC != NONE, as_tuple=True)
        all_rows = torch.cat([seen_rows_P, rows])
        all_items = torch.cat([seen_items_P, ranked_NC[rows, places]])
        return cls(ranked_NC, unseen, Allowed.excluding(all_rows, all_items, len(ranked_NC), num_items))

    @classmethod
    def joined(cls, parts: Sequence["TeacherRanking"]) -> "TeacherRanking":
        """The rows of one after those of the other."""
        unseen, others = ([part.unseen for part in parts], [part.others for part in parts])
        return cls(torch.cat([part.ranked_NC for part in parts]), Allowed.joined(unseen), Allowed.joined(others))

    def draw(self, law: Law, generator: torch.Generator) -> Drawn:
        """Of every row."""
        ranks_NK = ranks_of(self.ranked_NC != NONE, law, generator)
        drawn_from = self.others if law.is_below_list else self.unseen
        uninteresting_NL = drawn_from.draw(law.num_uninteresting, generator)
        return Drawn(self.ranked_NC.gather(1, ranks_NK), ranks_NK, uninteresting_NL)


def ranks_of(is_listed_NC: Tensor, law: Law, generator: torch.Generator) -> Tensor:
    """Different ranks for each row, ascending, shape (N, K): drawn one after the other with p_k ~ exp(-k / T).

    The largest K of log p_k plus Gumbel noise have exactly that law, and nothing underflows.
    """
    num_rows, num_listed = is_listed_NC.shape
    count = min(law.num_interesting, num_listed)
    ranks_C = torch.arange(num_listed, device=is_listed_NC.device)
    if law.temperature is None:
        return ranks_C[:count].expand(num_rows, -1)
    keys_NC = gumbel((num_rows, num_listed), generator) - ranks_C / law.temperature
    keys_NC = keys_NC.masked_fill(~is_listed_NC, -torch.inf)
    return keys_NC.topk(count, dim=1, sorted=False).indices.sort(dim=1).values


def gumbel(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Finite, on the generator's device."""
    waiting = torch.empty(shape, device=generator.device).exponential_(generator=generator)
    return -waiting.clamp_min_(torch.finfo(waiting.dtype).tiny).log()


def distinct(sizes_N: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` different whole numbers below each size, every set alike, with `NONE` where the size is smaller.

    Floyd's algorithm (Bentley & Floyd 1987), all rows at once: no rejection, `count` passes.
    """
    chosen = torch.full((len(sizes_N), count), NONE, dtype=torch.int64, device=sizes_N.device)
    for column in range(count):
        last_N = sizes_N - count + column
        drawn_N = _below((last_N + 1).clamp_min(1), generator)
        is_taken_N = (chosen[:, :column] == drawn_N[:, None]).any(dim=1)
        chosen[:, column] = torch.where(last_N < 0, NONE, torch.where(is_taken_N, last_N, drawn_N))
    return chosen.sort(dim=1, descending=True).values


def _below(sizes: Tensor, generator: torch.Generator) -> Tensor:
    """Uniform whole numbers, each below its size."""
    uniform = torch.rand(sizes.shape, dtype=torch.float64, device=generator.device, generator=generator)
    return (uniform * sizes).long()

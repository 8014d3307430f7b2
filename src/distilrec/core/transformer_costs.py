"""What a choice in the transformer space will cost, DNS-Rec's dynamic resource constraint, and the most likely choice
within limits.

    cost = rest of the stream's width + the sum over its layers of the layer's width

Shapes: K widths, S layers, R rows of logits.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from distilrec.core.budget import is_between
from distilrec.core.cost import MACS, PARAMS, count_params
from distilrec.core.decisions import Choice, log_probability, most_likely
from distilrec.core.dropout import Dropout
from distilrec.core.latency import LatencyTable
from distilrec.core.space import certain, dearest, normalised
from distilrec.core.transformer import DEPTH, WIDTH, Block, TransformerSpace


@dataclass(frozen=True)
class TransformerCosts:
    """At the students' own widths and length. Embeddings are left out, as everywhere.

    Attributes:
        per_layer: by measure, a layer of each width, rising.
        per_stream: what a student of that stream pays beside its layers: look-up, normalisation, scoring.
    """

    space: TransformerSpace
    per_layer: dict[str, tuple[float, ...]]
    per_stream: dict[str, tuple[float, ...]]

    @classmethod
    def of_space(cls, space: TransformerSpace, measured: LatencyTable | None = None) -> "TransformerCosts":
        shape = space.shape
        per_layer: dict[str, tuple[float, ...]] = {
            PARAMS: tuple(float(count_params(Block(width, shape, Dropout(0.0)))) for width in space.widths),
            MACS: tuple(float(shape.macs_per_position(width) * shape.max_length) for width in space.widths),
        }
        per_stream: dict[str, tuple[float, ...]] = {
            PARAMS: tuple(2.0 * width for width in space.widths),
            MACS: (0.0,) * len(space.widths),
        }
        for measure, prices in measured.prices.items() if measured else ():
            adds = prices.part
            per_layer[measure] = tuple(prices.layer + adds[f"layer {width}"] for width in space.widths)
            per_stream[measure] = tuple(prices.rest + adds[f"stream {width}"] for width in space.widths)
        return cls(space, per_layer, per_stream)

    @property
    def measures(self) -> list[str]:
        return list(self.per_layer)

    @property
    def rest(self) -> dict[str, float]:
        return {measure: min(each) for measure, each in self.per_stream.items()}

    def expected(self, probabilities: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """By measure, differentiable. A layer is paid for by the chance that the student is as deep."""
        width_RK, depth_S = probabilities[WIDTH], probabilities[DEPTH][0]
        stream_K = self.space.stream(width_RK, depth_S)
        expected = {}
        for measure in self.measures:
            layer_K, rest_K = (
                torch.tensor(each, dtype=width_RK.dtype) for each in (self.per_layer[measure], self.per_stream[measure])
            )
            layer_S = (width_RK @ layer_K).expand(len(depth_S))
            expected[measure] = stream_K @ rest_K + depth_S @ layer_S.cumsum(dim=0)
        return expected

    def of(self, choice: Choice) -> dict[str, float]:
        return {m: float(cost) for m, cost in self.expected(certain(choice, self.space)).items()}

    def penalty(self, probabilities: Mapping[str, Tensor], measures: tuple[str, ...]) -> Tensor:
        """The mean share of the largest cost, times the share of the most likely depth, a factor without a gradient
        that lets off what has become shallow (DNS-Rec's release; there the shares are of the largest difference)."""
        likely = int(probabilities[DEPTH][0].argmax()) + 1
        factor = likely / self.space.max_depth if self.space.is_dynamic else 1.0
        return factor * normalised(self.expected(probabilities), self.rest, self.largest, measures)

    def dearness(self, measures: Iterable[str]) -> dict[str, Tensor]:
        depths_S = torch.arange(1, self.space.max_depth + 1) / self.space.max_depth
        return {WIDTH: dearest(self.per_layer, measures), DEPTH: depths_S}

    def best_between(
        self, logits: Mapping[str, Tensor], limits: Mapping[str, float], floors: Mapping[str, float]
    ) -> Choice | None:
        """The most likely of all, if it is between; else of every architecture that is, where rows beyond its depth
        choose what they like best."""
        logits = {name: rows.detach().double() for name, rows in logits.items()}
        free = most_likely(logits)
        if is_between(self.of(free), limits, floors):
            return free
        found = [
            self._completed(choice, free)
            for choice in self.space.choices()
            if is_between(self.of(choice), limits, floors)
        ]
        return max(found, key=lambda choice: float(log_probability(logits, choice))) if found else None

    def _completed(self, choice: Choice, free: Choice) -> Choice:
        used = 1 if self.space.is_shared else self.space.depth_of(choice)
        return {**choice, WIDTH: choice[WIDTH][:used] + free[WIDTH][used:]}

    def smallest(self, measure: str) -> float:
        """One layer."""
        pairs = zip(self.per_stream[measure], self.per_layer[measure], strict=True)
        return min(stream + layer for stream, layer in pairs)

    def largest(self, measure: str) -> float:
        return max(self.per_stream[measure]) + self.space.max_depth * max(self.per_layer[measure])

    def table(self) -> dict[str, Any]:
        return {"widths": list(self.space.widths), "per_layer": self.per_layer, "per_stream": self.per_stream}

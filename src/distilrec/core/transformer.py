"""The DNS-Rec search space: a transformer whose width and depth are searched, and the student derived from it.

A layer, with the embedded input e (release; dnsrec-derrd.md A.3, A.4):

    y   = norm(x + attention(x) W_o)
    out = norm(y + (gelu((y W_1) * gate_1(e)) W_2) * gate_2(e))
    gate(e) = 2 * sigmoid(relu(e V) U), one factor for every position and channel; removable

The state is the output of the last layer. Where the release multiplies channels by a mask and normalises over all of
them, a width here is a prefix of the channels, and everything is computed and normalised over that prefix alone: a
supernet of one width is the small network itself. Heads have one width, so that a narrower layer has fewer of them.

Widths are shared by all layers (release), or each layer has its own: then it works on a prefix of the stream, which is
as wide as the widest layer, and leaves the other channels as they are.

Shapes: B sequences, L positions, D width, K widths, S layers, H heads, d features of a head.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distilrec.core.attention import ATTENTIONS
from distilrec.core.decisions import Choice, Draw, mix_drawn
from distilrec.core.dropout import Dropout
from distilrec.core.errors import ArtifactError
from distilrec.core.genotype import SCHEMA_VERSION, require_schema
from distilrec.core.rows import Row
from distilrec.core.sequence_model import Layers, SequenceModel, at_positions
from distilrec.core.space import SearchedModel

WIDTH, DEPTH = "width", "depth"
GATE_SCALE = 2.0
"""gamma of the release: a gate of zero logits changes nothing."""
ONE_BY_ONE = "as-released"
"""The attention that looks both ways, so that each prefix needs a forward of its own."""
Made = TypeVar("Made")


@dataclass(frozen=True)
class Shape:
    """What all students of a space have in common.

    Attributes:
        inner: of the feed-forward layers, in widths of their layer.
        attention: a key of ATTENTIONS.
    """

    head_width: int
    inner: int
    max_length: int
    attention: str = "linear"
    has_gates: bool = True

    def macs_per_position(self, width: int) -> int:
        """Of a layer: projections, attention, feed-forward and gates."""
        inner = self.inner * width
        gates = width * inner + inner**2 + 2 * width**2 if self.has_gates else 0
        attended = ATTENTIONS[self.attention][1](width, self.head_width, self.max_length)
        return 4 * width**2 + 2 * width * inner + gates + attended


@dataclass(frozen=True)
class TransformerGenotype:
    """Attributes:
    widths: of the layers, first to last.
    """

    widths: tuple[int, ...]
    shape: Shape

    space = "transformer"

    @property
    def width(self) -> int:
        """Of the stream, the embeddings and the state."""
        return max(self.widths)

    @property
    def max_length(self) -> int:
        return self.shape.max_length

    def parts(self) -> list[dict[str, str]]:
        """Of each layer, what a latency table prices."""
        stream = {"stream": f"stream {self.width}"}
        return [(stream if not index else {}) | {"layer": f"layer {one}"} for index, one in enumerate(self.widths)]

    def to_json(self) -> dict[str, Any]:
        shape = self.shape
        return {
            "schema_version": SCHEMA_VERSION,
            "space": self.space,
            "width": self.width,
            "max_length": shape.max_length,
            "head_width": shape.head_width,
            "inner": shape.inner,
            "attention": shape.attention,
            "gates": shape.has_gates,
            "layers": [{"width": width} for width in self.widths],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "TransformerGenotype":
        """Raises ArtifactError for another schema, an unknown attention or layers that cannot be."""
        require_schema(data)
        shape = Shape(
            int(data["head_width"]),
            int(data["inner"]),
            int(data["max_length"]),
            str(data["attention"]),
            bool(data["gates"]),
        )
        widths = tuple(int(layer["width"]) for layer in data["layers"])
        if shape.attention not in ATTENTIONS:
            raise ArtifactError("DR-ART-001", f"genotype attention {shape.attention!r} is not in the space")
        if not widths or any(width < 1 or width % shape.head_width for width in widths):
            raise ArtifactError("DR-ART-001", f"genotype widths {widths} are not multiples of {shape.head_width}")
        return cls(widths, shape)


@dataclass(frozen=True)
class TransformerSpace:
    """What is to be decided: a width, or one for each layer, and how many layers.

    Attributes:
        widths: to choose from, rising.
        is_shared: one width for all layers.
        relaxation: how an architecture is sampled, a key of RELAXATIONS.
        is_dynamic: whether the cost is multiplied by the share of the most likely depth (release).
    """

    widths: tuple[int, ...]
    max_depth: int
    shape: Shape
    is_shared: bool = True
    relaxation: str = "gumbel"
    is_dynamic: bool = True

    @property
    def width(self) -> int:
        return self.widths[-1]

    @property
    def max_length(self) -> int:
        return self.shape.max_length

    @property
    def parts(self) -> list[str]:
        """What a latency table must price."""
        return [f"{part} {width}" for part in ("stream", "layer") for width in self.widths]

    def decisions(self) -> dict[str, tuple[int, int]]:
        """Rows and options of each. The rows of "width" are the layers."""
        return {WIDTH: (1 if self.is_shared else self.max_depth, len(self.widths)), DEPTH: (1, self.max_depth)}

    def rows(self) -> list[Row]:
        widths = tuple(f"{width} wide" for width in self.widths)
        depths = tuple(f"{depth + 1} layers" if depth else "1 layer" for depth in range(self.max_depth))
        titles = ["width"] if self.is_shared else [f"layer {layer + 1}" for layer in range(self.max_depth)]
        return [Row(title, WIDTH, index, widths) for index, title in enumerate(titles)] + [
            Row("depth", DEPTH, 0, depths)
        ]

    def row_of(self, layer: int) -> int:
        return 0 if self.is_shared else layer

    def depth_of(self, choice: Choice) -> int:
        return choice[DEPTH][0] + 1

    def widths_of(self, choice: Choice) -> tuple[int, ...]:
        """Of the layers that are there."""
        return tuple(self.widths[choice[WIDTH][self.row_of(layer)]] for layer in range(self.depth_of(choice)))

    def derive(self, choice: Choice) -> TransformerGenotype:
        return TransformerGenotype(self.widths_of(choice), self.shape)

    def choices(self) -> Iterator[Choice]:
        """One of each architecture; rows beyond its depth have the first option."""
        rows, options = self.decisions()[WIDTH]
        for depth in range(self.max_depth):
            used = 1 if self.is_shared else depth + 1
            for taken in product(range(options), repeat=used):
                yield {WIDTH: (*taken, *[0] * (rows - used)), DEPTH: (depth,)}

    def stream(self, width_RK: Tensor, depth_S: Tensor) -> Tensor:
        """The chance of each stream width, shape (K,): the widest of as many layers as there are."""
        if self.is_shared:
            return width_RK[0]
        at_most_SK = width_RK.cumsum(dim=1).cumprod(dim=0)  # of the first layers, all no wider
        at_most_K = depth_S @ at_most_SK
        return at_most_K.diff(prepend=torch.zeros_like(at_most_K[:1]))

    def samples(self, random: np.random.Generator, count: int) -> list[TransformerGenotype]:
        """Students to measure parts of: every one of equal widths, then `count` with random ones."""
        alike = [(width,) * depth for width in self.widths for depth in range(1, self.max_depth + 1)]
        drawn = [random.choice(self.widths, size=int(random.integers(1, self.max_depth + 1))) for _ in range(count)]
        return [TransformerGenotype(tuple(int(one) for one in widths), self.shape) for widths in [*alike, *drawn]]


class Gate(nn.Module):
    """GATE_SCALE * sigmoid(relu(e V + b) U + c) of the embedded input; `kept_in` and `kept` channels of it."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, out), nn.Linear(out, out)

    def forward(self, embedded_BLD: Tensor, kept_in: int, kept: int) -> Tensor:
        inner = F.relu(_prefix(self.first, embedded_BLD, kept_in, kept))
        return GATE_SCALE * _prefix(self.second, inner, kept, kept).sigmoid()


class Block(nn.Module):
    """A layer, of which any prefix of the channels is a layer too."""

    def __init__(self, width: int, shape: Shape, dropout: Dropout) -> None:
        super().__init__()
        self.shape, self.dropout = shape, dropout
        self.query, self.key, self.value, self.attention_out = (nn.Linear(width, width) for _ in range(4))
        self.attention_norm, self.feed_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.feed_in = nn.Linear(width, shape.inner * width)
        self.feed_out = nn.Linear(shape.inner * width, width)
        gated = shape.has_gates
        self.inner_gate = Gate(width, shape.inner * width) if gated else None
        self.outer_gate = Gate(width, width) if gated else None

    def forward(self, x_BLD: Tensor, embedded_BLD: Tensor, real_BL: Tensor, width: int) -> Tensor:
        """The first `width` channels of the stream, computed from themselves; the others as they are."""
        stream = x_BLD.shape[2]
        if width < stream:
            inside = self(x_BLD[..., :width], embedded_BLD[..., :width], real_BL, width)
            return torch.cat([inside, x_BLD[..., width:]], dim=2)
        inner = self.shape.inner * width
        attended_BLD = self.dropout(self._attend(x_BLD, real_BL, width))
        x_BLD = _normed(self.attention_norm, x_BLD + attended_BLD, width)
        fed = _prefix(self.feed_in, x_BLD, width, inner)
        if self.inner_gate is not None:
            fed = fed * self.inner_gate(embedded_BLD, width, inner)
        out_BLD = _prefix(self.feed_out, F.gelu(fed), inner, width)
        if self.outer_gate is not None:
            out_BLD = out_BLD * self.outer_gate(embedded_BLD, width, width)
        return _normed(self.feed_norm, x_BLD + self.dropout(out_BLD), width)

    def _attend(self, x_BLD: Tensor, real_BL: Tensor, width: int) -> Tensor:
        split = (*x_BLD.shape[:2], width // self.shape.head_width, self.shape.head_width)

        def heads(linear: nn.Linear) -> Tensor:
            return _prefix(linear, x_BLD, width, width).view(*split).transpose(1, 2)

        attention = ATTENTIONS[self.shape.attention][0]
        mixed_BHLd = attention(heads(self.query), heads(self.key), heads(self.value), real_BL)
        return _prefix(self.attention_out, mixed_BHLd.transpose(1, 2).flatten(2), width, width)


def _prefix(linear: nn.Linear, x: Tensor, kept_in: int, kept: int) -> Tensor:
    """Only the first inputs and outputs of the layer."""
    if (kept, kept_in) == linear.weight.shape:
        whole: Tensor = linear(x)
        return whole
    return F.linear(x, linear.weight[:kept, :kept_in], linear.bias[:kept])


def _normed(norm: nn.LayerNorm, x: Tensor, kept: int) -> Tensor:
    return F.layer_norm(x, (kept,), norm.weight[:kept], norm.bias[:kept], norm.eps)


class TransformerModel(SequenceModel):
    """What the supernet and the student share: embedded input that is normalised, and each prefix alone where attention
    looks both ways."""

    def __init__(self, num_items: int, width: int, shape: Shape, dropout: Dropout) -> None:
        super().__init__(num_items, width, shape.max_length, dropout, shape.max_length)
        self.shape = shape
        self.embedding_norm = nn.LayerNorm(width)

    def embedded(self, ids_BL: Tensor, width: int) -> Tensor:
        """Items and positions, normalised: the first `width` channels of them."""
        assert self.positions is not None
        added_BLD = self.items(ids_BL)[..., :width] + self.positions.weight[: ids_BL.shape[1], :width]
        dropped_BLD: Tensor = self.dropout(_normed(self.embedding_norm, added_BLD, width))
        return dropped_BLD

    @abstractmethod
    def whole(self, ids_BL: Tensor) -> Layers:
        """One forward of the layers over all positions."""

    def forward(self, ids_BL: Tensor) -> Layers:
        if self.shape.attention != ONE_BY_ONE:
            return self.whole(ids_BL)
        prefixes = [self.whole(ids_BL[:, : end + 1]) for end in range(ids_BL.shape[1])]
        hidden = zip(*(one.hidden for one in prefixes), strict=True)
        embedded_BLD = _newest(one.embedded_BLD for one in prefixes)
        state_BLD = _newest(one.state_BLD for one in prefixes)
        return Layers(embedded_BLD, tuple(_newest(each) for each in hidden), state_BLD)

    def score_next(self, ids_BL: Tensor, lengths_B: Tensor) -> Tensor:
        return self.score(self.state_after(ids_BL, lengths_B))

    def state_after(self, ids_BL: Tensor, lengths_B: Tensor) -> Tensor:
        """One forward, in which the whole history is the prefix."""
        return at_positions(self.whole(ids_BL).state_BLD, lengths_B - 1)


def _newest(prefixes: Iterable[Tensor]) -> Tensor:
    """The last position of each."""
    return torch.stack([x_BLD[:, -1] for x_BLD in prefixes], dim=1)


class TransformerStudent(TransformerModel):
    """The derived student: its layers and widths and nothing else."""

    def __init__(self, num_items: int, dropout: Dropout, genotype: TransformerGenotype) -> None:
        super().__init__(num_items, genotype.width, genotype.shape, dropout)
        self.genotype = genotype
        self.layers = nn.ModuleList(Block(width, genotype.shape, dropout) for width in genotype.widths)

    def whole(self, ids_BL: Tensor) -> Layers:
        embedded_BLD = self.embedded(ids_BL, self.width)
        shared = {"embedded_BLD": embedded_BLD, "real_BL": ids_BL != self.num_items}
        pairs = zip(self.layers, self.genotype.widths, strict=True)
        return self.run(embedded_BLD, [partial(layer, width=width, **shared) for layer, width in pairs])

    def finish(self, hidden_BLD: Tensor) -> Tensor:
        """The last layer normalises."""
        return hidden_BLD

    def macs_per_position(self) -> int:
        return sum(self.shape.macs_per_position(width) for width in self.genotype.widths)


class TransformerSupernet(SearchedModel, TransformerModel):
    """All layers at their full width, of which every width is a prefix. States have the full width, zero beyond the
    widths that are mixed. A mixture takes one forward for each width: of the whole network where the width is shared,
    of each layer where it is not."""

    def __init__(self, num_items: int, dropout: Dropout, space: TransformerSpace) -> None:
        super().__init__(num_items, space.width, space.shape, dropout)
        self.space: TransformerSpace = space
        self.layers = nn.ModuleList(Block(space.width, space.shape, dropout) for _ in range(space.max_depth))

    def macs_per_position(self) -> int:
        """Of the chosen path."""
        return sum(self.shape.macs_per_position(width) for width in self.space.widths_of(self.drawn.choice))

    def whole(self, ids_BL: Tensor) -> Layers:
        draw = self.drawn
        if draw.mixture is None:
            return self._path(ids_BL, self.space.widths_of(draw.choice))
        embedded_BLD, hidden = self._shared(ids_BL) if self.space.is_shared else self._layered(ids_BL)
        depth = self.space.depth_of(draw.choice)
        state_BLD = _mixed(draw, draw.mixture[DEPTH][0], depth - 1, hidden)
        return Layers(embedded_BLD, tuple(hidden[:depth] if draw.is_hard else hidden), state_BLD)

    def _path(self, ids_BL: Tensor, widths: Sequence[int]) -> Layers:
        """One network alone, padded to the full width."""
        embedded_BLD = self.embedded(ids_BL, max(widths))
        got = self._through(embedded_BLD, embedded_BLD, ids_BL, widths)
        hidden = tuple(self._padded(one) for one in got)
        return Layers(self._padded(embedded_BLD), hidden, hidden[-1])

    def _through(
        self, x_BLD: Tensor, embedded_BLD: Tensor, ids_BL: Tensor, widths: Sequence[int], first: int = 0
    ) -> list[Tensor]:
        """The outputs of as many layers as there are widths, from layer `first` on."""
        real_BL, hidden = ids_BL != self.num_items, [x_BLD]
        for index, width in enumerate(widths, start=first):
            hidden.append(self.layers[index](hidden[-1], embedded_BLD, real_BL, width))
        return hidden[1:]

    def _shared(self, ids_BL: Tensor) -> tuple[Tensor, list[Tensor]]:
        """A network for each width, mixed."""
        draw, space = self.drawn, self.space
        assert draw.mixture is not None
        (mixture_K,), (chosen,) = draw.mixture[WIDTH], draw.choice[WIDTH]
        depth = space.depth_of(draw.choice)

        def network(option: int) -> list[Tensor]:
            embedded_BLD = self.embedded(ids_BL, space.widths[option])
            widths = [space.widths[option]] * space.max_depth
            hidden = self._through(embedded_BLD, embedded_BLD, ids_BL, widths[:depth])
            with torch.set_grad_enabled(torch.is_grad_enabled() and not draw.is_hard):  # deeper than was drawn
                hidden += self._through(hidden[-1], embedded_BLD, ids_BL, widths[depth:], depth)
            return [self._padded(one) for one in (embedded_BLD, *hidden)]

        networks = _options(draw, chosen, len(space.widths), network)
        embedded_BLD, *hidden = (_mixed(draw, mixture_K, chosen, each) for each in zip(*networks, strict=True))
        return embedded_BLD, hidden

    def _layered(self, ids_BL: Tensor) -> tuple[Tensor, list[Tensor]]:
        """In each layer a layer for each width, mixed; and so for the embeddings, by how wide the stream is."""
        draw, space = self.drawn, self.space
        assert draw.mixture is not None
        width_SK, depth_S = draw.mixture[WIDTH], draw.mixture[DEPTH][0]
        depth, real_BL = space.depth_of(draw.choice), ids_BL != self.num_items
        stream = space.widths.index(max(space.widths_of(draw.choice)))
        streams = _options(
            draw, stream, len(space.widths), lambda option: self._padded(self.embedded(ids_BL, space.widths[option]))
        )
        embedded_BLD = _mixed(draw, space.stream(width_SK, depth_S), stream, streams)
        hidden = [embedded_BLD]
        for index, layer in enumerate(self.layers):
            chosen, x_BLD = draw.choice[WIDTH][index], hidden[-1]

            def at_width(option: int, layer: nn.Module = layer, x_BLD: Tensor = x_BLD) -> Tensor:
                out_BLD: Tensor = layer(x_BLD, embedded_BLD, real_BL, space.widths[option])
                return out_BLD

            with torch.set_grad_enabled(torch.is_grad_enabled() and not (draw.is_hard and index >= depth)):
                values = _options(draw, chosen, len(space.widths), at_width)
                hidden.append(_mixed(draw, width_SK[index], chosen, values))
        return embedded_BLD, hidden[1:]

    def _padded(self, x_BLD: Tensor) -> Tensor:
        missing = self.width - x_BLD.shape[2]
        return F.pad(x_BLD, (0, missing)) if missing else x_BLD

    def finish(self, hidden_BLD: Tensor) -> Tensor:
        return hidden_BLD


def _options(draw: Draw, chosen: int, count: int, made: Callable[[int], Made]) -> list[Made]:
    """Each option's value; of a hard draw only the drawn one's has a gradient."""
    values = []
    for option in range(count):
        with torch.set_grad_enabled(torch.is_grad_enabled() and (option == chosen or not draw.is_hard)):
            values.append(made(option))
    return values


def _mixed(draw: Draw, mixture_O: Tensor, chosen: int, values: Sequence[Tensor]) -> Tensor:
    if draw.is_hard:
        return mix_drawn(mixture_O, chosen, values)
    return torch.stack([share * value for share, value in zip(mixture_O, values, strict=True)]).sum(dim=0)

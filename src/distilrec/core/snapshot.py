"""The state of a training as tensors and JSON values, so that it can be written without pickle and resumed
bit for bit."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


@dataclass
class Snapshot:
    """Tensors by dotted name, and what is not a tensor."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)

    def put(self, prefix: str, tensors: Mapping[str, Tensor]) -> None:
        """Copies, so that training on does not change the snapshot."""
        self.tensors.update({f"{prefix}.{name}": tensor.detach().clone() for name, tensor in tensors.items()})

    def get(self, prefix: str) -> dict[str, Tensor]:
        start = prefix + "."
        return {name[len(start) :]: tensor for name, tensor in self.tensors.items() if name.startswith(start)}

    def put_module(self, prefix: str, module: nn.Module) -> None:
        self.put(prefix, module.state_dict())

    def get_module(self, prefix: str, module: nn.Module) -> None:
        module.load_state_dict(self.get(prefix))

    def put_optimiser(self, prefix: str, optimiser: Optimizer) -> None:
        state = optimiser.state_dict()["state"]
        self.put(prefix, {f"{index}.{key}": value for index, slot in state.items() for key, value in slot.items()})

    def get_optimiser(self, prefix: str, optimiser: Optimizer) -> None:
        slots: dict[int, dict[str, Tensor]] = {}
        for name, tensor in self.get(prefix).items():
            index, key = name.split(".", 1)
            slots.setdefault(int(index), {})[key] = tensor
        optimiser.load_state_dict({"state": slots, "param_groups": optimiser.state_dict()["param_groups"]})

    def put_generator(self, prefix: str, generator: torch.Generator) -> None:
        self.put(prefix, {"state": generator.get_state()})

    def get_generator(self, prefix: str, generator: torch.Generator) -> None:
        generator.set_state(self.get(prefix)["state"])

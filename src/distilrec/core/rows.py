"""What a search chooses between, as a picture names it. Without torch: the report needs none."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A row of a decision, and its options."""

    title: str
    decision: str
    index: int
    options: tuple[str, ...]

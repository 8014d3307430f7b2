"""CiteULike as DE-RRD's authors split it (their split 0), with negatives of our own: theirs are not to be had.

Shapes: U users, K negatives.
"""

import gzip
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.peers import ROOT
from distilrec.core.events import Ints, Sequences, popularity
from distilrec.core.ranked import Allowed

FOLDER = Path(os.environ.get("DISTILREC_CITEULIKE", ROOT.parent / "shared" / "data" / "citeulike-derrd"))
NUM_NEGATIVES = 499
NEGATIVES_SEED = 20201019
"""Of the 499 items a user that every method is ranked against."""


@dataclass(frozen=True)
class Split:
    """Leave-one-out without order: of every user one random item to validate and one to test.

    Attributes:
        past: training and validation items, what is removed from the whole-catalogue ranking of the test items.
        negatives_UK: items that the user has in none of the three parts.
    """

    train: Sequences
    past: Sequences
    valid_U: Ints
    test_U: Ints
    negatives_UK: Tensor

    @property
    def num_cold(self) -> int:
        """Test users whose target never occurs in training: no model made of ids can know it."""
        return int((popularity(self.train)[self.test_U] == 0).sum())

    @property
    def negatives_sha256(self) -> str:
        return hashlib.sha256(self.negatives_UK.numpy().tobytes()).hexdigest()


def split_of(train: tuple[Ints, Ints], valid_U: Ints, test_U: Ints, num_items: int, num_negatives: int) -> Split:
    """From the users and items of the training pairs, and the two items held out of each user."""
    num_users = len(test_U)
    everyone = np.arange(num_users)
    more = (np.concatenate([train[0], everyone]), np.concatenate([train[1], valid_U]))
    taken = (np.concatenate([more[0], everyone]), np.concatenate([more[1], test_U]))
    unseen = Allowed.excluding(torch.from_numpy(taken[0]), torch.from_numpy(taken[1]), num_users, num_items)
    negatives_UK = unseen.draw(num_negatives, torch.Generator().manual_seed(NEGATIVES_SEED))
    sequences = [_by_user(*pairs, num_users, num_items) for pairs in (train, more)]
    return Split(*sequences, valid_U, test_U, negatives_UK)


def _by_user(users: Ints, items: Ints, num_users: int, num_items: int) -> Sequences:
    order = np.argsort(users, kind="stable")
    return Sequences.flat(items[order], np.bincount(users, minlength=num_users), num_items)


def citeulike() -> Split:
    """Stops with a sentence where the data is not."""
    if not FOLDER.is_dir():
        raise SystemExit(f"{FOLDER} is not there; set DISTILREC_CITEULIKE to the folder of the authors' split 0")
    parts = {name: _pairs(name) for name in ("train", "valid", "test")}
    held_out = [items[np.argsort(users)] for users, items in (parts["valid"], parts["test"])]
    num_items = 1 + max(int(items.max()) for _, items in parts.values())
    return split_of(parts["train"], *held_out, num_items, NUM_NEGATIVES)


def _pairs(name: str) -> tuple[Ints, Ints]:
    with gzip.open(FOLDER / f"{name}.txt.gz", "rt") as file:
        users, items = np.loadtxt(file, dtype=np.int64, unpack=True)
    return users, items

"""Several processes give what one gives, to rounding: torchrun, gloo, the real commands."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

SCENE = """
scene: parallel
data: {source: synthetic, num_users: 60, num_items: 30, events_per_user: 12}
max_length: 6
threads: 1
teach: {width: 8, num_blocks: 1, max_epochs: 2, batch_size: 17, dropout: 0}  # the last batch is a single window
search: {width: 8, num_cells: 1, epochs: 2, architecture_after: 0, batch_size: 16, dropout: 0}
retrain: {max_epochs: 2, batch_size: 16, dropout: 0}
"""
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("processes")
    (root / "scene.yaml").write_text(SCENE)
    _run(root, 1, "prepare", "--dataset", "dataset")
    _run(root, 1, "teach", "--dataset", "dataset", "--teacher", "teacher-1")
    return root


def _run(root: Path, processes: int, step: str, *arguments: str) -> None:
    many = [BIN / "torchrun", "--standalone", "--nproc-per-node", str(processes), "--no-python"]
    command = [BIN / "distilrec", step, "--scene", "scene.yaml", *arguments]
    environment = {**os.environ, "DISTILREC_STORE": str(root / f"store-{processes}")}
    done = subprocess.run(
        [*many, *command] if processes > 1 else command, cwd=root, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def _assert_same_weights(one: Path, other: Path) -> None:
    left, right = (load_file(folder / "weights.safetensors") for folder in (one, other))
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        torch.testing.assert_close(tensor, right[name], rtol=1e-3, atol=1e-5, msg=name)


def test_two_processes_teach_as_one(folders):
    _run(folders, 2, "teach", "--dataset", "dataset", "--teacher", "teacher-2")
    _assert_same_weights(folders / "teacher-1", folders / "teacher-2")


def test_two_processes_search_and_retrain_as_one(folders):
    given = ("--dataset", "dataset", "--teacher", "teacher-1")
    for count in (1, 2):
        _run(folders, count, "search", *given, "--search", f"search-{count}")
    _assert_same_weights(folders / "search-1", folders / "search-2")
    _run(folders, 1, "derive", "--search", "search-1", "--genotype", "genotype")
    for count in (1, 2):
        _run(folders, count, "retrain", *given, "--genotype", "genotype", "--student", f"student-{count}")
    _assert_same_weights(folders / "student-1", folders / "student-2")

"""A RecBole-family library in its own environment, asked over standard input: one JSON line for each question.

    peer.py LIBRARY MODEL WIDTH LENGTH

Questions: `describe`, `train` (one epoch, or some batches of it: seconds), `validate` (NDCG@10 and seconds), `save`,
`resume`, `rank` (the library's own
ranking and metrics from the score batches in the folder named after it, seen items kept or removed).
"""

import importlib
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch

LIBRARY, MODEL, WIDTH, LENGTH = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"
USERS_PER_BATCH = 256
REPEATS = 15
SETTINGS = {
    "train_neg_sample_args": None,  # cross-entropy over the whole catalogue
    "loss_type": "CE",
    "embedding_size": WIDTH,
    "hidden_size": WIDTH,
    "inner_size": 4 * WIDTH,
    "MAX_ITEM_LIST_LENGTH": LENGTH,
    "train_batch_size": 2048,  # their default
    "eval_batch_size": 4096,
    "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
    "metrics": ["NDCG", "Hit", "MRR"],
    "topk": [1, 5, 10, 20],
    "valid_metric": "NDCG@10",
    "metric_decimal_place": 12,
    "use_gpu": False,
    "show_progress": False,
    "state": "ERROR",
    "seed": 0,
    "reproducibility": True,
    "checkpoint_dir": os.environ.get("TMPDIR", "/tmp"),
}


def _inside(name: str):
    return importlib.import_module(f"{LIBRARY}.{name}")


class Peer:
    def __init__(self) -> None:
        sys.argv = sys.argv[:1]  # the library reads the command line as settings
        self.config = _inside("config").Config(model=MODEL, dataset="ml-100k", config_dict=SETTINGS)
        _inside("utils").init_seed(0, True)
        data = _inside("data")
        dataset = data.create_dataset(self.config)
        self.train_data, self.valid_data, _ = data.data_preparation(self.config, dataset)
        utils = _inside("utils")
        self.model = utils.get_model(MODEL)(self.config, self.train_data.dataset)
        if "DISTILREC_TUNED" in os.environ:
            torch.autograd.set_detect_anomaly(False)  # one of their modules turns it on at import
        self.trainer = utils.get_trainer(self.config["MODEL_TYPE"], MODEL)(self.config, self.model)
        _collect(self.trainer.eval_collector, self.train_data)
        self.epoch = 0

    def describe(self) -> dict:
        return {
            "num_params": sum(parameter.numel() for parameter in self.model.parameters()),
            "num_targets": len(self.train_data.dataset),
            "num_items": self.train_data.dataset.item_num - 1,
            "version": importlib.metadata.version(LIBRARY),
            "torch": torch.__version__,
        }

    def train(self, num_batches: str = "all") -> dict:
        """One epoch through the library's own loop, or, for a quick look, some batches of it as that loop does."""
        if num_batches != "all":
            return self._some_batches(int(num_batches))
        began = time.perf_counter()
        self.trainer._train_epoch(self.train_data, self.epoch, show_progress=False)
        self.epoch += 1
        return {"seconds": time.perf_counter() - began, "epoch": self.epoch}

    def _some_batches(self, number: int) -> dict:
        self.model.train()
        began = time.perf_counter()
        for _, interaction in zip(range(number), self.train_data, strict=False):
            self.trainer.optimizer.zero_grad()
            loss = self.model.calculate_loss(interaction)
            loss.backward()
            self.trainer.optimizer.step()
        share = number * self.config["train_batch_size"] / len(self.train_data.dataset)
        return {"seconds": (time.perf_counter() - began) / share, "epoch": self.epoch}

    def validate(self) -> dict:
        began = time.perf_counter()
        _, result = self.trainer._valid_epoch(self.valid_data, show_progress=False)
        return {"seconds": time.perf_counter() - began, "ndcg10": float(result["ndcg@10"])}

    def save(self, path: str) -> dict:
        self.trainer._save_checkpoint(self.epoch - 1, verbose=False, saved_model_file=path)
        return {}

    def resume(self, path: str) -> dict:
        self.trainer.resume_checkpoint(path)
        self.epoch = self.trainer.start_epoch
        return {"epoch": self.epoch}

    def rank(self, folder: str, variant: str) -> dict:
        """From score batches to metrics, as the library's trainer does it after the model's forward."""
        arrays = {name: np.load(Path(folder) / f"{name}.npy") for name in ("scores", "rows", "items", "targets")}
        batches = [_padded(arrays, first) for first in range(0, len(arrays["targets"]), USERS_PER_BATCH)]
        evaluation = _inside("evaluator")
        evaluator, seconds = evaluation.Evaluator(self.config), []
        for _ in range(REPEATS + 1):
            collector = evaluation.Collector(self.config)
            _collect(collector, self.train_data)
            copies = [(scores.clone(), *rest) for scores, *rest in batches]
            began = time.perf_counter()
            for scores, history, users, targets in copies:
                scores[:, 0] = -np.inf
                if variant == "removed":
                    scores[history] = -np.inf
                collector.eval_batch_collect(scores, None, users, targets)
            result = evaluator.evaluate(collector.get_data_struct())
            seconds.append(time.perf_counter() - began)
        return {"seconds": seconds[1:], "metrics": {name: float(value) for name, value in result.items()}}


def _collect(collector, train_data) -> None:
    """The method has another name in each library."""
    collect = getattr(collector, "train_data_collect", None) or collector.data_collect
    collect(train_data)


def _padded(arrays: dict, first: int) -> tuple:
    """One batch as the trainer hands it on: column 0 is padding, so item i is column i + 1."""
    scores, targets = (
        arrays["scores"][first : first + USERS_PER_BATCH],
        arrays["targets"][first : first + USERS_PER_BATCH],
    )
    mine = (arrays["rows"] >= first) & (arrays["rows"] < first + len(targets))
    rows, items = arrays["rows"][mine] - first, arrays["items"][mine] + 1
    shifted = torch.cat([torch.zeros(len(scores), 1), torch.from_numpy(scores)], dim=1)
    history = (torch.from_numpy(rows), torch.from_numpy(items.astype(np.int64)))
    return shifted, history, torch.arange(len(targets)), torch.from_numpy(targets.astype(np.int64)) + 1


def main() -> None:
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    answers, sys.stdout = os.fdopen(os.dup(1), "w", buffering=1), sys.stderr
    peer = Peer()
    for line in sys.stdin:
        question, *arguments = line.split()
        answers.write(json.dumps(getattr(peer, question)(*arguments)) + "\n")


if __name__ == "__main__":
    main()

import numpy as np
import pytest
import torch

from distilrec.core.errors import ExportError
from distilrec.core.evaluation import rank_users
from distilrec.core.sequence_model import ModelScorer
from distilrec.io.export import check_export, export_onnx
from distilrec.io.exported import OnnxScorer
from tests.conftest import LENGTH, NUM_ITEMS, chain, sasrec, student

pytestmark = pytest.mark.filterwarnings("ignore")  # torch.onnx warns of its own inner workings


@pytest.mark.parametrize("make", [sasrec, lambda: student([0, 4, 6, 7, 8, 9])], ids=["teacher", "student"])
def test_the_exported_model_scores_as_the_trained_one_for_any_batch(tmp_path, make):
    model, sequences = make().eval(), chain(0.9)
    export_onnx(model, tmp_path / "model.onnx")
    check = check_export(model, tmp_path / "model.onnx", sequences)
    assert check.num_histories == len(sequences)
    assert check.largest_difference < 1e-4
    scorer = OnnxScorer(tmp_path / "model.onnx", threads=1)
    for batch in (1, 3, 33):
        ids = np.random.default_rng(batch).integers(NUM_ITEMS, size=(batch, LENGTH))
        lengths = np.full(batch, LENGTH)
        with torch.inference_mode():
            eager = model.score_next(torch.from_numpy(ids), torch.from_numpy(lengths)).numpy()
        np.testing.assert_allclose(scorer.run(ids, lengths), eager, atol=1e-4)
    past, targets = sequences.without_last(1), sequences.target(1)
    assert rank_users(scorer, past, targets).metrics() == rank_users(ModelScorer(model), past, targets).metrics()
    with torch.no_grad():
        model.items.weight[0, 0] += 1.0
    with pytest.raises(ExportError, match="differs"):
        check_export(model, tmp_path / "model.onnx", sequences)

import numpy as np
import pytest
import torch

from distilrec.core.cell import OPERATION, CellSpace, Student
from distilrec.core.dropout import Dropout
from distilrec.core.errors import ExportError
from distilrec.core.evaluation import rank_users
from distilrec.core.genotype import TABLES
from distilrec.core.nextitnet import NextItNet
from distilrec.core.recommender import ModelScorer
from distilrec.core.sequence_model import SequenceModel, initialise
from distilrec.core.spaces import student_of
from distilrec.core.transformer import Shape, TransformerGenotype, TransformerStudent
from distilrec.io.export import check_export, export_onnx, quantise
from distilrec.io.exported import ExportedScorer, open_exported
from tests.conftest import LENGTH, NUM_EDGES, NUM_ITEMS, WIDTH, chain, far_from_linear, generator, sasrec, student

LONG = 40


def _transformer(attention: str = "linear") -> TransformerStudent:
    """With positions for several chunks."""
    genotype = TransformerGenotype((4, 8), Shape(4, 2, 128, attention))
    return far_from_linear(TransformerStudent(NUM_ITEMS, Dropout(0.0), genotype), seed=0)


@pytest.mark.parametrize(
    "make",
    [sasrec, lambda: student([0, 4, 6, 7, 8, 9]), _transformer, lambda: _transformer("as-released")],
    ids=["teacher", "student", "transformer", "transformer as released"],
)
def test_the_exported_model_scores_as_the_trained_one_for_any_batch(tmp_path, make):
    model, sequences = make().eval(), chain(0.9)
    export_onnx(model, tmp_path)
    check = check_export(model, tmp_path, sequences)
    assert check.num_histories == len(sequences) == check.num_same_top10
    assert check.largest_difference < 1e-4
    exported = open_exported(tmp_path, threads=1)
    for batch in (1, 3, 33):
        ids = np.random.default_rng(batch).integers(NUM_ITEMS, size=(batch, model.max_length))
        lengths = np.full(batch, model.max_length)
        with torch.inference_mode():
            eager = model.score_next(torch.from_numpy(ids), torch.from_numpy(lengths)).numpy()
        np.testing.assert_allclose(exported.scores(exported.states(ids, lengths)), eager, atol=1e-4)
    past, targets = sequences.without_last(1), sequences.target(1)
    own = rank_users(ExportedScorer(exported), past, targets).metrics()
    assert own == rank_users(ModelScorer(model), past, targets).metrics()
    with torch.no_grad():
        model.items.weight[0, 0] += 1.0
    with pytest.raises(ExportError, match="differs"):
        check_export(model, tmp_path, sequences)


def _long_student(choice: list[int], table: str = "causal", num_cells: int = 2) -> SequenceModel:
    genotype = CellSpace(3, num_cells, WIDTH, LONG, table=table).derive({OPERATION: tuple(choice)})
    return far_from_linear(student_of(NUM_ITEMS, Dropout(0.0), genotype), seed=0)


def _long_nextitnet() -> SequenceModel:
    model = far_from_linear(NextItNet(NUM_ITEMS, WIDTH, LONG, Dropout(0.0), 1, (1, 2)), seed=0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("gate"):
                parameter.fill_(0.7)
    return model


CAUSAL = {name: index for index, name in enumerate(TABLES["causal"])}
REACHING = {
    **{
        name: lambda index=index: _long_student([index] * NUM_EDGES) for name, index in CAUSAL.items() if name != "zero"
    },
    "mixed": lambda: _long_student([4, 9, 6, 1, 9, 7]),
    "as released": lambda: _long_student([0, 9, 6, 1, 9, 7], "as-released"),
    "nextitnet": _long_nextitnet,
}


@pytest.mark.parametrize("name", REACHING)
def test_the_state_needs_only_the_positions_in_reach(name):
    model = REACHING[name]().eval()
    if name != "as released":
        assert name in ("dilated_conv5", "causal_dilated_conv5", "mixed") or model.reach < LONG
    ids = torch.randint(NUM_ITEMS, (6, LONG), generator=generator(3))
    lengths = torch.tensor([1, 2, 7, LONG // 2, LONG - 1, LONG])
    ids[torch.arange(LONG) >= lengths[:, None]] = NUM_ITEMS
    with torch.no_grad():
        torch.testing.assert_close(model.score(model.state_after(ids, lengths)), model.score_next(ids, lengths))


def test_reach_is_no_longer_than_what_matters():
    model = _long_student([0, 9, 6, 9, 9, 9], num_cells=2).eval()  # a convolution, then a pool of three, twice
    assert isinstance(model, Student)
    assert model.reach == 1 + 2 * (2 + 2)
    ids = torch.randint(NUM_ITEMS, (1, LONG), generator=generator(3))
    lengths = torch.tensor([LONG])
    with torch.no_grad():
        scores = model.score_next(ids, lengths)
        for place, matters in ((LONG - model.reach, True), (LONG - model.reach - 1, False)):
            other = ids.clone()
            other[0, place] = (other[0, place] + 1) % NUM_ITEMS
            assert torch.equal(model.score_next(other, lengths), scores) != matters


def test_int8_is_close_and_smaller(tmp_path):
    genotype = CellSpace(3, 1, 64, LENGTH).derive({OPERATION: (0,) * NUM_EDGES})
    model = Student(3000, Dropout(0.0), genotype)
    initialise(model, generator())
    export_onnx(model, tmp_path / "float32")
    quantise(tmp_path / "float32", tmp_path / "int8")
    ids, lengths = np.random.default_rng(0).integers(3000, size=(50, LENGTH)), np.full(50, LENGTH)
    scores = {}
    for variant in ("float32", "int8"):
        exported = open_exported(tmp_path / variant, threads=1)
        scores[variant] = exported.scores(exported.states(ids, lengths))
    assert 0 < np.abs(scores["int8"] - scores["float32"]).max() < 0.2 * scores["float32"].std()
    sizes = {variant: sum(path.stat().st_size for path in (tmp_path / variant).iterdir()) for variant in scores}
    assert sizes["int8"] < 0.5 * sizes["float32"]

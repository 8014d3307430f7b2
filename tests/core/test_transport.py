import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linprog

from distilrec.core.batching import Batch
from distilrec.core.config import Distillation
from distilrec.core.distill import LayerDistillation
from distilrec.core.sequence_model import Layers
from distilrec.core.softmax import SoftTargets
from distilrec.core.teaching import Taught
from distilrec.core.transport import one_to_one, optimal_flow, reweighted, transport_loss
from tests.conftest import generator


def test_a_case_by_hand():
    # Half the mass sits in each place; swapping would cost 1 + 2, staying costs 0.
    distances = np.array([[0.0, 1.0], [2.0, 0.0]])
    half = np.array([0.5, 0.5])
    np.testing.assert_allclose(optimal_flow(distances, half, half), [[0.5, 0.0], [0.0, 0.5]])
    # All mass starts left, a quarter must go right at cost 1.
    flow = optimal_flow(distances, np.array([1.0, 0.0]), np.array([0.75, 0.25]))
    np.testing.assert_allclose(flow, [[0.75, 0.25], [0.0, 0.0]])


def _linear_program(distances, student, teacher):
    rows, columns = distances.shape
    equalities = [np.kron(np.eye(rows)[i], np.ones(columns)) for i in range(rows)]
    equalities += [np.kron(np.ones(rows), np.eye(columns)[j]) for j in range(columns)]
    solved = linprog(distances.ravel(), A_eq=np.array(equalities), b_eq=np.concatenate([student, teacher]))
    return solved.fun


@pytest.mark.parametrize("seed", range(5))
def test_the_cost_is_that_of_scipys_linear_program(seed):
    random = np.random.default_rng(seed)
    distances = random.random((4, 8))
    student, teacher = random.dirichlet(np.ones(4)), random.dirichlet(np.ones(8))
    flow = optimal_flow(distances, student, teacher)
    np.testing.assert_allclose(flow.sum(axis=1), student)
    np.testing.assert_allclose(flow.sum(axis=0), teacher)
    assert (flow * distances).sum() == pytest.approx(_linear_program(distances, student, teacher), abs=1e-9)


def test_the_gradient_is_the_flow_and_the_finite_difference():
    random = np.random.default_rng(0)
    distances = torch.tensor(random.random((3, 4)), requires_grad=True)
    student, teacher = random.dirichlet(np.ones(3)), random.dirichlet(np.ones(4))
    flow = optimal_flow(distances.detach().numpy(), student, teacher)
    transport_loss(distances, flow).backward()
    np.testing.assert_allclose(distances.grad, flow)
    step = 1e-6
    for i in range(3):
        for j in range(4):
            values = []
            for sign in (1, -1):
                moved = distances.detach().numpy().copy()
                moved[i, j] += sign * step
                values.append((optimal_flow(moved, student, teacher) * moved).sum())
            assert (values[0] - values[1]) / (2 * step) == pytest.approx(flow[i, j], abs=1e-6)


def test_distance_to_itself_is_zero():
    hidden = tuple(torch.randn(2, 5, 6, generator=generator(i)) for i in range(3))
    layers = Layers(hidden[0], hidden, hidden[-1])
    distillation = LayerDistillation(6, 6, 3, 3, Distillation()).eval()
    with torch.no_grad():
        for projection in (distillation.embedding, distillation.hidden):
            projection.weight.copy_(torch.eye(6))
            projection.bias.zero_()
    batch = _batch(torch.ones(2, 5, dtype=torch.bool))
    losses = distillation(layers, _taught(layers, batch), batch)
    assert losses.hidden.item() == pytest.approx(0.0, abs=1e-6)
    assert losses.embedding.item() == pytest.approx(0.0, abs=1e-6)
    np.testing.assert_allclose(losses.flow_ST, np.eye(3) / 3)


def test_padding_does_not_enter_the_layer_losses():
    student = Layers(*_random_layers(4, 2, 1))
    teacher = Layers(*_random_layers(6, 3, 2))
    real = torch.tensor([[True, True, True, False], [True, False, False, False]])
    distillation = LayerDistillation(4, 6, 2, 3, Distillation()).eval()
    batch = _batch(real)
    before = distillation(student, _taught(teacher, batch), batch)
    for layers in (student, teacher):
        for tensor in (layers.embedded_BLD, *layers.hidden):
            tensor[~real] += 100.0
    after = distillation(student, _taught(teacher, batch), batch)
    torch.testing.assert_close(before.hidden, after.hidden)
    torch.testing.assert_close(before.embedding, after.embedding)


def _batch(real):
    padding = 9
    targets = torch.where(real, 0, padding)
    return Batch(targets, targets, torch.zeros_like(targets), padding)


def _taught(layers, batch):
    return Taught.by(layers, SoftTargets(torch.empty(0, 0), torch.empty(0, 0)), batch)


def _random_layers(width, depth, seed):
    hidden = tuple(torch.randn(2, 4, width, generator=generator(seed + i)) for i in range(depth + 1))
    return hidden[0], hidden[1:], hidden[-1]


@settings(max_examples=200, deadline=None)
@given(
    moved=arrays(np.float64, 5, elements=st.floats(0, 1e12)),
    weights=arrays(np.float64, 5, elements=st.floats(0, 1)),
    temperature=st.floats(1e-6, 1e6),
)
def test_layer_weights_stay_a_distribution_at_any_temperature(moved, weights, temperature):
    new = reweighted(moved, weights, temperature)
    assert np.isfinite(new).all()
    assert (new > 0).all()
    assert new.sum() == pytest.approx(1.0)


def test_a_cheap_layer_gets_more_weight():
    new = reweighted(np.array([0.1, 0.3, 0.6]), np.full(3, 1 / 3), temperature=10.0)
    assert new[0] > new[1] > new[2]


@pytest.mark.parametrize(
    ("mapping", "taught_by"),
    [("left", [0, 1, 2, 3]), ("right", [4, 5, 6, 7]), ("left-jump", [0, 2, 4, 6]), ("right-jump", [1, 3, 5, 7])],
)
def test_one_to_one_mappings_as_the_release_names_them(mapping, taught_by):
    flow = one_to_one(mapping, 4, 8)
    assert flow.argmax(axis=1).tolist() == taught_by
    np.testing.assert_allclose(flow.sum(axis=1), 0.25)
    assert one_to_one(mapping, 5, 2).sum() == pytest.approx(1.0), "more student than teacher layers"


def test_layer_weights_follow_in_training_only_for_the_depth_drawn_and_only_if_adaptive():
    costs = np.random.default_rng(0).random((2, 3))
    for adaptive in ("adaptive", "uniform"):
        layers = LayerDistillation(4, 6, 3, 3, Distillation(layer_weights=adaptive))
        before = layers.student_weight_SS.clone()
        layers.eval().flow(costs)
        assert torch.equal(layers.student_weight_SS, before)
        layers.train().flow(costs)
        changed = (layers.student_weight_SS != before).any(dim=1).tolist()
        assert changed == [False, adaptive == "adaptive", False]
        torch.testing.assert_close(layers.student_weight_SS.sum(dim=1), torch.ones(3, dtype=torch.float64))

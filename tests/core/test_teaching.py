"""What the teacher wrote down is what it would say, to half precision."""

import numpy as np
import pytest
import torch

from distilrec.core.batching import training_batches
from distilrec.core.fit import TrainingData
from distilrec.core.teaching import LiveTeacher, StoredTeacher, TeacherArrays
from tests.conftest import LENGTH, NUM_ITEMS, chain, generator, nextitnet, sasrec


def _stored(live: LiveTeacher, data: TrainingData) -> StoredTeacher:
    layout = TeacherArrays.layout(len(data.train.items), live.model, live.num_named)
    arrays = TeacherArrays(**{name: np.zeros(shape, kind) for name, (shape, kind) in layout.items()})
    assert [done for done, _ in arrays.fill(live, data.train, data.windows)][-1] == -(-len(data.windows) // 64)
    return StoredTeacher(live.model, arrays)


@pytest.mark.parametrize("num_named", [3, 100])
@pytest.mark.parametrize("make", [sasrec, nextitnet])
def test_looking_up_equals_asking(make, num_named):
    data = TrainingData.leave_one_out(chain(0.9), LENGTH, "kept")
    live = LiveTeacher(make(), num_named)
    stored = _stored(live, data)
    for batch in training_batches(data.train, data.windows, 7, generator()):
        asked, read = live.of(batch), stored.of(batch)
        assert torch.equal(asked.soft.ids_NM, read.soft.ids_NM)
        torch.testing.assert_close(read.soft.probability_NM, asked.soft.probability_NM, rtol=2e-3, atol=1e-6)
        torch.testing.assert_close(read.embedded_NE, asked.embedded_NE)
        torch.testing.assert_close(read.hidden_TNE, asked.hidden_TNE, rtol=1e-3, atol=1e-3)


def test_the_named_items_are_the_most_likely_and_all_of_them_leave_nothing():
    data = TrainingData.leave_one_out(chain(0.9), LENGTH, "kept")
    batch = next(training_batches(data.train, data.windows, 7, generator()))
    model = sasrec()
    scores = model.score(batch.take(model(batch.inputs_BL).state_BLD)).softmax(dim=1)
    soft = LiveTeacher(model, 3).of(batch).soft
    torch.testing.assert_close(soft.probability_NM, scores.sort(dim=1, descending=True).values[:, :3])
    everything = _stored(LiveTeacher(model, NUM_ITEMS), data).of(batch).soft
    torch.testing.assert_close(everything.probability_NM.sum(dim=1), torch.ones(len(batch.real)))

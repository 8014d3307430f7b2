"""The ranker as MLflow loads it."""

import pytest


@pytest.mark.filterwarnings("ignore")  # MLflow's, of its own types
def test_two_models_in_one_process_run_each_its_own_code(tmp_path):
    from distilrec.serving.ranker_model import _module

    def shipped(name, text):
        path = tmp_path / name / "distilrec_ranker.py"
        path.parent.mkdir()
        path.write_text(text)
        return _module(path)

    old, new = shipped("old", "ANSWER = 'old'"), shipped("new", "ANSWER = 'new'")
    assert (old.ANSWER, new.ANSWER) == ("old", "new")
    assert shipped("copy", "ANSWER = 'old'") is old

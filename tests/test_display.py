"""What a person sees of a run under way."""

from distilrec.core.estimate import STEPS
from distilrec.display import RunDisplay


def test_a_teacher_that_the_plan_took_for_trained_is_trained_again(capsys):
    """Its checkpoint was deleted meanwhile."""
    display = RunDisplay("shop", {step: 0.0 if step == "teach" else 5.0 for step in STEPS})
    display.watch([{"step": "teach", "event": event, "time": time} for event, time in (("start", 1.0), ("done", 5.0))])
    assert "shop: teach: done in 0:04" in capsys.readouterr().out
    assert display.left() == 5.0 * (len(STEPS) - 1)

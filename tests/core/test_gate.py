from dataclasses import replace

import pytest

from distilrec.core.config import Gate, Serve
from distilrec.core.gate import Champion, Evidence, decide
from distilrec.core.metrics import Interval

GOOD = Evidence(
    student_over_teacher=Interval(0.97, 0.93, 1.01),
    student_ndcg10=0.12,
    floors_ndcg10={"popularity": 0.08, "a chain": 0.11},
    speedup=Interval(3.0, 2.8, 3.2),
    num_test_users=1000,
    as_of="2026-01-01T00:00:00+00:00",
    champion=Champion("4", Interval(0.02, -0.03, 0.07), "2025-12-01T00:00:00+00:00", 0),
)


def test_a_good_student_is_promoted():
    verdict = decide(GOOD, Gate(), Serve())
    assert (verdict.promote, verdict.word) == (True, "promoted")


def test_without_a_champion_that_check_is_skipped_and_said():
    verdict = decide(replace(GOOD, champion=None), Gate(), Serve())
    assert verdict.promote
    assert [check.sentence for check in verdict.checks if check.passed is None] == [
        "the scene has no champion yet; this comparison is skipped"
    ]


@pytest.mark.parametrize(
    ("change", "failed", "words"),
    [
        ({"student_over_teacher": Interval(0.94, 0.9, 0.98)}, "student_over_teacher", "0.940"),
        (
            {"student_over_teacher": Interval(0.96, 0.84, 1.08)},
            "student_over_teacher_low",
            "about 1,191 test users would do, there are 1,000",
        ),  # half-width .12, .11 is needed: 1000 * (.12 / .11) ** 2
        ({"student_ndcg10": 0.11}, "above_floors", "counting alone (a chain) reaches 0.1100"),
        ({"floors_ndcg10": {"popularity": 0.13, "a chain": 0.11}}, "above_floors", "(popularity) reaches 0.1300"),
        ({"speedup": Interval(2.1, 1.99, 2.2)}, "speedup_low", "1.99"),
        ({"champion": replace(GOOD.champion, change=Interval(-0.02, -0.05, 0.0))}, "change_to_champion", "-2.0%"),
        ({"champion": replace(GOOD.champion, change=Interval(0.0, -0.11, 0.1))}, "change_to_champion_low", "-11.0%"),
        ({"int8_loss": 0.02}, "int8_loss", "loses 2.00% of its NDCG@10 on validation; at most 1.00% is allowed"),
        ({"index_recall": 0.94}, "index_recall", "finds 94.00% of the ten best items on validation; at least 95.00%"),
        ({"champion": replace(GOOD.champion, as_of="2026-02-01T00:00:00+00:00")}, "champion", "not comparable"),
    ],
)
def test_every_reason_to_hold(change, failed, words):
    verdict = decide(replace(GOOD, **change), Gate(), Serve())
    assert verdict.word == "held"
    reasons = {check.name: check.sentence for check in verdict.checks if check.passed is False}
    assert list(reasons) == [failed]
    assert words in reasons[failed]


def test_more_test_users_are_not_promised_to_help_a_value_that_is_too_low_itself():
    verdict = decide(replace(GOOD, student_over_teacher=Interval(0.94, 0.84, 1.04)), Gate(), Serve())
    reasons = {check.name: check.sentence for check in verdict.checks if check.passed is False}
    assert list(reasons) == ["student_over_teacher", "student_over_teacher_low"]
    assert "too wide" not in "".join(reasons.values())


def test_missing_targets_of_the_champion_are_said():
    verdict = decide(replace(GOOD, champion=replace(GOOD.champion, num_missing_targets=7)), Gate(), Serve())
    assert any("lacks the targets of 7 test users" in check.sentence for check in verdict.checks)

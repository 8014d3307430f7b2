"""Whether a student becomes the champion: a pure decision, with reasons.

All ratios are NDCG@10 in the deciding variant, paired over the same test users.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from distilrec.core.config import Gate, Serve
from distilrec.core.metrics import Interval

PROMOTED, HELD = "promoted", "held"


@dataclass(frozen=True)
class Champion:
    """The present champion against this student.

    Attributes:
        change: (student - champion) / champion.
        as_of: the newest event that it may know, ISO 8601.
        num_missing_targets: test users whose target only the champion does not know; they count as misses.
    """

    version: str
    change: Interval
    as_of: str
    num_missing_targets: int


@dataclass(frozen=True)
class Evidence:
    """Everything the gate looks at.

    Attributes:
        floors_ndcg10: of what counts alone, by its name.
        as_of: the newest event that this run's models may know, ISO 8601.
        int8_loss: share of validation NDCG@10 that the int8 student loses; None if it is not served.
        index_recall: share of the ten best items of validation histories that the index finds; None without one.
    """

    student_over_teacher: Interval
    student_ndcg10: float
    floors_ndcg10: Mapping[str, float]
    speedup: Interval
    num_test_users: int
    as_of: str
    champion: Champion | None
    int8_loss: float | None = None
    index_recall: float | None = None


@dataclass(frozen=True)
class Check:
    """One reason. `passed` is None where the check does not apply, and the sentence says why."""

    name: str
    passed: bool | None
    sentence: str


@dataclass(frozen=True)
class Verdict:
    promote: bool
    checks: tuple[Check, ...]

    @property
    def word(self) -> str:
        return PROMOTED if self.promote else HELD


def decide(evidence: Evidence, gate: Gate, serve: Serve) -> Verdict:
    """Promote if no check fails."""
    checks = (
        _quality(evidence, gate),
        _quality_certainty(evidence, gate),
        _floor(evidence, gate),
        _speed(evidence, gate),
        *_int8(evidence, serve),
        *_index(evidence, serve),
        *_champion(evidence, gate),
    )
    return Verdict(all(check.passed is not False for check in checks), checks)


def _quality(evidence: Evidence, gate: Gate) -> Check:
    value, limit = evidence.student_over_teacher.value, gate.min_student_over_teacher
    sentence = f"the student has {value:.3f} of the teacher's NDCG@10; at least {limit:.3f} is asked"
    return Check("student_over_teacher", value >= limit, sentence)


def _quality_certainty(evidence: Evidence, gate: Gate) -> Check:
    interval, limit = evidence.student_over_teacher, gate.min_student_over_teacher_low
    sentence = f"the lower end of that ratio's 95 % interval is {interval.low:.3f}; at least {limit:.3f} is asked"
    passed = interval.low >= limit
    return Check(
        "student_over_teacher_low",
        passed,
        sentence + ("" if passed else _users_needed(interval, gate.min_student_over_teacher, limit, evidence)),
    )


def _users_needed(interval: Interval, value_limit: float, low_limit: float, evidence: Evidence) -> str:
    """How large the test set would have to be for this value to pass: the interval shrinks with its root. Nothing of a
    value that is too low itself."""
    margin = interval.value - low_limit
    if interval.value < value_limit or margin <= 0 or not math.isfinite(interval.low):
        return ""
    needed = math.ceil(evidence.num_test_users * ((interval.value - interval.low) / margin) ** 2)
    return f". The interval is too wide: about {needed:,} test users would do, there are {evidence.num_test_users:,}"


def _floor(evidence: Evidence, gate: Gate) -> Check:
    student, floors = evidence.student_ndcg10, evidence.floors_ndcg10
    best = max(floors, key=lambda name: floors[name])
    sentence = f"the student's NDCG@10 is {student:.4f}; counting alone ({best}) reaches {floors[best]:.4f}"
    if not gate.above_floors:
        return Check("above_floors", None, sentence + ", which gate.above_floors: false ignores")
    return Check("above_floors", student > floors[best], sentence)


def _speed(evidence: Evidence, gate: Gate) -> Check:
    speedup, limit = evidence.speedup, gate.min_speedup_low
    sentence = (
        f"exported, the student answers {speedup.value:.2f} times faster at p50; the interval's lower end "
        f"{speedup.low:.2f} must be at least {limit:.2f}"
    )
    return Check("speedup_low", speedup.low >= limit, sentence)


def _int8(evidence: Evidence, serve: Serve) -> tuple[Check, ...]:
    loss, limit = evidence.int8_loss, serve.max_int8_loss
    if loss is None:
        return ()
    sentence = f"in int8 the student loses {loss:.2%} of its NDCG@10 on validation; at most {limit:.2%} is allowed"
    return (Check("int8_loss", loss <= limit, sentence),)


def _index(evidence: Evidence, serve: Serve) -> tuple[Check, ...]:
    recall, limit = evidence.index_recall, serve.min_index_recall
    if recall is None:
        return ()
    sentence = f"the index finds {recall:.2%} of the ten best items on validation; at least {limit:.2%} is asked"
    return (Check("index_recall", recall >= limit, sentence),)


def _champion(evidence: Evidence, gate: Gate) -> tuple[Check, ...]:
    champion = evidence.champion
    if champion is None:
        return (Check("champion", None, "the scene has no champion yet; this comparison is skipped"),)
    if champion.as_of > evidence.as_of:
        sentence = f"champion {champion.version} may know events up to {champion.as_of}: not comparable"
        return (Check("champion", False, f"{sentence} with a student that knows none after {evidence.as_of}"),)
    change = champion.change
    value_limit, low_limit = gate.min_change_to_champion, gate.min_change_to_champion_low
    missing = (
        f"; it lacks the targets of {champion.num_missing_targets} test users" if champion.num_missing_targets else ""
    )
    low_passed = change.low >= low_limit
    return (
        Check(
            "change_to_champion",
            change.value >= value_limit,
            f"against champion {champion.version} NDCG@10 changes by {change.value:+.1%}; "
            f"at least {value_limit:+.1%} is asked{missing}",
        ),
        Check(
            "change_to_champion_low",
            low_passed,
            f"the lower end of that change's 95 % interval is {change.low:+.1%}; at least {low_limit:+.1%} is asked"
            + ("" if low_passed else _users_needed(change, value_limit, low_limit, evidence)),
        ),
    )

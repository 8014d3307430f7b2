"""Every part by name, in the order in which they are run."""

from benchmarks.adarec import demo, estimators, ml1m
from benchmarks.command import Part

PARTS: dict[str, Part] = {
    "estimators": estimators.estimators,
    "searched": ml1m.searched,
    "handmade": ml1m.handmade,
    "undistilled": ml1m.undistilled,
    "random": ml1m.random_architectures,
    "more_seeds": ml1m.more_seeds,
    "plain": ml1m.plain,
    "latency_budget": demo.latency_budget,
    "demo": demo.demo,
}

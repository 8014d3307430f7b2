"""Every part by name, in the order in which they are run: later ones may need the measurements of earlier ones."""

from benchmarks.command import Part
from benchmarks.throughput import against_peers, alone

PARTS: dict[str, Part] = {
    "epoch": against_peers.epoch,
    "epoch_tuned": against_peers.epoch_tuned,
    "ranking_metrics": against_peers.ranking_metrics,
    "checkpoint": alone.checkpoint,
    "padding": alone.padding,
    "choices": alone.choices,
    "profile": alone.profile,
    "million": alone.million,
    "peer_quality": against_peers.peer_quality,
    "train_to_quality": against_peers.train_to_quality,
    "ml1m": alone.ml1m,
    "teacher_outputs": alone.teacher_outputs,
}

"""Which epochs of a training have a checkpoint: asked without reading a tensor."""

from distilrec.io.store import Store


def prefix_of(scene: str, step: str, content: str) -> str:
    """Where a training's checkpoints are kept in the store."""
    return f"checkpoints/{scene}/{step}-{content}"


def saved_epochs(store: Store, prefix: str) -> list[int]:
    """In order. The JSON file is written last, so it says that the tensors are there."""
    names = (key.rsplit("/", 1)[1] for key in store.keys(prefix))
    return sorted(int(name.removesuffix(".json")) for name in names if name.endswith(".json"))


def last_epoch(store: Store, scene: str, step: str, content: str) -> int:
    """0 if there is none."""
    return max(saved_epochs(store, prefix_of(scene, step, content)), default=0)

"""The latency table that a scene names, if it belongs to the scene's student and to this machine."""

import json
from importlib.metadata import version

from distilrec.core.config import SceneConfig
from distilrec.core.errors import ConfigError
from distilrec.core.latency import LatencyTable, Place
from distilrec.io.files import text_at
from distilrec.io.machine import describe_machine


def place_of(config: SceneConfig, num_items: int) -> Place:
    """What a latency of this scene's student on this machine depends on."""
    is_transformer = config.search.space == "transformer"
    return Place(
        device=str(describe_machine()["cpu"]),
        runtime=f"onnxruntime {version('onnxruntime')}",
        threads=config.benchmark.threads,
        width=config.search.width,
        num_nodes=0 if is_transformer else config.search.num_nodes,
        max_length=config.max_length,
        num_items=num_items,
        kind=config.search.transformer.kind() if is_transformer else "cell",
    )


def latency_table(config: SceneConfig, num_items: int) -> LatencyTable | None:
    """None if the scene names none.

    Raises:
        ConfigError: it cannot be read, or was measured elsewhere or for another student.
    """
    if not config.search.latency_table:
        return None
    path = config.search.latency_table
    try:
        table = LatencyTable.from_json(json.loads(text_at(path)))
    except OSError as error:
        raise ConfigError("DR-CONF-007", f"search.latency_table {path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError("DR-CONF-007", f"search.latency_table {path} is not a latency table") from None
    differences = table.place.differences(place_of(config, num_items))
    if differences:
        raise ConfigError("DR-CONF-007", f"search.latency_table {path}: {'; '.join(differences)}")
    return table

"""Reading YAML: one document, no key twice, none without a value; what is wrong is one sentence that names the line."""

from typing import Any

import yaml

from distilrec.core.errors import ConfigError

NO_VALUE = "has no value: write {} for what is named as it is by default, or null"


def read_yaml(text: str | bytes, what: str) -> Any:
    """Raises ConfigError, which calls the text `what`."""
    try:
        loader = _Loader(text)
        return loader.get_single_data()
    except yaml.YAMLError as error:
        raise ConfigError("DR-CONF-001", f"{what} is not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        words = f"{what} has brackets in brackets, hundreds deep, on line {loader.line + 1}"
        raise ConfigError("DR-CONF-001", words) from None


class _Loader(yaml.SafeLoader):
    """PyYAML lets the last of equal keys win, and says of some values only which key of its own they lack."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Before `<<` is resolved, which may bring a key a second time."""
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, value in ((key, value) for key, value in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"key {key.value!r} is written twice", problem_mark=key.start_mark)
            if isinstance(value, yaml.ScalarNode) and not value.value and not value.style:
                raise yaml.MarkedYAMLError(problem=f"key {key.value!r} {NO_VALUE}", problem_mark=key.start_mark)
            seen.add(key.value)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError):
            problem = f"{node.value!r} is no {node.tag.rpartition(':')[2]}"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from None

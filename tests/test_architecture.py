"""Who may import whom, and that no knob is dead."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from distilrec.core import config as configs

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "distilrec"
OUTSIDE = {"mlflow", "kfp", "boto3", "onnxruntime", "onnx", "pyarrow", "matplotlib", "rich", "typer", "jinja2", "yaml"}
OUTSIDE |= {"kfp_server_api"}
IMPURE = OUTSIDE | {"os", "pathlib", "logging", "time", "subprocess", "requests", "socket", "tempfile", "shutil"}


def _imports(path: Path, inside_functions: bool = True) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = ast.walk(tree) if inside_functions else iter(tree.body)
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _crossing(folder: Path, *forbidden: str) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sorted(folder.rglob("*.py"))
        for name in sorted(_imports(path))
        if any(name == one or name.startswith(one + ".") for one in forbidden)
    ]


def test_core_is_pure():
    assert (
        _crossing(SOURCE / "core", *IMPURE, "distilrec.io", "distilrec.steps", "distilrec.entry", "distilrec.cli") == []
    )


def test_io_sees_only_core_and_steps_see_only_io_and_core():
    above = ("distilrec.entry", "distilrec.cli", "distilrec.runner", "distilrec.display")
    assert _crossing(SOURCE / "io", "distilrec.steps", *above) == []
    assert _crossing(SOURCE / "steps", *above, "mlflow", "kfp", "onnxruntime", "matplotlib", "jinja2", "yaml") == []


def test_only_entry_composes():
    for path in sorted(SOURCE.glob("*.py")):
        if path.name != "entry.py":
            assert not any(name.startswith("distilrec.steps") for name in _imports(path)), path


def test_what_is_served_imports_nothing_of_ours_and_no_torch():
    assert _crossing(SOURCE / "serving", "distilrec", "torch") == []


@pytest.mark.parametrize(
    "path", sorted((ROOT / "components").glob("*/component.py")), ids=lambda path: path.parent.name
)
def test_components_are_doorways(path):
    top = _imports(path, inside_functions=False)
    allowed = {name for name in top if name.split(".")[0] in sys.stdlib_module_names or name.startswith("kfp")}
    assert top - allowed == {"distilrec.components.IMAGE"}
    assert _imports(path) - top == {"distilrec.entry"}
    assert not [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.If)]


def test_each_sdk_has_one_home():
    homes = {
        "mlflow": {"mlflow_server.py", "ranker_model.py"},
        "onnxruntime": {"export.py", "distilrec_ranker.py"},
        "faiss": {"rankers.py", "distilrec_ranker.py"},
        "kfp_server_api": {"kubeflow.py"},
    }
    for sdk, files in homes.items():
        users = {path.name for path in SOURCE.rglob("*.py") if any(n.split(".")[0] == sdk for n in _imports(path))}
        assert users == files


def test_nothing_is_unpickled_or_evaluated():
    for path in sorted(
        [*SOURCE.rglob("*.py"), *(ROOT / "components").rglob("*.py"), *(ROOT / "pipelines").rglob("*.py")]
    ):
        assert not {name.split(".")[0] for name in _imports(path)} & {"pickle", "cloudpickle", "dill", "joblib"}, path
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in {"eval", "exec", "torch.load", "yaml.load", "pickle.loads", "np.load"}, (
                    path,
                    called,
                )


def test_every_setting_is_read_somewhere():
    fields = {
        name
        for kind in vars(configs).values()
        if isinstance(kind, type) and issubclass(kind, BaseModel)
        for name in kind.model_fields
    }
    read = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                read.add(node.attr)
    tags = {"source", "space", "model"}  # literals with one value each: pydantic itself reads them
    assert fields - read - tags == set()


@pytest.mark.parametrize("step", ["prepare", "evaluate", "promote"])
def test_steps_that_train_nothing_need_no_torch(step):
    program = f"import sys, distilrec.steps.{step}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)

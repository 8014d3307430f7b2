"""Writes what is generated and committed: compiled YAML and docs/errors.md. `make golden`."""

from pathlib import Path

import yaml
from distilrec.pipelines.retrain_scene import retrain_scene
from kfp import compiler

from distilrec import components
from distilrec.core.errors import CATALOGUE
from distilrec.core.estimate import STEPS

ROOT = Path(__file__).resolve().parents[1]


def component_of(step: str) -> object:
    module = __import__(f"{components.__name__}.{step}", fromlist=[step])
    return getattr(module, step)


def compiled(what: object, folder: Path) -> str:
    """The YAML as committed: the SDK's version is not in it, because it says nothing of the pipeline."""
    target = folder / "compiled.yaml"
    compiler.Compiler().compile(what, str(target))
    return normalised(target.read_text(encoding="utf-8"))


def normalised(text: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("sdkVersion:"))


def golden_files() -> dict[Path, object]:
    files = {ROOT / "components" / step / "component.yaml": component_of(step) for step in STEPS}
    return files | {ROOT / "pipelines" / "retrain_scene" / "pipeline.yaml": retrain_scene}


def errors_page() -> str:
    rows = "".join(f"| `{code}` | {kind.meaning} | {kind.fix} |\n" for code, kind in CATALOGUE.items())
    return (
        "# Errors\n\nEvery refusal is one sentence with one of these codes, on the terminal and in `error.json`.\n"
        "Exit codes: 0 done, 1 our fault, 2 the input, 3 held under `--require-promotion`, 130 interrupted.\n\n"
        f"| code | what happened | what to do |\n| --- | --- | --- |\n{rows}"
    )


def main() -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        for path, what in golden_files().items():
            text = compiled(what, Path(folder))
            assert list(yaml.safe_load_all(text))
            path.write_text(text, encoding="utf-8")
    (ROOT / "docs" / "errors.md").write_text(errors_page(), encoding="utf-8")


if __name__ == "__main__":
    main()

"""An installed package has every file of the tree; the tests run an editable one, where nothing can be missing."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {"src/distilrec": "distilrec", "components": "distilrec/components", "pipelines": "distilrec/pipelines"}
BUILD = "import setuptools, sys; setuptools.setup(script_args=['--quiet', 'build_py', '--build-lib', sys.argv[1]])"
"""By the field's own tool: `pip install` puts the same files."""


def _files(folder: Path) -> set[str]:
    return {str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file() and one.suffix != ".pyc"}


def test_what_is_installed_is_the_whole_tree(tmp_path):
    clone, built = tmp_path / "clone", tmp_path / "built"
    for name in ("src", "components", "pipelines"):
        shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("setup.cfg", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, clone / name)
    subprocess.run([sys.executable, "-W", "ignore", "-c", BUILD, str(built)], cwd=clone, check=True)
    expected = {f"{to}/{name}" for folder, to in FOLDERS.items() for name in _files(clone / folder)}
    assert _files(built) == expected

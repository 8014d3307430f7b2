"""What the README says, done."""

import random
import re
import shlex
import subprocess

import pytest
import yaml

from tests.conftest import ROOT
from tests.test_cli import DISTILREC

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, flags=re.DOTALL)


def test_every_link_leads_somewhere():
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), (page.name, link)


def test_every_make_target_exists():
    named = set(re.findall(r"make ([a-z-]+)", README + (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert named and named <= targets


def test_a_users_own_data_as_the_readme_says(tmp_path):
    (scene,) = (text for kind, text in BLOCKS if kind == "yaml")
    (tmp_path / "shop.yaml").write_text(scene)
    random.seed(0)
    rows = [f"c{user},s{random.randrange(40)},{event}" for user in range(80) for event in range(9)]
    (tmp_path / "events.csv").write_text("customer,sku,bought_at\n" + "\n".join(rows) + "\n")
    commands = [line for _, text in BLOCKS for line in text.splitlines() if line.startswith(".venv/bin/distilrec")]
    assert [shlex.split(command)[1] for command in commands] == ["plan", "run"]
    for command in commands:
        words = shlex.split(command.replace(".venv/bin/distilrec", DISTILREC))
        if words[1] == "run":  # the run itself is tests/test_pipeline.py's; here its options are understood
            words.append("--help")
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
    plan = subprocess.run([DISTILREC, "plan", "shop.yaml"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert "80 users, 40 items, 720 events" in plan.stdout


@pytest.mark.parametrize("scene", sorted((ROOT / "scenes").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_scenes_that_come_along_are_valid(scene):
    from distilrec.io.scenes import load_scene

    assert load_scene(str(scene)).scene == scene.stem


def _blocks(kind: str) -> list:
    pages = sorted((ROOT / "docs").glob("*.md"))
    pattern = re.compile(rf"^```{kind}\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
    found = [(page, text) for page in pages for text in pattern.findall(page.read_text(encoding="utf-8"))]
    return [pytest.param(text, id=f"{page.stem}-{index}") for index, (page, text) in enumerate(found)]


@pytest.mark.parametrize("text", _blocks("yaml"))
def test_settings_shown_in_the_docs_are_valid(text):
    from distilrec.core.schedules import Schedules
    from distilrec.io.scenes import load_scene

    if text.startswith("pipeline:"):
        assert Schedules.model_validate(yaml.safe_load(text)).schedules
        return
    missing = "" if text.startswith("scene:") else "scene: shop\ndata: {source: synthetic}\n"
    assert load_scene(missing + text).scene


@pytest.mark.parametrize("text", _blocks(""))
def test_commands_shown_in_the_docs_are_understood(text, tmp_path):
    commands = [line for line in text.splitlines() if line.startswith("distilrec ")]
    for command in commands:
        words = [DISTILREC, *shlex.split(command)[1:], "--help"]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr

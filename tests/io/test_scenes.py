import pytest

from distilrec.core.config import SceneConfig
from distilrec.core.errors import ConfigError
from distilrec.io.scenes import load_scene
from distilrec.io.yamls import read_yaml

GOOD = "scene: shop\ndata: {source: synthetic}\n"


def _refused(text, code, *words, overrides=""):
    with pytest.raises(ConfigError) as caught:
        load_scene(text, overrides)
    assert caught.value.code == code
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("scene: [\n", "DR-CONF-001", ("YAML",)),
        ("- scene\n", "DR-CONF-001", ("list",)),
        (GOOD + "teach: {widht: 3}\n", "DR-CONF-002", ("teach.widht", "'width'")),
        (GOOD + "taech: {}\n", "DR-CONF-002", ("taech", "'teach'")),
        ("scene: shop\ndata: {source: synthetic, num_user: 3}\n", "DR-CONF-002", ("data.num_user", "'num_users'")),
        ("scene: shop\ndata: {source: file, path: x, colums: {}}\n", "DR-CONF-002", ("data.colums", "'columns'")),
        (GOOD + "teach: {width: 2}\n", "DR-CONF-003", ("teach.width = 2", "4")),
        (GOOD + "search: {distillation: {share: 2}}\n", "DR-CONF-003", ("search.distillation.share = 2", "1")),
        (GOOD + "teach: {learning_rate: .nan}\n", "DR-CONF-003", ("teach.learning_rate",)),
        ("scene: shop\ndata: {source: sinthetic}\n", "DR-CONF-003", ("data", "synthetic")),
        ("scene: shop\n# no data\n", "DR-CONF-003", ("data is missing",)),
        ("scene: My/Shop\ndata: {source: synthetic}\n", "DR-CONF-004", ("My/Shop", "48")),
        ("scene: a\ndata: {source: synthetic}\n", "DR-CONF-004", ("'a'",)),
        (GOOD + "teach: {width: 33}\n", "DR-CONF-005", ("33", "2")),
        (GOOD + "search: {temperature_end: 2}\n", "DR-CONF-005", ("2.0", "1.0")),
        (GOOD + "search: {epochs: 2}\n", "DR-CONF-005", ("2", "architecture_after")),
        ("scene: shop\ndata: {source: file, path: ~nosuchuser/a}\n", "DR-CONF-003", ("~nosuchuser", "home folder")),
        (GOOD + "seed: 2024-02-30\n", "DR-CONF-001", ("'2024-02-30'", "line 3")),
        (GOOD + "seed: !!bool foo\n", "DR-CONF-001", ("'foo' is no bool", "line 3")),
        (GOOD + "teach: {width: 8}\nteach: {num_heads: 1}\n", "DR-CONF-001", ("'teach' is written twice", "line 4")),
        (GOOD + "prepare: {valid_days: 3}\n", "DR-CONF-005", ("valid_days 3", "split temporal")),
        (GOOD + "retrain: {terms: {de: {}, rrd: }}\n", "DR-CONF-001", ("'rrd' has no value: write {}", "line 3")),
        (GOOD + "retrain: {terms: {rrd: {num_interesting: 200}}}\n", "DR-CONF-005", ("terms.rrd draws 200", "128")),
        (
            GOOD + "retrain: {terms: {de: {temperature_start: 0.1, temperature_end: 5}}}\n",
            "DR-CONF-005",
            ("5.0", "0.1"),
        ),
        (GOOD + "retrain: {terms: {cd: {}}, distillation: {share: 0}}\n", "DR-CONF-005", ("terms cd", "share is 0")),
        (
            GOOD + "search: {space: adarec-as-released}\nretrain: {terms: {de: {}, rd: {}}}\n",
            "DR-CONF-005",
            ("terms de, rd", "adarec-as-released"),
        ),
        (GOOD + "x: " + "[" * 3000, "DR-CONF-001", ("hundreds deep", "line 3")),
    ],
)
def test_bad_scenes(text, code, words):
    _refused(text, code, *words)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ("teach.width", ("key.key=value",)),
        ("retrain.terms.de=", ("'retrain.terms.de=' has no value", "{}", "null")),
        ("scene.x=1", ("scene has no keys",)),
        ("teach.max_epochs=0", ("teach.max_epochs = 0",)),
    ],
)
def test_bad_overrides(overrides, words):
    _refused(GOOD, "DR-CONF-003", *words, overrides=overrides)


def test_overrides_and_relative_paths(tmp_path):
    (tmp_path / "scene.yaml").write_text("scene: shop\ndata: {source: file, path: log.csv, items: {path: i.csv}}\n")
    config = load_scene(str(tmp_path / "scene.yaml"), "teach.max_epochs=7 data.time_unit=ms")
    assert config.teach.max_epochs == 7
    assert (config.data.path, config.data.items.path) == (str(tmp_path / "log.csv"), str(tmp_path / "i.csv"))
    assert SceneConfig.model_validate(config.model_dump()) == config


def test_what_is_merged_in_may_be_written_again():
    text = "teach: {masked: &m {max_epochs: 3, width: 1}}\nretrain: {<<: *m, max_epochs: 4}\n"
    assert read_yaml(text, "scene")["retrain"] == {"max_epochs": 4, "width": 1}


def test_a_scene_file_that_is_not_there(tmp_path):
    _refused(str(tmp_path / "none.yaml"), "DR-CONF-001", "none.yaml", "No such file")

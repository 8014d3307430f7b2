"""Kubeflow Pipelines over its v2beta1 API: pipelines, versions, experiments and recurring runs; what it refuses, as one
sentence. The generated client is called as it is: `kfp.Client` prints, writes into the home folder and retries.

Nothing is retried: a call whose answer was lost may have had its effect, and only reading again tells.
"""

import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from urllib3.exceptions import HTTPError

from distilrec.core.errors import KubeflowError
from distilrec.core.schedules import Compiled, Found, Wanted, mark_of

SECONDS_TO_ANSWER = (10, 60)
"""To connect, and to answer."""
PAGE = 100
OLDEST = (2, 17)


class Kubeflow:
    """Nothing is imported or opened before it is needed.

    Attributes:
        namespace: only in Kubeflow for several users.
    """

    def __init__(self, address: str, token: str, namespace: str | None) -> None:
        """Raises KubeflowError: the address is none, the token cannot be one, or there is no client."""
        self.where = address.rsplit("@", 1)[-1]  # what stands before may be a password
        if not re.match(r"https?://[^/]", address):
            raise KubeflowError(
                "DR-KFP-002", f"Kubeflow's address {self.where!r} does not begin with http:// or https://"
            )
        if not re.fullmatch(r"[!-~]*", token):
            raise KubeflowError("DR-KFP-001", "the token for Kubeflow has characters that no token has")
        try:
            import kfp_server_api
        except ImportError:
            raise KubeflowError("DR-KFP-006", "kfp_server_api is not installed, with which Kubeflow is asked") from None
        self._api = kfp_server_api
        configuration = kfp_server_api.Configuration(host=address.rstrip("/"))
        configuration.retries = False
        if token:
            configuration.api_key, configuration.api_key_prefix = {"authorization": token}, {"authorization": "Bearer"}
        self.namespace = namespace
        self._client = kfp_server_api.ApiClient(configuration)
        self._pipelines = kfp_server_api.PipelineServiceApi(self._client)
        self._uploads = kfp_server_api.PipelineUploadServiceApi(self._client)
        self._experiments = kfp_server_api.ExperimentServiceApi(self._client)
        self._recurring = kfp_server_api.RecurringRunServiceApi(self._client)

    def require_usable(self) -> None:
        """v2beta1 itself does not tell its version. v1beta1's health does, as the tag of the server's image; a server
        without v1beta1, or whose image has a tag that is no version, passes.

        Raises:
            KubeflowError: it does not answer, refuses, is no Kubeflow Pipelines, is older than 2.17, or is for several
                users and no namespace is named.
        """
        health = self._ask(self._api.HealthzServiceApi(self._client).healthz_service_get_healthz, missing="DR-KFP-002")
        if health.multi_user is None:
            raise KubeflowError("DR-KFP-002", f"{self.where} answers, but not as Kubeflow Pipelines does")
        tag = self._tag()
        release = re.match(r"v?(\d+)\.(\d+)", tag)
        if release and (int(release[1]), int(release[2])) < OLDEST:
            raise KubeflowError("DR-KFP-003", f"Kubeflow Pipelines at {self.where} is {tag}, older than 2.17")
        if health.multi_user and not self.namespace:
            raise KubeflowError("DR-KFP-005", f"Kubeflow at {self.where} has several users, and `namespace` is not set")

    def _tag(self) -> str:
        def health(**options: Any) -> Any:
            path, types = "/apis/v1beta1/healthz", {"Accept": "application/json"}
            keys = {"auth_settings": ["Bearer"], "response_type": "object", "_return_http_data_only": True}
            return self._client.call_api(path, "GET", header_params=types, **keys, **options)

        try:
            answer = self._ask(health, missing="DR-KFP-002")
        except KubeflowError as error:
            if error.code == "DR-KFP-002":
                return ""
            raise
        return str(answer.get("tag_name", "")) if isinstance(answer, Mapping) else ""

    def pipeline(self, name: str) -> str:
        """Its id, or nothing."""
        found = self._all(self._pipelines.pipeline_service_list_pipelines, "pipelines", **self._in_namespace())
        return next((str(one.pipeline_id) for one in found if one.name == name), "")

    def version(self, pipeline_id: str, compiled: Compiled) -> str:
        """The id of the version with these bytes, whatever distilrec uploaded it, or nothing."""
        predicate = {"operation": "IS_SUBSTRING", "key": "name", "string_value": compiled.mark}
        call = self._pipelines.pipeline_service_list_pipeline_versions
        asked = json.dumps({"predicates": [predicate]})
        found = self._all(call, "pipeline_versions", pipeline_id, filter=asked)
        ids = [str(one.pipeline_version_id) for one in found if str(one.name).endswith(compiled.mark)]
        return min(ids, default="")

    def experiment(self, name: str) -> str:
        """Its id, or nothing."""
        found = self._all(self._experiments.experiment_service_list_experiments, "experiments", **self._in_namespace())
        return next((str(one.experiment_id) for one in found if one.display_name == name), "")

    def runs(self) -> tuple[Found, ...]:
        """All recurring runs that distilrec made, of every experiment, in no order."""
        call = self._recurring.recurring_run_service_list_recurring_runs
        found = self._all(call, "recurring_runs", **self._in_namespace())
        return tuple(_found(one, mark) for one in found if (mark := mark_of(one.description or "")))

    def make_pipeline(self, name: str) -> str:
        body = self._api.V2beta1Pipeline(name=name, display_name=name, **self._in_namespace())
        return str(self._ask(self._pipelines.pipeline_service_create_pipeline, body).pipeline_id)

    def make_experiment(self, name: str) -> str:
        body = self._api.V2beta1Experiment(display_name=name, **self._in_namespace())
        return str(self._ask(self._experiments.experiment_service_create_experiment, body).experiment_id)

    def upload(self, pipeline_id: str, name: str, compiled: Compiled) -> str:
        """The bytes that were read and hashed, whatever has become of their file. Returns the version's id."""
        with tempfile.TemporaryDirectory(prefix="distilrec-") as folder:
            file = Path(folder) / "pipeline.yaml"
            file.write_bytes(compiled.text)
            made = self._ask(self._uploads.upload_pipeline_version, str(file), name=name, pipelineid=pipeline_id)
        return str(made.pipeline_version_id)

    def create(self, want: Wanted, name: str, pipeline_id: str, version_id: str, experiment_id: str) -> str:
        """Disabled, one run at a time, without catching up on what was missed. Returns the recurring run's id."""
        api = self._api
        body = api.V2beta1RecurringRun(
            display_name=name,
            description=want.description,
            pipeline_version_reference=api.V2beta1PipelineVersionReference(pipeline_id, version_id),
            runtime_config=api.V2beta1RuntimeConfig(parameters=dict(want.parameters)),
            service_account=want.service_account,
            max_concurrency="1",
            trigger=api.V2beta1Trigger(cron_schedule=api.V2beta1CronSchedule(cron=want.cron)),
            mode="DISABLE",
            no_catchup=True,
            experiment_id=experiment_id,
            **self._in_namespace(),
        )
        return str(self._ask(self._recurring.recurring_run_service_create_recurring_run, body).recurring_run_id)

    def enable(self, run_id: str) -> None:
        self._ask(self._recurring.recurring_run_service_enable_recurring_run, run_id)

    def disable(self, run_id: str) -> None:
        self._ask(self._recurring.recurring_run_service_disable_recurring_run, run_id)

    def _in_namespace(self) -> dict[str, str]:
        return {"namespace": self.namespace} if self.namespace else {}

    def _all(self, call: Callable[..., Any], items: str, *arguments: Any, **query: Any) -> Iterator[Any]:
        """Page by page."""
        token = ""
        while True:
            page = self._ask(call, *arguments, page_size=PAGE, page_token=token, **query)
            yield from getattr(page, items) or []
            token = page.next_page_token or ""
            if not token:
                return

    def _ask(self, call: Callable[..., Any], *arguments: Any, missing: str = "DR-KFP-005", **query: Any) -> Any:
        """`missing`: the code of a 404."""
        try:
            return call(*arguments, _request_timeout=SECONDS_TO_ANSWER, **query)
        except self._api.ApiException as error:
            raise self._refused(int(error.status or 0), str(error.body or ""), missing) from None
        except HTTPError as error:
            raise KubeflowError("DR-KFP-004", f"Kubeflow at {self.where} does not answer: {_reason(error)}") from None
        except AttributeError:  # the client's own, where TLS fails
            raise KubeflowError("DR-KFP-004", f"Kubeflow at {self.where} does not answer: TLS fails") from None
        except ValueError:
            raise KubeflowError("DR-KFP-002", f"{self.where} answers, but not as Kubeflow Pipelines does") from None

    def _refused(self, status: int, body: str, missing: str) -> KubeflowError:
        words = _words(body)
        why = f"{status}: {words}" if words else str(status)
        if status in (401, 403) or 300 <= status < 400:  # a redirection leads to a page where people log in
            return KubeflowError("DR-KFP-001", f"Kubeflow at {self.where} refuses these credentials ({why})")
        if status == 404 and missing == "DR-KFP-002":
            return KubeflowError(missing, f"{self.where} has no v2beta1 API of Kubeflow Pipelines (404)")
        if status >= 500:
            return KubeflowError("DR-KFP-004", f"Kubeflow at {self.where} fails ({why})")
        return KubeflowError("DR-KFP-005", f"Kubeflow at {self.where} refuses ({why})")


def _found(run: Any, mark: tuple[str, str]) -> Found:
    trigger, config, reference = run.trigger, run.runtime_config, run.pipeline_version_reference
    return Found(
        id=str(run.recurring_run_id),
        name=str(run.display_name or ""),
        scene=mark[0],
        content=mark[1],
        is_enabled=run.status != "DISABLED",
        created=run.created_at.timestamp() if run.created_at else 0.0,
        cron=str(trigger.cron_schedule.cron) if trigger and trigger.cron_schedule else "",
        parameters=(config.parameters or {}) if config else {},
        service_account=str(run.service_account or ""),
        version_id=str(reference.pipeline_version_id or "") if reference else "",
        experiment_id=str(run.experiment_id or ""),
    )


def _words(body: str) -> str:
    """The server's reason, on one line; nothing of a page made for people."""
    try:
        answer = json.loads(body)
    except ValueError:
        return ""
    names = ("message", "error_message", "error")
    words = next((str(answer[name]) for name in names if answer.get(name)), "") if isinstance(answer, dict) else ""
    return " ".join(words.split())[:300]


def _reason(error: HTTPError) -> str:
    return " ".join(str(error).rsplit(": ", 1)[-1].strip("()'\" ").split())

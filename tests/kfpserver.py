"""A small Kubeflow Pipelines for tests: a real HTTP server that keeps its state in memory.

It is held to the published description of the API, from which `kfp_server_api` was generated: its routes, their query
parameters, the fields of every request and answer, their types and enumerations are read from there, and anything else
is refused. Lists come in pages of two and in no order. What it cannot tell is whether the real server means the same.
"""

import base64
import hashlib
import inspect
import json
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qsl, urlsplit

import kfp_server_api

from distilrec.core.schedules import mark_of

SERVICES = [
    kfp_server_api.HealthzServiceApi,
    kfp_server_api.PipelineServiceApi,
    kfp_server_api.PipelineUploadServiceApi,
    kfp_server_api.ExperimentServiceApi,
    kfp_server_api.RecurringRunServiceApi,
]
BODIES = {
    "pipeline_service_create_pipeline": "V2beta1Pipeline",
    "experiment_service_create_experiment": "V2beta1Experiment",
    "recurring_run_service_create_recurring_run": "V2beta1RecurringRun",
}
NATIVE = {"str": str, "int": int, "bool": bool, "object": object}
PAGE = 2
CREATED = "2026-01-02T03:04:05Z"
"""Of everything: the real server's seconds are shared by many too."""


def _routes() -> list[tuple[str, str, re.Pattern[str], str, set[str]]]:
    found = []
    for service in SERVICES:
        for name, method in inspect.getmembers(service):
            if name.endswith("_with_http_info"):
                source = inspect.getsource(method)
                path, verb = re.search(r"call_api\(\s*'(\S+)', '(\S+)'", source).groups()
                pattern = re.compile(re.sub(r"\\\{[\w.\\]+\\\}", "([^/:]+)", re.escape(path)))
                kind = re.search(r"response_type='([\w(), ]+)'", source)[1]
                query = set(re.findall(r"query_params.append\(\('(\w+)'", source))
                found.append((name.removesuffix("_with_http_info"), verb, pattern, kind, query))
    return found


ROUTES = _routes()


def require_kind(value: object, kind: str) -> None:
    """Asserts that the value is what the API's description says."""
    if kind == "datetime":
        datetime.fromisoformat(value)
    elif kind in NATIVE:
        assert type(value) is NATIVE[kind] or kind == "object", (value, kind)
    elif kind.startswith("list["):
        assert isinstance(value, list)
        for one in value:
            require_kind(one, kind[5:-1])
    elif kind.startswith("dict("):
        assert isinstance(value, dict)
        for one in value.values():
            require_kind(one, kind[5:-1].split(", ")[1])
    else:
        described = getattr(kfp_server_api, kind)
        if hasattr(described, "allowable_values"):
            assert value in described.allowable_values, (value, kind)
            return
        types = {described.attribute_map[name]: one for name, one in described.openapi_types.items()}
        assert isinstance(value, dict)
        assert value.keys() <= types.keys(), (kind, value.keys() - types.keys())
        for name, one in value.items():
            require_kind(one, types[name])


class Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        self.status, self.message = status, message


class KfpServer:
    """Attributes:
    calls: the operations asked for, in order, health and lists included.
    fail_at: index of the call that fails, and how: "before" answers 500 and does nothing, "after" does it and answers
        500, "dropped" does it and closes the connection without an answer.
    most_enabled: the most enabled recurring runs that one scene ever had.
    answer: if set, the status of every answer.
    """

    def __init__(self) -> None:
        self.pipelines: dict[str, dict] = {}
        self.versions: dict[str, dict] = {}
        self.uploads: list[bytes] = []
        self.experiments: dict[str, dict] = {}
        self.runs: dict[str, dict] = {}
        self.calls: list[str] = []
        self.fail_at: tuple[int, str] | None = None
        self.most_enabled = 0
        self.answer: int | None = None
        self.tag: str | None = "2.17.0"
        self.is_multi_user = False
        self.token = ""
        self.address = ""

    # What the tests ask

    def enabled(self, scene: str) -> list[dict]:
        runs = [run for run in self.runs.values() if run["status"] == "ENABLED"]
        return [run for run in runs if (mark_of(run["description"]) or ("",))[0] == scene]

    def changes(self) -> list[str]:
        return [call for call in self.calls if not re.search("healthz|_list_", call)]

    def snapshot(self) -> str:
        return json.dumps([self.pipelines, self.versions, self.experiments, self.runs], sort_keys=True)

    # Operations: named as in the generated client

    def healthz_service_get_healthz(self) -> dict:
        return {"multi_user": self.is_multi_user, "pipeline_store": "database"}

    def pipeline_service_list_pipelines(self, **query: str) -> dict:
        return self._page("pipelines", self.pipelines, query)

    def pipeline_service_create_pipeline(self, body: dict) -> dict:
        if any(one["name"] == body["name"] for one in self.pipelines.values()):
            raise Refused(409, f"pipeline {body['name']} already exists")
        return self._keep(self.pipelines, "pipeline_id", body)

    def pipeline_service_list_pipeline_versions(self, pipeline_id: str, **query: str) -> dict:
        here = {key: one for key, one in self.versions.items() if one["pipeline_id"] == pipeline_id}
        return self._page("pipeline_versions", here, query)

    def upload_pipeline_version(self, body: bytes, name: str, pipelineid: str) -> dict:
        if pipelineid not in self.pipelines:
            raise Refused(404, f"no pipeline {pipelineid}")
        if any(one["name"] == name and one["pipeline_id"] == pipelineid for one in self.versions.values()):
            raise Refused(409, "Failed to create a pipeline version")
        self.uploads.append(body)
        return self._keep(
            self.versions, "pipeline_version_id", {"pipeline_id": pipelineid, "name": name, "display_name": name}
        )

    def experiment_service_list_experiments(self, **query: str) -> dict:
        return self._page("experiments", self.experiments, query)

    def experiment_service_create_experiment(self, body: dict) -> dict:
        if any(one["display_name"] == body["display_name"] for one in self.experiments.values()):
            raise Refused(409, f"experiment {body['display_name']} already exists")
        return self._keep(self.experiments, "experiment_id", {**body, "storage_state": "AVAILABLE"})

    def recurring_run_service_list_recurring_runs(self, **query: str) -> dict:
        return self._page("recurringRuns", self.runs, query)

    def recurring_run_service_create_recurring_run(self, body: dict) -> dict:
        reference = body["pipeline_version_reference"]
        if not 1 <= int(body["max_concurrency"]) <= 10:
            raise Refused(400, "The max concurrency of the recurring run is out of range")
        if self.versions.get(reference["pipeline_version_id"], {}).get("pipeline_id") != reference["pipeline_id"]:
            raise Refused(400, "no such version")
        if body["experiment_id"] not in self.experiments:
            raise Refused(404, "no such experiment")
        if len(json.dumps(body["runtime_config"]["parameters"], ensure_ascii=False).encode()) > 10_000:
            raise Refused(400, "The input parameter length exceed maximum size of 10000")
        status = {"ENABLE": "ENABLED", "DISABLE": "DISABLED"}[body["mode"]]
        return self._keep(self.runs, "recurring_run_id", {**body, "status": status})

    def recurring_run_service_enable_recurring_run(self, run_id: str) -> dict:
        return self._turn(run_id, "ENABLE", "ENABLED")

    def recurring_run_service_disable_recurring_run(self, run_id: str) -> dict:
        return self._turn(run_id, "DISABLE", "DISABLED")

    # How they work

    def _turn(self, run_id: str, mode: str, status: str) -> dict:
        if run_id not in self.runs:
            raise Refused(404, f"no recurring run {run_id}")
        self.runs[run_id] |= {"mode": mode, "status": status}
        return {}

    def _keep(self, where: dict[str, dict], key: str, body: dict) -> dict:
        new = str(uuid.uuid4())
        where[new] = {**body, key: new, "created_at": CREATED}
        return where[new]

    def _page(self, name: str, found: dict[str, dict], query: dict[str, str]) -> dict:
        rows = [found[key] for key in sorted(found, key=lambda key: hashlib.sha256(key.encode()).digest())]
        asked = query.get("filter") or "{}"
        require_kind(json.loads(asked), "V2beta1Filter")
        for predicate in json.loads(asked).get("predicates", []):
            assert predicate["operation"] == "IS_SUBSTRING"
            rows = [row for row in rows if predicate["string_value"] in row[predicate["key"]]]
        start = 0
        if query.get("page_token"):
            start, same = json.loads(base64.b64decode(query["page_token"]))
            assert same == asked, "a page's token belongs to its filter"
        answer: dict = {"total_size": len(rows)}
        if rows[start : start + PAGE]:  # protobuf leaves out what is empty
            answer[name] = rows[start : start + PAGE]
        if start + PAGE < len(rows):
            answer["next_page_token"] = base64.b64encode(json.dumps([start + PAGE, asked]).encode()).decode()
        return answer

    def act(self, verb: str, path: str, query: dict[str, str], body: bytes, kind: str) -> dict:
        """One request, by the published description. `kind`: its content type."""
        for operation, its_verb, pattern, answer_kind, known in ROUTES:
            found = pattern.fullmatch(path)
            if found and verb == its_verb and hasattr(self, operation):
                assert query.keys() <= known, (operation, query.keys() - known)
                arguments: list = list(found.groups())
                if operation in BODIES:
                    arguments.append(json.loads(body))
                    require_kind(arguments[-1], BODIES[operation])
                elif kind.startswith("multipart/form-data"):
                    (part,) = message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + body).get_payload()
                    assert part.get_param("name", header="content-disposition") == "uploadfile"
                    arguments.append(part.get_payload(decode=True))
                self.calls.append(operation)
                answer = self._perhaps_failing(operation, arguments, query)
                require_kind(answer, answer_kind)
                return answer
        if (verb, path) == ("GET", "/apis/v1beta1/healthz") and self.tag is not None:
            self.calls.append("v1beta1_healthz")
            return self._perhaps_failing("", [], {})
        raise Refused(404, "Not Found")

    def _perhaps_failing(self, operation: str, arguments: list, query: dict[str, str]) -> dict:
        way = self.fail_at[1] if self.fail_at and self.fail_at[0] == len(self.calls) - 1 else ""
        if way == "before":
            raise Refused(500, "upset before")
        answer = getattr(self, operation)(*arguments, **query) if operation else {"tag_name": self.tag}
        for run in self.runs.values():
            mark = mark_of(run["description"])
            self.most_enabled = max(self.most_enabled, len(self.enabled(mark[0])) if mark else 0)
        if way:
            raise Refused(500 if way == "after" else 0, "upset after")
        return answer


@contextmanager
def kfp_server() -> Iterator[KfpServer]:
    state = KfpServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version, wbufsize = "HTTP/1.1", -1  # unbuffered, every answer waits 40 ms for a second packet

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                if state.answer is not None or (
                    state.token and self.headers["Authorization"] != f"Bearer {state.token}"
                ):
                    raise Refused(state.answer or 401, "said no")
                url = urlsplit(self.path)
                query = dict(parse_qsl(url.query))
                answer = state.act(self.command, url.path, query, body, self.headers.get("Content-Type") or "")
                self._send(200, answer)
            except Refused as refused:
                if refused.status:
                    self._send(refused.status, {"code": 13, "message": refused.message, "details": []})
                else:
                    self.close_connection = True
            except AssertionError as error:
                self._send(400, {"message": f"not as the API is described: {error}"})

        do_POST = do_GET

        def _send(self, status: int, answer: dict) -> None:
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        state.address = f"http://127.0.0.1:{server.server_port}"
        try:
            yield state
        finally:
            server.shutdown()

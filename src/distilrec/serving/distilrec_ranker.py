"""The ranker: raw item ids in, the best raw item ids out. A module of its own, because it travels inside the
registered model to places where neither distilrec nor torch is installed.

A folder holds it: `encoder.onnx` (item indices to the state after the newest, or a user's index to its state),
`scorer.onnx` (states to scores of the catalogue), `items.arrow` (raw ids in the order of the indices, and how often
each occurs), `users.arrow` (raw ids likewise) if the model is asked with users, `ranker.json` (settings, and every
file's sha256), and for a large catalogue `index.faiss`, an index of the item vectors.

Shapes: B users, L the model's length, D its width, V items, C candidates of a user.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime
import pyarrow as pa
from numpy.typing import NDArray

SCHEMA = 1
MOST_USERS = 10_000
"""Of one request."""
MOST_AT_ONCE, MOST_SCORES = 256, 16_000_000
"""Users answered together, and scores held, 64 MB: larger requests are answered in parts."""
MOST_OF_INDEX = 0.1
"""Share of the catalogue that may be asked of an index or barred from it; beyond it all scores are computed."""
DEFAULT_K = 10
ONE_BY_ONE = "one-by-one"
"""Metadata of graphs that take one user at a time: quantised activations of a batch share a range, so that answers
would depend on who else is in it; and a hidden layer over the catalogue is as large for one user as scores for many."""
USERS = "users"
"""First input of an encoder that is asked with users; of others it is called `ids`."""

Id = str | int
States = NDArray[np.float32]


class RankerError(ValueError):
    """A request, or a folder, that cannot be used. `str()` is one sentence."""


@dataclass(frozen=True)
class Recommendation:
    """For one user.

    Attributes:
        items: raw ids, best first; fewer than k where fewer are allowed.
        scores: of the model; event counts where `is_fallback`.
        num_unknown: ids of the history that the model does not know, and skipped.
        is_fallback: nothing of the history is known, or the user is not, so these are the scene's most popular items.
    """

    items: list[Id]
    scores: list[float]
    num_unknown: int
    is_fallback: bool


@dataclass(frozen=True)
class LookedUp:
    """Users as the model is asked about them, and their histories as item indices.

    Attributes:
        ids_BL: the newest L known items, padded on the right with V; or the user's index.
        lengths_B: how many of them are real; at least 1, so that the model can be asked.
        is_known: whether the model's answer says anything; if not, what is popular takes its place.
        seen: all known items of each history.
    """

    ids_BL: NDArray[np.int64]
    lengths_B: NDArray[np.int64]
    is_known: list[bool]
    seen: list[NDArray[np.int64]]
    num_unknown: list[int]


@dataclass(frozen=True)
class Scored:
    """Candidates of each user.

    Attributes:
        items_BC: their indices, -1 for none; None if the candidates are the catalogue in its order.
    """

    scores_BC: States
    items_BC: NDArray[np.int64] | None = None


class Model(Protocol):
    """What ranks: states of histories or users, and scores of states."""

    asked_with: str
    max_length: int
    num_items: int

    def states(self, ids_BL: NDArray[np.int64], lengths_B: NDArray[np.int64]) -> States: ...

    def scores(self, states_BD: States) -> NDArray[np.float32]: ...


class _Graph:
    def __init__(self, path: Path, threads: int) -> None:
        self.session = _session(path, threads)
        self.is_one_by_one = ONE_BY_ONE in self.session.get_modelmeta().custom_metadata_map

    def run(self, output: str, inputs: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        if not self.is_one_by_one:
            answer: NDArray[np.float32] = self.session.run([output], inputs)[0]
            return answer
        count = len(next(iter(inputs.values())))
        rows = [{name: value[row : row + 1] for name, value in inputs.items()} for row in range(count)]
        return np.concatenate([self.session.run([output], row)[0] for row in rows])


class Exported:
    """A model's two graphs on ONNX Runtime, CPU."""

    def __init__(self, folder: Path, threads: int) -> None:
        self.encoder = _Graph(folder / "encoder.onnx", threads)
        self.scorer = _Graph(folder / "scorer.onnx", threads)
        asked = self.encoder.session.get_inputs()[0]
        self.asked_with, self.max_length = str(asked.name), int(asked.shape[1])
        self.num_items = int(self.scorer.session.get_outputs()[0].shape[1])

    def states(self, ids_BL: NDArray[np.int64], lengths_B: NDArray[np.int64]) -> States:
        """Shape (B, D)."""
        return self.encoder.run("states", {self.asked_with: ids_BL, "lengths": lengths_B})

    def scores(self, states_BD: States) -> NDArray[np.float32]:
        """Shape (B, V)."""
        return self.scorer.run("scores", {"states": states_BD})


class Index:
    """Item vectors in lists of like ones, of which only those nearest to a state are read (IVF; Jegou et al., 2011).
    The vectors are kept in half precision, and have one more coordinate, which makes them equally long: then the
    largest inner product is the nearest vector (Bachrach et al., RecSys 2014). Its threads are those of the process."""

    def __init__(self, path: Path, effort: int, threads: int) -> None:
        """`effort` lists are read (nprobe): more find more, and take longer."""
        try:
            import faiss
        except ImportError:
            raise RankerError(f"{path} needs faiss: pip install faiss-cpu") from None
        faiss.omp_set_num_threads(threads)
        try:
            self._lists = faiss.read_index(str(path))
        except Exception as error:  # faiss raises what its C++ threw
            raise RankerError(f"{path} cannot be read as an index: {_shown(str(error))}") from None
        if not isinstance(self._lists, faiss.IndexIVF):
            raise RankerError(f"{path} is an index of another kind than this ranker reads")
        self._faiss: Any = faiss
        self.effort = effort

    def search(self, states_BD: States, count: int, left_out: Sequence[NDArray[np.int64]]) -> Scored:
        """The best `count` items that it finds for each user, best first, none of those left out for that user."""
        asked_BE = np.zeros((len(states_BD), self._lists.d), dtype=np.float32)
        asked_BE[:, : states_BD.shape[1]] = states_BD
        scores_BC = np.empty((len(states_BD), count), dtype=np.float32)
        items_BC = np.empty((len(states_BD), count), dtype=np.int64)
        for row, items in enumerate(left_out):
            settings = self._settings(items)
            scores_BC[row], items_BC[row] = self._lists.search(asked_BE[row : row + 1], count, params=settings)
        scores_BC[items_BC < 0] = -math.inf
        return Scored(scores_BC, items_BC)

    def _settings(self, left_out: NDArray[np.int64]) -> Any:
        if not len(left_out):
            return self._faiss.SearchParametersIVF(nprobe=self.effort)
        others = self._faiss.IDSelectorNot(self._faiss.IDSelectorBatch(left_out))
        return self._faiss.SearchParametersIVF(nprobe=self.effort, sel=others)


def _session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads would burn others' time
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own kinds have no common base but this
        words = " ".join(str(error).split())[:200]
        raise RankerError(f"{path} cannot be read as a model: {words}") from None


class Names:
    """Raw ids in the order of their indices."""

    def __init__(self, column: pa.ChunkedArray, what: str) -> None:
        self.ids: list[Id] = column.to_pylist()
        self.what = what
        self.index_of = {name: index for index, name in enumerate(self.ids)}
        self.kind: type[str] | type[int] = int if pa.types.is_integer(column.type) else str

    def known(self, ids: Iterable[Id], where: str) -> list[int]:
        """The indices of those that there are."""
        found = []
        name: Any
        for name in ids:
            if self.kind is int and isinstance(name, np.integer):
                name = int(name)
            if not isinstance(name, self.kind) or isinstance(name, bool):
                kind = "whole numbers" if self.kind is int else "text"
                raise RankerError(f"{where} holds {_shown(name)}; the {self.what} of this scene are {kind}")
            index = self.index_of.get(name)
            if index is not None:
                found.append(index)
        return found


def _table(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


def _users(folder: Path, settings: dict[str, Any]) -> pa.Table:
    if "users.arrow" not in settings["files"]:
        raise RankerError(f"{folder / 'ranker.json'} does not list users.arrow")
    return _table(folder / "users.arrow")


class Ranker:
    """Ready to answer; threads may share it."""

    def __init__(self, folder: Path, threads: int = 1, model: Model | None = None) -> None:
        """`model` answers in place of the folder's graphs.

        Raises:
            RankerError: a file of the folder is missing, or is not what was written, or is newer.
        """
        settings = verified(folder)
        self.model = model or Exported(folder, threads)
        self.max_length, self.num_items = self.model.max_length, self.model.num_items
        effort = settings.get("index_effort")
        self.index = None if effort is None else Index(folder / "index.faiss", effort, threads)
        table = _table(folder / "items.arrow")
        self.items = Names(table["item"], "item ids")
        self.users = Names(_users(folder, settings)["user"], "user ids") if self.model.asked_with == USERS else None
        self.popularity = table["num_events"].to_numpy().astype(np.float32)
        if len(self.ids) != self.num_items:
            raise RankerError(f"{folder}: {len(self.ids)} ids for a model of {self.num_items} items")
        self.exclude_seen: bool = settings["exclude_seen"]
        self.default_k = min(DEFAULT_K, self.num_items)

    @property
    def ids(self) -> list[Id]:
        """Of the items, in the order of the indices."""
        return self.items.ids

    def recommend(
        self,
        histories: Sequence[Sequence[Id]] | None = None,
        k: int | None = None,
        exclude_seen: bool | None = None,
        exclude: Sequence[Id] = (),
        allow: Sequence[Id] | None = None,
        users: Sequence[Id] | None = None,
    ) -> list[Recommendation]:
        """The best k items of each user.

        Args:
            histories: raw item ids of each user, the most recent last. A model that is asked with users needs none:
                then they only say what was seen.
            k: ten by default, or the whole of a smaller catalogue.
            exclude_seen: leave out what the history holds; by default as the scene was evaluated.
            exclude: never to be recommended; ids that are not known are passed over.
            allow: if given, nothing else is recommended; ids that are not known are passed over.
            users: raw ids, for a model that is asked with users, and for no other.

        Raises:
            RankerError: says what cannot be used.
        """
        k = self.default_k if k is None else k
        if not isinstance(k, int | np.integer) or isinstance(k, bool) or not 1 <= k <= self.num_items:
            limits = f"a whole number from 1 to {self.num_items}, the size of the catalogue"
            raise RankerError(f"k is {_shown(k)}; it is {limits}")
        k = int(k)
        if not isinstance(exclude_seen, bool | np.bool_ | None):
            raise RankerError(f"exclude_seen is {_shown(exclude_seen)}; it is true or false")
        histories, users = self._asked(histories, users)
        if not 1 <= len(histories) <= MOST_USERS:
            raise RankerError(f"{len(histories)} users in one request; it takes 1 to {MOST_USERS}")
        leaves_out = self.exclude_seen if exclude_seen is None else exclude_seen
        is_barred_V = self._barred(exclude, allow)
        size = max(1, min(MOST_AT_ONCE, MOST_SCORES // self.num_items))
        answers: list[Recommendation] = []
        for first in range(0, len(histories), size):
            some = slice(first, first + size)
            looked_up = self.look_up(histories[some], None if users is None else users[some], first)
            states_BD = self.model.states(looked_up.ids_BL, looked_up.lengths_B)
            scored = self.scored(states_BD, looked_up, k, leaves_out, is_barred_V)
            answers += self.best(scored, looked_up, k, leaves_out, is_barred_V)
        return answers

    def _asked(
        self, histories: Sequence[Sequence[Id]] | None, users: Sequence[Id] | None
    ) -> tuple[list[Sequence[Id]], list[Id] | None]:
        """Both as lists, equally long."""
        if self.users is None:
            if users is not None:
                raise RankerError("this ranker is asked with histories, and knows no users")
            return _listed(histories, "histories", "a list of histories"), None
        if users is None:
            raise RankerError("this ranker is asked with users, and there are none in the request")
        users = _listed(users, "users", "a list of user ids")
        histories = [()] * len(users) if histories is None else _listed(histories, "histories", "a list of histories")
        if len(histories) != len(users):
            raise RankerError(f"{len(histories)} histories for {len(users)} users; give each one, or none at all")
        return histories, users

    def look_up(self, histories: Sequence[Sequence[Id]], users: Sequence[Id] | None = None, first: int = 0) -> LookedUp:
        """`first` is the number of the first user, for the sentence of an error."""
        known, num_unknown = [], []
        for number, history in enumerate(histories, start=first):
            history = _listed(history, f"history of user {number}", "a list of item ids")
            indices = self.items.known(history, f"history of user {number}")
            known.append(np.array(indices, dtype=np.int64))
            num_unknown.append(len(history) - len(indices))
        asked = self._newest(known) if users is None else self._numbers(users)
        return LookedUp(*asked, known, num_unknown)

    def _newest(self, known: list[NDArray[np.int64]]) -> tuple[NDArray[np.int64], NDArray[np.int64], list[bool]]:
        ids_BL = np.full((len(known), self.max_length), self.num_items, dtype=np.int64)
        lengths_B = np.ones(len(known), dtype=np.int64)
        for row, indices_N in enumerate(known):
            newest = indices_N[-self.max_length :]
            ids_BL[row, : len(newest)] = newest
            lengths_B[row] = max(1, len(newest))
        return ids_BL, lengths_B, [len(seen) > 0 for seen in known]

    def _numbers(self, users: Sequence[Id]) -> tuple[NDArray[np.int64], NDArray[np.int64], list[bool]]:
        """The model is asked about its first user in place of one that it does not know."""
        assert self.users is not None, "as recommend checks"
        found = [self.users.known([user], "users") for user in users]
        ids_BL = np.array([number or [0] for number in found], dtype=np.int64)
        return ids_BL, np.ones(len(found), dtype=np.int64), [bool(number) for number in found]

    def scored(
        self,
        states_BD: States,
        looked_up: LookedUp,
        k: int,
        leaves_out_seen: bool,
        is_barred_V: NDArray[np.bool_] | None = None,
    ) -> Scored:
        """The whole catalogue, nothing left out; or where an index pays and finds k for everyone, those k."""
        barred = np.empty(0, dtype=np.int64) if is_barred_V is None else np.flatnonzero(is_barred_V)
        if self.index is not None and k + len(barred) <= MOST_OF_INDEX * self.num_items:
            left_out = looked_up.seen if leaves_out_seen else [barred[:0]] * len(states_BD)
            if len(barred):
                left_out = [np.concatenate([barred, seen]) for seen in left_out]
            found = self.index.search(states_BD, k, left_out)
            if np.isfinite(found.scores_BC).all():
                return found
        return Scored(self.model.scores(states_BD))

    def best(
        self,
        scored: Scored,
        looked_up: LookedUp,
        k: int,
        leaves_out_seen: bool,
        is_barred_V: NDArray[np.bool_] | None = None,
    ) -> list[Recommendation]:
        """Overwrites scores of the catalogue that are left out; of equal ones the first candidate is first. The unknown
        get what is popular."""
        answers = []
        for row, (seen, is_known) in enumerate(zip(looked_up.seen, looked_up.is_known, strict=True)):
            items_C = None if scored.items_BC is None or not is_known else scored.items_BC[row]
            scores_C = scored.scores_BC[row] if is_known else self.popularity.copy()
            if items_C is None and is_barred_V is not None:
                scores_C[is_barred_V] = -math.inf
            if items_C is None and leaves_out_seen:
                scores_C[seen] = -math.inf
            best = top(scores_C, k)
            chosen = best if items_C is None else items_C[best]
            answers.append(
                Recommendation(
                    [self.ids[index] for index in chosen],
                    scores_C[best].tolist(),
                    looked_up.num_unknown[row],
                    not is_known,
                )
            )
        return answers

    def _barred(self, exclude: Sequence[Id], allow: Sequence[Id] | None) -> NDArray[np.bool_] | None:
        barred = self.items.known(_listed(exclude, "exclude", "a list of item ids"), "exclude")
        if allow is None and not barred:
            return None
        is_barred_V = np.full(self.num_items, allow is not None)
        if allow is not None:
            is_barred_V[self.items.known(_listed(allow, "allow", "a list of item ids"), "allow")] = False
        is_barred_V[barred] = True
        return is_barred_V


def top(scores_V: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Indices of the k largest finite scores, the largest first, of equal ones the lower index first."""
    if k < len(scores_V):
        smallest = np.partition(scores_V, len(scores_V) - k)[len(scores_V) - k]
        candidates = np.flatnonzero(scores_V >= smallest)
    else:
        candidates = np.arange(len(scores_V))
    ordered = candidates[np.argsort(-scores_V[candidates], kind="stable")][:k]
    return ordered[np.isfinite(scores_V[ordered])]


def _listed(value: Any, where: str, what: str) -> list[Any]:
    if isinstance(value, str | bytes | dict) or not isinstance(value, Iterable):
        raise RankerError(f"{where} is {_shown(value)}; it is {what}")
    return list(value)


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # a whole number of more than 4,300 digits
        text = "too large a number"
    return text if len(text) <= 40 else f"{text[:37]}..."


def write_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Last of a folder's files: with the sha256 of all others."""
    files = {path.name: sha256_of(path) for path in sorted(folder.iterdir()) if path.name != "ranker.json"}
    whole = {"schema_version": SCHEMA, **settings, "files": files}
    text = json.dumps({**whole, "sha256": _sha256_of_settings(whole)}, indent=1, sort_keys=True)
    (folder / "ranker.json").write_text(text + "\n", encoding="utf-8")


def _sha256_of_settings(settings: dict[str, Any]) -> str:
    """Of all but the hash itself."""
    rest = {name: value for name, value in settings.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def verified(folder: Path) -> dict[str, Any]:
    """The settings of a folder whose files are what was written.

    Raises:
        RankerError: what is missing, altered or newer.
    """
    path = folder / "ranker.json"
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        version, files = settings["schema_version"], dict(settings["files"])
        is_whole = settings["sha256"] == _sha256_of_settings(settings) and isinstance(settings["exclude_seen"], bool)
    except FileNotFoundError:
        raise RankerError(f"{path} is missing") from None
    except (ValueError, TypeError, KeyError, OSError, RecursionError):
        raise RankerError(f"{path} is not what distilrec wrote") from None
    if version != SCHEMA:
        raise RankerError(f"{path} has schema version {version!r}; this ranker reads {SCHEMA}")
    if not is_whole:
        raise RankerError(f"{path} is not what was written: its sha256 differs")
    present = {entry.name for entry in folder.iterdir() if entry.is_file()}
    for name, digest in files.items():
        if name not in present:
            raise RankerError(f"{folder / name} is missing")
        if sha256_of(folder / name) != digest:
            raise RankerError(f"{folder / name} is not what was written: its sha256 differs")
    needed = ("encoder.onnx", "scorer.onnx", "items.arrow", *(("index.faiss",) * ("index_effort" in settings)))
    for name in needed:
        if name not in files:
            raise RankerError(f"{path} does not list {name}")
    return dict(settings)


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""The live models and their versions, and the reasons why other models are not live."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from time import perf_counter, thread_time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec
import numpy as np

from artifact import calibration, canary_bounds, manifest, runtime, signing, tensor_model
from artifact.canary_bounds import CanaryBounds
from artifact.contracts import mismatch
from artifact.encode import Encoder
from artifact.manifest import ArtifactError
from artifact.models_lock import CANARY, CHAMPION, SHADOW
from artifact.ranking import read as read_ranking
from artifact.tensors import array_of
from serving.errors import Problem, too_many_rows, without_paths
from serving.observe import metrics
from serving.prediction_log import remembering
from serving.scoring.batcher import WARM_UP_BYTES, Batcher
from serving.scoring.best_items import BestItems, Wanted, as_rows
from serving.scoring.drift import Drift
from serving.scoring.explain import Explainer, background_of
from serving.scoring.low_priority import LowPriority
from serving.scoring.model_process import ModelProcess
from serving.scoring.spare_time import SpareTime
from serving.scoring.tensors import Call, TensorCalls
from serving.scoring.translation import untranslatable
from serving.settings import MIB

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from artifact.manifest import Artifact
    from artifact.models_lock import Entry
    from artifact.ranking import Ranking
    from artifact.signature import Signature
    from artifact.signing import Statement
    from artifact.tensors import Tensor, Value
    from serving.scoring.explain import RowExplanation
    from serving.settings import Settings

logger = logging.getLogger("bentoml.okamochi")

K = TypeVar("K")
T = TypeVar("T")

_spare = SpareTime()  # of this worker, for the explanations of all its models

Slot = tuple[str, str]  # name and role: at most one version has them

MAX_EXAMPLE = 1_000
"""Elements of the tensors that a page shows as an example."""

# A tag to the folder of its artifact and the metadata that was stored with it; raises ArtifactError.
Locate = Callable[[str], tuple[Path, Mapping[str, Any]]]


@dataclass(frozen=True)
class LiveModel:
    """A verified model with everything that is needed to answer requests.

    Parameters
    ----------
    tag
        Exact tag in BentoML's model store.
    version
        Version in the registry, a decimal string.
    max_rows
        The largest number of rows of one request.
    """

    name: str
    tag: str
    version: str
    artifact: Artifact
    encoder: Encoder
    score: runtime.Score
    batcher: Batcher
    explainer: Explainer
    max_rows: int
    calibration: NDArray[np.float64] | None = None  # the misses of held-out rows, sorted
    drift: Drift | None = None
    process: ModelProcess | None = None  # of a model that does not run in the worker
    signed: Statement | None = None  # checked; None where no keys are trusted
    calls: TensorCalls | None = None  # of a model that takes tensors
    # For a model that ranks items: itself as a model that finds the best items for a user (`best_items`),
    # with a queue of its own. That one has the ranking.
    ranked: LiveModel | None = None
    ranking: Ranking | None = None
    row_signature: Signature | None = None  # of `ranked`: that of the artifact
    # A made request of `/v2` that a model of tensors answers; empty if none is known or it is large.
    example_tensors: Mapping[str, Any] = field(default_factory=dict)

    @property
    def signature(self) -> Signature:
        return self.artifact.signature

    @property
    def ranked_of(self) -> Signature:
        """The signature of the artifact, with the columns of users and items; the same for `ranked`."""
        return self.artifact.signature if self.row_signature is None else self.row_signature

    def check_rows(self, rows: int) -> None:
        """Refuse more rows than one request may hold.

        Raises
        ------
        Problem
            413.
        """
        if rows > self.max_rows:
            # As a tensor's shape, the number may be of any length.
            raise too_many_rows(min(rows, 10**18), self.max_rows)

    def announce(self) -> None:
        """Show in the metrics that it is live, and begin to watch for drift; called when it goes live."""
        found = self.artifact.manifest
        metrics.MODEL_INFO.labels(self.name, self.version, found.runtime).set(1)
        metrics.has_role(self.name, self.version, CHAMPION)
        why = f", since {found.runtime_reason}" if found.runtime_reason else ""
        logger.info("model %s, version %s, runs by %s%s", self.name, self.version, found.runtime, why)
        metrics.MODEL_REFUSED.labels(self.name).set(0)
        if self.drift is not None:
            self.drift.start()

    def description(self) -> dict[str, Any]:
        """What `GET /models/{name}` shows."""
        found = self.artifact.manifest
        signature = self.signature
        columns = [
            {"name": column.name, "kind": column.kind}
            | {
                key: value
                for key, value in msgspec.to_builtins(column).items()
                if key in ("missing", "unknown", "integer", "minimum", "maximum", "median", "categories")
            }
            | {"missing": column.missing}
            for column in signature.columns
        ]
        return {
            "name": self.name,
            "version": self.version,
            "runtime": found.runtime,
            "runtime_reason": found.runtime_reason,
            "precision": found.precision,
            "task": signature.task,
            "target": signature.target,
            "algorithm": found.algorithm,
            "created": found.created,
            "signed_by": None if self.signed is None else self.signed.signer,
            "signed": None if self.signed is None else self.signed.at,
            "run_id": found.run_id,
            "signature": {
                **tensors_of(signature),
                "columns": columns,
                "classes": list(signature.classes),
                "positive": signature.positive,
                "threshold": signature.threshold,
                "decided": signature.decided,
                "numbers": list(signature.numbers),
                "ignored": list(signature.ignored),
            },
            **ranked_by(self.ranked),
            "metric": found.metric,
            "metrics": found.metrics,
            "max_rows": self.max_rows,
            "example": signature.example if signature.tensors is None else self.example_tensors,
        }


def ranked_by(model: LiveModel | None) -> dict[str, Any]:
    """What a model ranks; empty for a model that does not rank."""
    if model is None or model.ranking is None:
        return {}
    ranking = model.ranking
    return {
        "rank": {
            "query": ranking.query,
            "item": ranking.item,
            "by": ranking.by,
            "users": len(ranking.users),
            "items": len(ranking.items),
        }
    }


def tensors_of(signature: Signature) -> dict[str, Any]:
    """The inputs and outputs of a model that takes tensors; nothing for any other."""
    tensors = signature.tensors
    if tensors is None:
        return {}

    def shown(each: Tensor) -> dict[str, Any]:
        return {"name": each.name, "datatype": each.datatype, "shape": each.sizes}

    return {
        "inputs": [shown(each) for each in tensors.inputs],
        "outputs": [shown(each) for each in tensors.outputs],
        "batched": tensors.batched,
    }


@dataclass(frozen=True, eq=False)
class Beside:
    """A version that is loaded beside the champion of its name because a line of models.lock names it.

    Parameters
    ----------
    role
        `shadow` or `canary`.
    percent
        The percentage of the callers, for a canary.
    bounds
        A canary that leaves them stops.
    """

    model: LiveModel
    role: str
    percent: float
    bounds: CanaryBounds

    @property
    def slot(self) -> Slot:
        return self.model.name, self.role


class Held(NamedTuple):
    """A version that models.lock names and that is not served, while the server is ready without it."""

    tag: str
    reason: str  # for clients: without absolute paths


@dataclass(frozen=True)
class Catalog:
    """The live models, in the order of models.lock, and what is not live.

    Parameters
    ----------
    refused
        By name, the reasons of the models that were refused at start: the server is not ready.
    default
        The name that routes without one mean.
    held
        By name, what models.lock has named since and the server does not serve: it serves the version that it
        had, if any, and is ready.
    lock
        The reason why models.lock is not followed; "" if it is.
    beside
        The shadows and canaries, by name and role; the champion of each is live.
    not_beside
        By name and role, the shadows and canaries that models.lock names and the server has not loaded.
    unloaded
        The names of models.lock that an administrator has unloaded.
    """

    live: dict[str, LiveModel]
    refused: dict[str, str] = field(default_factory=dict)
    default: str = ""
    held: Mapping[str, Held] = field(default_factory=dict)
    lock: str = ""
    beside: Mapping[Slot, Beside] = field(default_factory=dict)
    not_beside: Mapping[Slot, Held] = field(default_factory=dict)
    unloaded: tuple[str, ...] = ()

    def model(self, name: str) -> LiveModel:
        """The live model of a name.

        Raises
        ------
        Problem
            404 for an unknown name or one that is unloaded, 503 for a refused model.
        """
        found = self.live.get(name)
        if found is not None:
            return found
        if name in self.unloaded:
            raise Problem(
                404,
                f"Model {name!r} was unloaded; POST /v2/repository/models/{name}/load brings it back.",
                reason="model_unloaded",
                model=name,
            )
        if name in self.refused or name in self.held:
            why = self.refused.get(name) or self.held[name].reason
            raise Problem(
                503, f"Model {name!r} is not ready: {why}", reason="model_refused", error=why, model=name
            )
        raise Problem(
            404,
            f"Unknown model {name!r}; this server has {', '.join(map(repr, self.names))}.",
            reason="unknown_model",
        )

    def versions(self, name: str) -> list[str]:
        """The versions of a name that are loaded, the champion's first."""
        found = [self.live[name]] if name in self.live else []
        found += [beside.model for beside in self.beside.values() if beside.model.name == name]
        return list(dict.fromkeys(model.version for model in found))

    @property
    def loaded(self) -> dict[Slot, LiveModel]:
        """Each model that is loaded, by name and role."""
        champions = {(name, CHAMPION): model for name, model in self.live.items()}
        return champions | {slot: beside.model for slot, beside in self.beside.items()}

    @property
    def names(self) -> list[str]:
        return [*self.live, *self.refused]

    def not_served(self, name: str) -> bool:
        """Whether this is the name of a declared model that is refused or unloaded."""
        return name in self.refused or name in self.unloaded

    @property
    def of_rows(self) -> dict[str, LiveModel]:
        """The live models that take rows of a table; the others take tensors."""
        return {name: model for name, model in self.live.items() if model.signature.tensors is None}

    @property
    def ready(self) -> bool:
        return not self.not_ready

    @property
    def not_ready(self) -> str:
        """The models that cannot serve now, and the reasons; "" if all can serve."""
        reasons = dict(self.refused) | {
            name: "its scoring thread failed and is being started again"
            for name, model in self.live.items()
            if model.batcher.failed
        }
        if not reasons:
            return "" if self.live else "no model is live"
        return "; ".join(f"model {name!r}: {reason}" for name, reason in reasons.items())

    def close(self) -> None:
        """End the threads and processes of the models."""
        for model in self.loaded.values():
            Parts.of(model).close()


class Parts(NamedTuple):
    """What a model has that must be closed; it does not refer to the model."""

    batcher: Batcher
    drift: Drift | None
    process: ModelProcess | None
    ranked: Batcher | None

    @classmethod
    def of(cls, model: LiveModel) -> Parts:
        """The parts of a model."""
        ranked = None if model.ranked is None else model.ranked.batcher
        return cls(model.batcher, model.drift, model.process, ranked)

    def close(self) -> None:
        """End its threads and processes; requests that wait are not answered."""
        self.batcher.close()
        if self.ranked is not None:
            self.ranked.close()
        if self.drift is not None:
            self.drift.close()
        if self.process is not None:
            self.process.close()


def load(
    declared: Iterable[tuple[str, str]],
    locate: Locate,
    settings: Settings,
    beside: Iterable[Entry] = (),
    served: Mapping[Slot, Entry] | None = None,
) -> Catalog:
    """Verify, open and warm up models.

    Parameters
    ----------
    declared
        Name and tag of each champion, the default first. A refused model leaves the others live.
    beside
        The shadows and canaries; a refused one leaves the server ready.
    served
        What other workers of the server serve, by name and role: it takes the place of a version that is
        refused.
    """
    served = served or {}
    live: dict[str, LiveModel] = {}
    refused: dict[str, str] = {}
    held: dict[str, Held] = {}
    default = ""
    for name, tag in declared:
        default = default or name
        model, reason = open_or_reason(name, tag, locate, settings)
        other = served.get((name, CHAMPION))
        if model is None and other is not None and other.tag != tag:
            model, _ = open_or_reason(name, other.tag, locate, settings)
            if model is not None:
                held[name] = Held(tag, reason)
                logger.error("model %s: version %s is served instead", name, model.version)
        if model is not None:
            live[name] = model
            model.announce()
        else:
            refused[name] = reason
            metrics.MODEL_REFUSED.labels(name).set(1)
    catalog = Catalog(live, refused, default, held)
    for entry in beside:
        catalog = with_beside(catalog, entry, None, locate, settings)[0]
        other = served.get(entry.slot)
        if entry.slot in catalog.not_beside and other is not None and other.tag != entry.tag:
            not_beside = catalog.not_beside
            catalog = replace(with_beside(catalog, other, None, locate, settings)[0], not_beside=not_beside)
    return catalog


def with_beside(
    catalog: Catalog,
    entry: Entry,
    known: LiveModel | None,
    locate: Locate,
    settings: Settings,
    *,
    low_priority: bool = False,
) -> tuple[Catalog, str]:
    """The catalog with a shadow or canary, and the reason why it is refused; "" if it is not.

    Parameters
    ----------
    known
        The model of the entry, if it is open already.
    low_priority
        See `open_session`.
    """
    model, reason = known, ""
    champion = catalog.live.get(entry.name)
    bounds = CanaryBounds()
    if champion is None:
        reason = "the champion of its name is not live"
    elif model is None:
        model, reason = open_or_reason(entry.name, entry.tag, locate, settings, low_priority=low_priority)
    if model is not None and champion is not None:
        reason = unfit(champion, model, settings, role=entry.role)
        try:
            bounds = canary_bounds.read(model.artifact.path)
        except ArtifactError as error:
            reason = without_paths(str(error), str(model.artifact.path))
        if reason:
            logger.error("the %s of model %s (%s) is refused: %s", entry.role, entry.name, entry.tag, reason)
            if known is None:
                Parts.of(model).close()
    if model is None or reason:
        metrics.VERSION_REFUSED.labels(entry.name).set(1)
        held = {**catalog.not_beside, entry.slot: Held(entry.tag, reason)}
        return replace(catalog, not_beside=held), reason
    found = Beside(model, entry.role, entry.percent, bounds)
    return (
        replace(
            catalog,
            beside={**catalog.beside, entry.slot: found},
            not_beside=without(catalog.not_beside, entry.slot),
        ),
        "",
    )


def unfit(champion: LiveModel, model: LiveModel, settings: Settings, *, role: str) -> str:
    """Why a model cannot stand beside a champion; "" if it can."""
    one, other = champion.signature, model.signature
    reason = mismatch(one, other)
    if not reason and role == CANARY:
        reason = too_slow(model, settings)
    if not reason and role == SHADOW and one.tensors is not None:
        reason = "a model that takes tensors has no scores that a shadow's could be compared with"
    elif not reason and role == SHADOW:
        reason = untranslatable(one, other, kept=bool(settings.prediction_log))
    return reason


def too_slow(model: LiveModel, settings: Settings) -> str:
    """The reason if no request without a deadline of its own could be answered in time; else ""."""
    row_ms = 1000 * model.batcher.row_s
    if row_ms <= settings.default_deadline_ms:
        return ""
    most_ms = settings.default_deadline_ms
    return f"one row takes {row_ms:.0f} ms, more than OKAMOCHI_DEFAULT_DEADLINE_MS={most_ms}"


def without(found: Mapping[K, T], key: K) -> dict[K, T]:
    """A copy of a mapping without one key."""
    return {other: value for other, value in found.items() if other != key}


def open_or_reason(
    name: str, tag: str, locate: Locate, settings: Settings, *, low_priority: bool = False
) -> tuple[LiveModel | None, str]:
    """A verified and warm model that nobody uses yet, or None and the reason for clients, which is logged.

    Parameters
    ----------
    low_priority
        See `open_session`.
    """
    folder = ""
    try:
        path, metadata = locate(tag)
        folder = str(path)
        return open_model(name, path, metadata, settings, tag=tag, low_priority=low_priority), ""
    except ArtifactError as error:
        logger.error("model %s (%s) is refused: %s", name, tag, error)  # noqa: TRY400 - the reason needs no traceback
        return None, without_paths(str(error), folder)
    except Exception as error:
        # Clients read the reason, and the exception's message may hold anything.
        words = str(error)
        logger.exception("model %s (%s) could not be opened: %s", name, tag, words)
        return None, f"it could not be opened ({type(error).__name__})"


def open_model(
    name: str,
    path: Path,
    metadata: Mapping[str, Any],
    settings: Settings,
    *,
    tag: str = "",
    low_priority: bool = False,
) -> LiveModel:
    """One model, verified and warm.

    Parameters
    ----------
    low_priority
        See `open_session` and `manifest.digest`.

    Raises
    ------
    ArtifactError
        The reason why the model must not serve.
    """
    found = manifest.load(path, name=name, low_priority=low_priority)
    version = str(metadata.get("version", ""))
    if not version.isdecimal():
        raise ArtifactError(f"{path}: its version in the model store is {version!r}, expected a whole number")
    signed = None
    if settings.trusted_keys:  # before anything of the model is opened
        trusted = Path(settings.trusted_keys).expanduser()
        signed = signing.check(path, name=name, version=version, trusted=trusted)
    if found.signature.tensors is not None:
        return replace(_open_tensors(found, name, version, tag, settings), signed=signed)
    score, process = _opened(found, (name, version), settings, low_priority=low_priority)
    try:
        encoder = remembering.encoder(found.signature, settings)
        rows_in_memory = max(1, settings.max_matrix_bytes // (8 * found.signature.width))
        max_rows = min(settings.queue_rows, rows_in_memory)
        drift = Drift.of(found, settings)
        watched = drift.watching(score) if drift is not None else score
        batcher = _batcher(
            found, (name, version), watched, settings, max_rows=max_rows, inline=process is None
        )
        example = encoder.records([found.signature.example], lenient=True)
        # In a busy worker, most of the wall time of a call in this thread is waiting for the interpreter's
        # lock: by it, a quick model would seem too slow for the event loop. Another process has no such wait.
        batcher.warm_up(example, clock=thread_time if process is None else perf_counter)
        background = background_of(found, encoder)
        explainer = _explainer(found, (name, version), background, batcher, score, settings)
        ranking = read_ranking(found)
    except BaseException:
        if process is not None:
            process.close()
        raise
    model = LiveModel(
        name,
        tag,
        version,
        found,
        encoder,
        score,
        batcher,
        explainer,
        max_rows,
        calibration=calibration.read(found),
        drift=drift,
        process=process,
        signed=signed,
    )
    return model if ranking is None else replace(model, ranked=_ranked(model, ranking, settings))


def _ranked(model: LiveModel, ranking: Ranking, settings: Settings) -> LiveModel:
    """The model as one that finds the best items for a user, warm."""
    found = model.artifact
    score = BestItems(ranking)
    signature = score.signature(found.signature)
    row_bytes = 8 * signature.outputs
    score.max_rows = max(1, WARM_UP_BYTES // row_bytes)
    max_rows = max(1, min(settings.queue_rows, settings.max_matrix_bytes // row_bytes))
    batcher = Batcher(
        score,
        signature,
        objective_s=settings.batch_objective_ms / 1000,
        max_rows=max_rows,
        observe_batch=metrics.Batches(model.name, model.version),
        name=model.name,
    )
    batcher.warm_up(as_rows([Wanted(0, 1, np.empty(0, np.int64), seen=False)]), clock=thread_time)
    score.max_rows = max_rows
    return replace(
        model,
        artifact=replace(found, signature=signature),
        encoder=remembering.encoder(signature, settings),
        score=score,
        batcher=batcher,
        max_rows=max_rows,
        calibration=None,
        drift=None,
        process=None,
        ranking=ranking,
        row_signature=found.signature,
    )


def _count_explained(name: str, version: str, made: Sequence[RowExplanation]) -> None:
    for each in made:
        metrics.EXPLAINED.labels(name, version, "exact" if each.attribution.exact else "sampled").inc()


def _in_short_calls(score: runtime.Score, call_s: float) -> runtime.Score:
    """The same scores, in calls so small that a model that takes seconds a row keeps the time limit."""

    def scored(rows: NDArray[Any]) -> NDArray[np.float64]:
        if len(rows) < 2:
            return score(rows)
        started = perf_counter()
        parts = [score(rows[:1])]
        size = max(1, int(call_s / (4 * (perf_counter() - started))))
        parts += [score(rows[start : start + size]) for start in range(1, len(rows), size)]
        return np.concatenate(parts)

    return scored


def _opened(
    found: Artifact, named: tuple[str, str], settings: Settings, *, low_priority: bool
) -> tuple[runtime.Score, ModelProcess | None]:
    """The scoring function, checked on its golden rows, and its process if it does not run in the worker."""
    if found.manifest.runtime == "onnx":
        return runtime.load(found, low_priority=low_priority), None
    process = _process(found, named, settings)
    try:
        manifest.check_golden(found, _in_short_calls(process.score, settings.model_call_s))
    except BaseException:
        process.close()
        raise
    return process.score, process


def _process(found: Artifact, named: tuple[str, str], settings: Settings) -> ModelProcess:
    return ModelProcess(
        found,
        call_s=settings.model_call_s,
        memory_bytes=settings.model_memory_mb * MIB,
        on_restart=metrics.MODEL_PROCESS_RESTARTS.labels(*named).inc,
        on_memory=metrics.MODEL_PROCESS_BYTES.labels(*named).set,
    )


def _batcher(
    found: Artifact,
    named: tuple[str, str],
    score: runtime.Score,
    settings: Settings,
    *,
    max_rows: int,
    inline: bool,
) -> Batcher:
    """The batcher of a model, by its name and version."""
    name, version = named
    return Batcher(
        score,
        found.signature,
        objective_s=settings.batch_objective_ms / 1000,
        max_rows=max_rows,
        observe_batch=metrics.Batches(name, version),
        observe_queue=metrics.QUEUE_ROWS.labels(name, version).set,
        inline=inline,
        name=name,
    )


def _explainer(  # noqa: PLR0917 - the parts of a model
    found: Artifact,
    named: tuple[str, str],
    background: NDArray[Any] | None,
    batcher: Batcher,
    score: runtime.Score,
    settings: Settings,
) -> Explainer:
    return Explainer(
        named[0],
        found.signature,
        background,
        batcher,
        LowPriority(
            batcher,
            score,
            found.signature.width,
            _spare,
            observe_rows=metrics.EXPLAIN_ROWS.labels(*named).inc,
        ),
        tolerance=settings.explain_error,
        max_rows=settings.explain_queue_rows,
        observe=partial(_count_explained, *named),
    )


def _open_tensors(found: Artifact, name: str, version: str, tag: str, settings: Settings) -> LiveModel:
    """A model that takes tensors, checked on its golden request and warm."""
    process = _process(found, (name, version), settings)
    try:
        tensor_model.check_golden(found, process.answer)
        calls = TensorCalls(process.answer, settings.max_matrix_bytes)
        batcher = _batcher(
            found, (name, version), calls.score, settings, max_rows=settings.queue_rows, inline=False
        )
        inputs = _golden_inputs(found)
        if inputs is not None:
            batcher.warm_up(Call(inputs, 1).matrix())
    except BaseException:
        process.close()
        raise
    return LiveModel(
        name,
        tag,
        version,
        found,
        Encoder(found.signature),
        calls.score,
        batcher,
        _explainer(found, (name, version), None, batcher, calls.score, settings),
        settings.queue_rows,
        process=process,
        calls=calls,
        example_tensors=_example_of(found.signature, inputs),
    )


def _golden_inputs(found: Artifact) -> list[Value] | None:
    """The inputs of the golden request, or of its first row if rows are independent; None if it has none."""
    inputs = tensor_model.golden_of(found).inputs
    tensors = found.signature.tensors
    if inputs is None or tensors is None or not tensors.batched:
        return inputs
    return [each.part(0, 1) for each in inputs]


def _example_of(signature: Signature, inputs: list[Value] | None) -> dict[str, Any]:
    """A request of `/v2` with these inputs; empty without them, or if they are large."""
    tensors = signature.tensors
    if tensors is None or inputs is None:
        return {}
    arrays = [array_of(each, of.datatype) for each, of in zip(inputs, tensors.inputs, strict=True)]
    if sum(each.size for each in arrays) > MAX_EXAMPLE:
        return {}
    return {
        "inputs": [
            {
                "name": of.name,
                "datatype": of.datatype,
                "shape": list(array.shape),
                "data": array.ravel().tolist(),
            }
            for of, array in zip(tensors.inputs, arrays, strict=True)
        ]
    }

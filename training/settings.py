"""A use case: one TOML file with the source of the data, the target and the gate's demands."""

import codecs
import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from artifact.canary_bounds import CanaryBounds
from artifact.models_lock import NAME_IN_WORDS, NAME_RULE
from training.interpreter import typed

CHECKOUT = Path(__file__).resolve().parent.parent
USE_CASES = CHECKOUT / "usecases"

Task = Literal["binary", "multiclass", "regression", "scores"]
Label = str | bool | int | float
DecimalMark = Literal[".", ","]
ThousandsMark = Literal["", ".", ",", " ", "'", "_"]
DECIMAL_MARKS, THOUSANDS_MARKS = get_args(DecimalMark), get_args(ThousandsMark)
KindSetting = Literal["number", "category", "text", "date", "image", "leave_out"]

_CLASS_METRICS = (
    "accuracy", "balanced_accuracy", "precision", "recall", "f1", "f1_macro", "roc_auc", "average_precision",
    "log_loss", "brier",
)  # fmt: skip
METRIC_NAMES: dict[Task, tuple[str, ...]] = {
    "binary": _CLASS_METRICS,
    "multiclass": _CLASS_METRICS,
    "regression": ("mae", "rmse", "r2"),
    "scores": ("mae", "rmse", "r2"),
}
LOSS_NAMES: dict[Task, tuple[str, ...]] = {
    "binary": ("brier", "accuracy", "log_loss"),
    "multiclass": ("brier", "accuracy", "log_loss"),
    "regression": ("mae", "rmse"),
    "scores": (),
}
"""The metrics that are a mean over rows, or its root: those that can compare two models row by row."""
RankMetric = Literal["ndcg_at_10", "recall_at_10"]
RANK_METRIC_NAMES = (*get_args(RankMetric), "coverage_at_10")
"""The figures of a use case with [rank], beside those of its task; `gate.floors` may name them."""
RANK_OPTIONS = ("k", "exclude", "seen", "items", "by", "cold_start", "model", "version", "id")
"""The keys of a request for a ranking and of its reply, beside the column of users."""
ALL_METRICS = tuple(dict.fromkeys(name for names in METRIC_NAMES.values() for name in names))


FAIRNESS_OF_CLASSES = (
    "demographic_parity_difference", "demographic_parity_ratio", "equal_opportunity_difference",
    "equalized_odds_difference", "calibration_difference",
)  # fmt: skip
FAIRNESS_OF_NUMBERS = ("mean_prediction_difference", "mean_error_difference")
"""The keys of [gate.fairness]."""


def fairness_measures(task: Task | None) -> tuple[str, ...]:
    """The measures that [gate.fairness] may bound, all of them where the task is not known yet."""
    if task is None:
        return FAIRNESS_OF_CLASSES + FAIRNESS_OF_NUMBERS
    return FAIRNESS_OF_NUMBERS if task == "regression" else FAIRNESS_OF_CLASSES


REGISTERED = ("models:/", "runs:/")
"""The prefixes of the source of a model that is in MLflow."""


class UseCaseError(Exception):
    """A use case file is wrong; the message is for the person who wrote it (exit code 2)."""

    exit_code = 2


class Bundled(Struct, frozen=True, tag="bundled", tag_field="kind", forbid_unknown_fields=True):
    """A data set that ships with scikit-learn."""

    name: Literal["breast_cancer", "iris", "wine", "digits", "digit_pictures", "diabetes"]


class Synthetic(Struct, frozen=True, tag="synthetic", tag_field="kind", forbid_unknown_fields=True):
    """Rows that `training/tables/synthetic.py` generates."""

    name: Literal["linear", "credit", "fraud", "sentiment", "recommend"]


MaxRows = Annotated[int, Meta(ge=100)]


class Csv(Struct, frozen=True, tag="csv", tag_field="kind", forbid_unknown_fields=True):
    """A delimited file, gzipped or not; `columns` names the columns of a file without a header.

    Of a file with more than `max_rows` rows, as many are read, chosen by a hash of each row; None: so many
    as fit into memory.
    """

    path: str
    columns: tuple[str, ...] | None = None
    max_rows: MaxRows | None = None


class Parquet(Struct, frozen=True, tag="parquet", tag_field="kind", forbid_unknown_fields=True):
    """A Parquet file; `max_rows` as for a delimited one."""

    path: str
    max_rows: MaxRows | None = None


class Images(Struct, frozen=True, tag="images", tag_field="kind", forbid_unknown_fields=True):
    """Pictures: a folder with a folder for each class, or a delimited file with a column of their paths."""

    path: str


class OpenML(Struct, frozen=True, tag="openml", tag_field="kind", forbid_unknown_fields=True):
    """A data set of openml.org by its number, kept in `OKAMOCHI_DATA` after the first download."""

    id: Annotated[int, Meta(ge=1)]


class Sql(Struct, frozen=True, tag="sql", tag_field="kind", forbid_unknown_fields=True):
    """A query; `$NAME` in the URL is read from the environment, so the file needs no password."""

    url: str
    query: str


Source = Bundled | Synthetic | Csv | Parquet | Images | OpenML | Sql


MAX_DELIMITER = 8  # characters


class Read(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a file is written, where that cannot be detected or is detected wrongly; None: detect it.

    Parameters
    ----------
    encoding
        As Python names it: "utf-8", "gb18030", "windows-1251".
    delimiter
        One character, or several such as "~|~".
    quote
        The character around cells with the delimiter in them; "" if no cell is quoted.
    escape
        The character before a quote within quotes; "" if such a quote is doubled.
    decimal, thousands
        The marks in numbers; thousands = "" for none.
    skip_lines
        The number of lines above the header.
    missing, not_missing
        Words for a missing value in addition to the usual ones, and usual ones that are values.
    day_first
        Whether 01/02/2024 is in February.
    """

    encoding: str | None = None
    delimiter: str | None = None
    quote: str | None = None
    escape: str | None = None
    decimal: DecimalMark | None = None
    thousands: ThousandsMark | None = None
    skip_lines: Annotated[int, Meta(ge=0)] | None = None
    missing: tuple[str, ...] = ()
    not_missing: tuple[str, ...] = ()
    day_first: bool | None = None


Side = Annotated[int, Meta(ge=1, le=4096)]  # pixels


class Model(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model that was made elsewhere.

    Parameters
    ----------
    source
        A file, a folder with an MLmodel, or `models:/NAME/VERSION`, `models:/NAME@ALIAS`, `runs:/ID/PATH`.
    trust
        Whether a pickle may be opened, which can run any code.
    code
        The folders that its own classes are imported from.
    tensors
        Whether the tensors of an ONNX file are served as they are, through `/v2`; else it takes rows.
    """

    source: str
    trust: bool = False
    code: tuple[str, ...] = ()
    tensors: bool = False


class PictureInput(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an ONNX file that was made elsewhere takes a picture.

    Parameters
    ----------
    size
        Height and width in pixels; None: those of the file.
    layout
        The axes of its input; None: by the axis of one or three channels.
    channels
        Their order; None: "grey" for one channel, else "RGB".
    scale
        What the numbers from 0 to 255 are divided by.
    mean, std
        What is taken off then, and what the rest is divided by: one number, or one for each channel.
    crop
        Whether the middle of a picture is cut out; else all of it is stretched to the size.
    classes
        The labels in the order of the file's outputs; empty: those of the file, or numbers.
    output
        The output that is served; None: the only one of the file.
    """

    size: tuple[Side, Side] | None = None
    layout: Literal["NCHW", "NHWC"] | None = None
    channels: Literal["RGB", "BGR", "grey"] | None = None
    scale: Annotated[float, Meta(gt=0)] = 255.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[Annotated[float, Meta(gt=0)], ...] = (1.0,)
    crop: bool = False
    classes: tuple[Label, ...] = ()
    output: str | None = None


class Candidates(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Candidates of one's own, which join the search.

    Parameters
    ----------
    add
        Functions that return an estimator, or an estimator and a function of an Optuna trial to its
        parameters, each as "module:function".
    code
        Folders that the modules are imported from; empty for the folder of the TOML file.
    """

    add: tuple[str, ...] = ()
    code: tuple[str, ...] = ()


class Gate(Struct, frozen=True, forbid_unknown_fields=True):
    """What a model must meet to become champion."""

    floors: dict[str, float] = {}
    fairness: dict[str, float] = {}
    max_size_mb: Annotated[float, Meta(gt=0)] | None = None
    max_row_ms: Annotated[float, Meta(gt=0)] | None = None
    max_slice_gap: Annotated[float, Meta(ge=0)] | None = None
    min_gain: float = 0.0


class Rank(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A use case that ranks items for users, as `POST /models/NAME/rank` does; its target is a rating.

    Parameters
    ----------
    query, item
        The column of the users, or whoever items are ranked for, and the column of the items: one each.
    relevant
        A rating from which an item counts as relevant; None: the median of the training rows.
    gate
        What the gate compares two models by; None: the use case's metric.
    """

    query: tuple[str, ...] = ()
    item: tuple[str, ...] = ()
    relevant: float | None = None
    gate: RankMetric | None = None

    @property
    def pair(self) -> tuple[str, str]:
        """The column of users and that of items."""
        return self.query[0], self.item[0]


class CardWords(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What only a person can say of a model; `training/model_card.py` says where each is written."""

    owner: str = ""
    contact: str = ""
    licence: str = ""
    intended_use: str = ""
    users: str = ""
    out_of_scope: str = ""
    factors: str = ""
    training_data: str = ""
    ethics: str = ""
    caveats: str = ""


class Live(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `deploy follow` does by itself about the models that are live.

    Parameters
    ----------
    promote_shadow
        Make the shadow champion once it is better on rows with known outcomes.
    roll_back
        Compare each new champion with the one before it, and go back to that once it is better.
    metric
        The loss that decides; None: see `training.decide.losses.loss_of`.
    alpha
        The greatest probability that a comparison of two equal models ever decides for one of them.
    min_rows
        Fewer rows with known outcomes decide nothing.
    max_error
        Of a regression: a larger error counts as this one; None: three times the RMSE on the test rows.
    days
        The longest round of a comparison, no longer than the log keeps rows.
    """

    promote_shadow: bool = False
    roll_back: bool = False
    metric: str | None = None
    alpha: Annotated[float, Meta(ge=1e-9, lt=0.5)] = 0.05
    min_rows: Annotated[int, Meta(ge=1, le=1_000_000_000)] = 100
    max_error: Annotated[float, Meta(ge=1e-150, le=1e150)] | None = None  # its square is a finite number
    days: Annotated[float, Meta(ge=1e-6, le=36_500)] = 30

    @property
    def acts(self) -> bool:
        """Whether a rule is switched on."""
        return self.promote_shadow or self.roll_back


class UseCase(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The checked contents of `usecases/NAME.toml`. Paths in `source` are absolute.

    Parameters
    ----------
    source
        None only with a `model`, which is then served without being measured.
    target
        The column to predict. For the task "scores": what the numbers are called together.
    targets
        For the task "scores": the names of the numbers, and in a table the columns to compare them with.
    """

    name: str
    target: str
    targets: tuple[str, ...] = ()
    source: Source | None = None
    title: str = ""
    description: str = ""
    synthetic: bool = False
    task: Task | None = None
    positive: Label | None = None
    metric: str | None = None
    trials: Annotated[int, Meta(ge=1)] = 30
    timeout_s: Annotated[float, Meta(gt=0)] | None = None
    folds: Annotated[int, Meta(ge=2)] = 5
    test_fraction: Annotated[float, Meta(gt=0, lt=1)] = 0.2
    salt: str = ""
    group: str | None = None
    time: str | None = None
    threshold: Annotated[float, Meta(gt=0, lt=1)] | None = None
    read: Read = Read()
    formats: dict[str, str] = {}
    model: Model | None = None
    images: PictureInput | None = None
    candidates: Candidates = Candidates()
    rank: Rank | None = None
    leave_out: tuple[str, ...] = ()
    sensitive: tuple[str, ...] = ()
    use_sensitive: bool = False
    drop_classes: tuple[Label, ...] = ()
    kinds: dict[str, KindSetting] = {}
    unknown: dict[str, Literal["refuse", "missing"]] = {}
    missing: dict[str, Literal["refuse", "allow"]] = {}
    gate: Gate = Gate()
    card: CardWords = CardWords()
    canary: CanaryBounds = CanaryBounds()
    live: Live = Live()
    file: str = ""  # the path of the TOML file; not a key

    @property
    def target_columns(self) -> tuple[str, ...]:
        """The columns of a table that are no features because they are to be predicted."""
        return self.targets if self.task == "scores" else (self.target,)

    @property
    def measured(self) -> bool:
        """Whether a table has the true values of what the model predicts."""
        return self.source is not None and bool(self.target_columns)


def load_use_case(name_or_path: str | Path) -> UseCase:
    """Read `usecases/NAME.toml` of the checkout, or the TOML file at a path that ends in `.toml`.

    Raises UseCaseError for a file that does not exist or is not TOML, an unknown key, a wrong value.
    """
    path = _locate(str(name_or_path))
    try:
        text = path.read_bytes().decode("utf-8-sig")
        settings = tomllib.loads(text)
    except FileNotFoundError:
        raise UseCaseError(f"{path} does not exist.") from None
    except OSError as error:
        raise UseCaseError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise UseCaseError(f"{path} is not UTF-8, as TOML must be; save it as UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        raise UseCaseError(f"{path} is not TOML: {error}.") from None
    return _checked(settings, path)


def live_of(name_or_path: str) -> Live:
    """The rules of a use case; none for a name that has no TOML file in the checkout.

    Raises UseCaseError.
    """
    if name_or_path.endswith(".toml") or (USE_CASES / f"{name_or_path}.toml").is_file():
        return load_use_case(name_or_path).live
    return Live()


def all_use_cases() -> tuple[UseCase, ...]:
    """All use cases of the checkout, sorted by name."""
    return tuple(load_use_case(path) for path in sorted(USE_CASES.glob("*.toml")))


def nearest(wrong: str, right: Iterable[str]) -> str:
    """` (did you mean "x"?)` for the closest of `right`; empty if none is close."""
    choices = {choice.casefold(): choice for choice in right}
    close = difflib.get_close_matches(wrong.casefold(), list(choices), n=1, cutoff=0.5)
    return f' (did you mean "{choices[close[0]]}"?)' if close else ""


def _locate(name: str) -> Path:
    if name.endswith(".toml"):
        return Path(name).expanduser().resolve()
    path = USE_CASES / f"{name}.toml"
    if not NAME_RULE.fullmatch(name):
        table = Path(name).expanduser().is_file()
        command = typed(f"-m training init {name} --target COLUMN")
        hint = f" For a table of your own: {command}." if table else ""
        raise UseCaseError(
            f'"{name}" is not a use case: expected a name such as "breast_cancer" '
            f"({NAME_IN_WORDS}) or a file that ends in .toml.{hint}"
        )
    if not path.is_file():
        known = [found.stem for found in sorted(USE_CASES.glob("*.toml"))]
        raise UseCaseError(
            f'There is no use case "{name}"{nearest(name, known)}; '
            f"expected {', '.join(known)}, or your own file that ends in .toml."
        )
    return path


def _checked(settings: dict[str, Any], path: Path) -> UseCase:
    _refuse_unknown(settings, _fields(UseCase) - {"file"} | {"encoding"}, path, "")
    settings = _with_targets(settings, path)
    if "model" in settings and ("source" not in settings or settings.get("task") == "scores"):
        settings = {"target": UNMEASURED_TARGET, **settings}
    for key in ("target", "source"):
        if key not in settings and not (key == "source" and "model" in settings):
            raise UseCaseError(f"{path}: the key {key} is missing{_EXAMPLE[key]}.")
    for key in ("source", *_TABLES):
        if key in settings and not isinstance(settings[key], dict):
            raise UseCaseError(f"{path}: {key} is {_shown(settings[key])}, expected a table [{key}].")
    if "source" in settings:
        _check_source(settings["source"], path)
    for key, struct in _TABLES.items():
        _refuse_unknown(settings.get(key, {}), _fields(struct), path, f"{key}.")
    settings = _with_older_keys_moved(settings, path)
    settings.setdefault("name", path.stem)
    try:
        use_case = msgspec.convert(settings, UseCase)
    except msgspec.ValidationError as error:
        raise UseCaseError(f"{path}: {_explained(str(error), settings)}") from None
    _check_meaning(use_case, path)
    return _with_absolute_paths(_with_rank(use_case), path)


def _with_targets(settings: dict[str, Any], path: Path) -> dict[str, Any]:
    """Several targets are the task "scores", and together they are the target."""
    targets = settings.get("targets")
    if not isinstance(targets, list) or not all(isinstance(each, str) for each in targets):
        return settings
    if "target" in settings:
        raise UseCaseError(f"{path}: target and targets are both set; keep one of them.")
    task = settings.get("task", "scores")
    if task != "scores":
        raise UseCaseError(f'{path}: targets is for the task "scores", but task is {_shown(task)}.')
    if not targets or len(set(targets)) != len(targets) or "" in targets:
        raise UseCaseError(f"{path}: targets is {targets}, expected one name or more, each of them once.")
    return {**settings, "task": task, "target": ", ".join(targets)}


def _with_absolute_paths(use_case: UseCase, path: Path) -> UseCase:
    """Paths of a use case are relative to its file."""
    source = use_case.source
    if isinstance(source, Csv | Parquet | Images):
        source = msgspec.structs.replace(source, path=_absolute(source.path, path))
    model = use_case.model
    if model is not None:
        model = msgspec.structs.replace(
            model,
            source=model.source if model.source.startswith(REGISTERED) else _absolute(model.source, path),
            code=tuple(_absolute(folder, path) for folder in model.code),
        )
    own = use_case.candidates
    own = msgspec.structs.replace(own, code=tuple(_absolute(folder, path) for folder in own.code or (".",)))
    return msgspec.structs.replace(use_case, source=source, model=model, candidates=own, file=str(path))


def _absolute(named: str, file: Path) -> str:
    return str((file.parent / Path(named).expanduser()).resolve())


_TABLES: dict[str, type[Struct]] = {
    "gate": Gate, "read": Read, "model": Model, "images": PictureInput, "candidates": Candidates,
    "card": CardWords, "canary": CanaryBounds,
    "live": Live,
    "rank": Rank,
}  # fmt: skip
UNMEASURED_TARGET = "prediction"
"""What a model predicts that no table measures and whose use case does not name its target."""
_EXAMPLE = {
    "target": ': name the column to predict, for example target = "price"',
    "source": ': say where the data is, for example [source] with kind = "csv" and path = "data.csv"',
}
_SOURCES: dict[str, type[Struct]] = {
    "bundled": Bundled, "synthetic": Synthetic, "csv": Csv, "parquet": Parquet, "images": Images,
    "openml": OpenML, "sql": Sql,
}  # fmt: skip


def _check_source(source: dict[str, Any], path: Path) -> None:
    kind = source.get("kind")
    if kind not in _SOURCES:
        found = "is missing" if kind is None else f"is {_shown(kind)}"
        hint = nearest(str(kind), _SOURCES) if kind is not None else ""
        raise UseCaseError(f"{path}: source.kind {found}, expected one of {', '.join(_SOURCES)}{hint}.")
    struct = _SOURCES[kind]
    older = {"delimiter"} if struct is Csv else set()
    _refuse_unknown(source, _fields(struct) | {"kind"} | older, path, "source.")
    for field in msgspec.structs.fields(struct):
        if field.required and field.name not in source:
            raise UseCaseError(f"{path}: the key source.{field.name} is missing: kind = {kind!r} needs it.")


def _with_older_keys_moved(settings: dict[str, Any], path: Path) -> dict[str, Any]:
    """Move `encoding` and `source.delimiter`, as older files have them, into [read]."""
    source, read = dict(settings.get("source", {})), dict(settings.get("read", {}))
    moved = {**settings, "read": read} | ({"source": source} if "source" in settings else {})
    for key, table, name in (("encoding", moved, "encoding"), ("delimiter", source, "source.delimiter")):
        if key not in table:
            continue
        value = table.pop(key)
        if read.setdefault(key, value) != value:
            raise UseCaseError(
                f"{path}: {name} is {_shown(value)}, but read.{key} is {_shown(read[key])}; keep one of them."
            )
    return moved


def _refuse_unknown(table: Mapping[str, Any], known: set[str], path: Path, prefix: str) -> None:
    for key in table:
        if key not in known:
            raise UseCaseError(f'{path}: unknown key "{prefix}{key}"{nearest(key, sorted(known))}.')


def _check_candidates(use_case: UseCase, path: Path) -> None:
    for entry in use_case.candidates.add:
        if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", entry):
            raise UseCaseError(
                f'{path}: candidates.add has "{entry}", expected "module:function", such as "mymodels:build".'
            )
    if use_case.task == "scores" and use_case.model is None:
        raise UseCaseError(
            f'{path}: task is "scores", which only a model that was made elsewhere has: name the model in '
            "[model], or another task."
        )
    named = use_case.targets or use_case.target == UNMEASURED_TARGET
    if use_case.task == "scores" and use_case.source and not named:
        raise UseCaseError(
            f'{path}: task is "scores" and target is "{use_case.target}": for the task "scores", '
            "targets lists the columns of the table, one for each number of a prediction. Without "
            "target and targets, the table measures nothing."
        )
    if use_case.candidates.add and use_case.model is not None:
        raise UseCaseError(
            f"{path}: candidates.add and [model] exclude each other: a model that was made elsewhere is not "
            "searched for."
        )


def _check_fairness(use_case: UseCase, path: Path) -> None:
    if use_case.gate.fairness and use_case.task == "scores":
        raise UseCaseError(f'{path}: gate.fairness is for one target, but task is "scores".')
    allowed = fairness_measures(use_case.task)
    for measure, limit in use_case.gate.fairness.items():
        if not limit >= 0:
            raise UseCaseError(f'{path}: "{measure}" in gate.fairness is {limit:g}, expected 0 or more.')
        if measure not in allowed:
            what = f"for a {use_case.task} task some" if use_case.task else "some"
            raise UseCaseError(
                f'{path}: unknown measure "{measure}" in gate.fairness, expected {what} of '
                f"{', '.join(allowed)}{nearest(measure, allowed)}."
            )
    if use_case.gate.fairness and not use_case.sensitive:
        raise UseCaseError(
            f"{path}: gate.fairness compares groups of people, and no column makes them: "
            'name some, as sensitive = ["sex"].'
        )


def _check_rank(use_case: UseCase, path: Path) -> None:
    rank = use_case.rank
    if rank is None:
        return
    for key, columns in (("query", rank.query), ("item", rank.item)):
        _check_ranked_column(use_case, key, columns, path)
    if rank.query == rank.item:
        raise UseCaseError(f'{path}: rank.query and rank.item are both "{rank.item[0]}".')
    if use_case.task != "regression":
        found = f'is "{use_case.task}"' if use_case.task else "is not set"
        raise UseCaseError(
            f'{path}: [rank] needs a rating as the target: task {found}, expected task = "regression".'
        )
    if use_case.model is not None:
        raise UseCaseError(
            f"{path}: [rank] and [model] exclude each other: a model that was made elsewhere has no factors."
        )
    if rank.gate is not None and use_case.gate.max_slice_gap is not None:
        raise UseCaseError(
            f"{path}: gate.max_slice_gap compares groups by the metric, but rank.gate is "
            f'"{rank.gate}": keep one of them.'
        )


def _check_ranked_column(use_case: UseCase, key: str, columns: tuple[str, ...], path: Path) -> None:
    if len(columns) != 1:
        raise UseCaseError(
            f"{path}: rank.{key} names {len(columns)} columns, expected one, "
            f'such as {key} = ["{"user" if key == "query" else "movie"}"].'
        )
    column = columns[0]
    if key == "query" and column in RANK_OPTIONS:
        raise UseCaseError(
            f'{path}: rank.query names "{column}", which is a key of requests for a ranking: give the column '
            "another name."
        )
    if column in use_case.target_columns:
        raise UseCaseError(f'{path}: rank.{key} names the target "{column}" itself.')
    for other in ("leave_out", "sensitive"):
        if column in getattr(use_case, other):
            raise UseCaseError(f'{path}: rank.{key} names "{column}", which {other} names too.')
    if use_case.kinds.get(column, "category") != "category":
        raise UseCaseError(
            f'{path}: rank.{key} names "{column}", but "{column}" in kinds is '
            f"{use_case.kinds[column]}, expected category (or no line for it)."
        )


def _with_rank(use_case: UseCase) -> UseCase:
    """The two columns of [rank] are categories, and an unknown user or item is rated as the average one."""
    if use_case.rank is None:
        return use_case
    pair = use_case.rank.pair
    kinds: dict[str, KindSetting] = {**use_case.kinds, **dict.fromkeys(pair, "category")}
    unknown = {**dict.fromkeys(pair, "missing"), **use_case.unknown}
    return msgspec.structs.replace(use_case, kinds=kinds, unknown=unknown)


def _check_images(use_case: UseCase, path: Path) -> None:
    images, model = use_case.images, use_case.model
    if images is None:
        return
    if model is None:
        raise UseCaseError(
            f"{path}: [images] says how an ONNX file that was made elsewhere takes a picture, and there is "
            "no [model]."
        )
    if model.tensors:
        raise UseCaseError(
            f"{path}: model.tensors is true, but [images] says that the file takes pictures: remove one of "
            "them."
        )
    if use_case.source is not None:
        raise UseCaseError(f"{path}: no table measures a model with [images]: remove [source].")
    channels = 1 if images.channels == "grey" else 3
    for key in ("mean", "std"):
        values = getattr(images, key)
        if len(values) not in {1, channels}:
            raise UseCaseError(
                f"{path}: images.{key} has {len(values)} numbers, expected one, or one for each of "
                f"{channels} channels."
            )
    if len(images.classes) == 1 or len(set(images.classes)) != len(images.classes):
        raise UseCaseError(
            f"{path}: images.classes lists {len(images.classes)} labels, expected two or more, each once."
        )


def _check_live(use_case: UseCase, path: Path) -> None:
    live, task = use_case.live, use_case.task
    if task == "scores" and live != Live():
        raise UseCaseError(f'{path}: [live] compares classes or one number, but task is "scores".')
    losses = (
        LOSS_NAMES[task] if task else tuple(dict.fromkeys(name for of in LOSS_NAMES.values() for name in of))
    )
    if live.metric is not None and live.metric not in losses:
        what = f"for a {task} task one of" if task else "one of"
        raise UseCaseError(
            f'{path}: live.metric is "{live.metric}", expected {what} {", ".join(losses)}'
            f"{nearest(live.metric, losses)}: only these compare two models row by row."
        )
    if live.max_error is not None and task not in {None, "regression"}:
        raise UseCaseError(f'{path}: live.max_error is for a regression, but task is "{task}".')


def _check_meaning(  # noqa: C901, PLR0912 - one rule after the other
    use_case: UseCase, path: Path
) -> None:
    """Refuse values that have the right type and do not make sense."""
    if not NAME_RULE.fullmatch(use_case.name):
        raise UseCaseError(
            f'{path}: name is "{use_case.name}", expected {NAME_IN_WORDS} '
            "(without the key, the file's own name is taken)."
        )
    if path.parent == USE_CASES and use_case.name != path.stem:
        raise UseCaseError(f'{path}: name is "{use_case.name}", expected "{path.stem}" like the file.')
    allowed = METRIC_NAMES[use_case.task] if use_case.task else ALL_METRICS
    what = f"for a {use_case.task} task" if use_case.task else "as metric"
    if use_case.metric is not None and use_case.metric not in allowed:
        raise UseCaseError(
            f'{path}: metric is "{use_case.metric}", expected {what} one of '
            f"{', '.join(allowed)}{nearest(use_case.metric, allowed)}."
        )
    if use_case.rank is not None:
        allowed += RANK_METRIC_NAMES
    for metric in use_case.gate.floors:
        if metric not in allowed:
            raise UseCaseError(
                f'{path}: unknown metric "{metric}" in gate.floors, expected {what} some of '
                f"{', '.join(allowed)}{nearest(metric, allowed)}."
            )
    _check_fairness(use_case, path)
    _check_candidates(use_case, path)
    _check_live(use_case, path)
    _check_rank(use_case, path)
    _check_images(use_case, path)
    if use_case.model is not None and use_case.model.tensors and use_case.source is not None:
        raise UseCaseError(
            f"{path}: model.tensors is true, but no table measures such a model: remove [source]."
        )
    for key in ("positive", "threshold"):
        if getattr(use_case, key) is not None and use_case.task not in {None, "binary"}:
            raise UseCaseError(f'{path}: {key} is for a binary task, but task is "{use_case.task}".')
    if use_case.group and use_case.time:
        raise UseCaseError(f"{path}: group and time are both set; the split can use only one of them.")
    check_read(use_case.read, use_case.formats, path)
    for key in ("leave_out", "sensitive"):
        for target in use_case.target_columns:
            if target in getattr(use_case, key):
                raise UseCaseError(f'{path}: {key} names the target "{target}" itself.')


def read_of_options(options: Mapping[str, Any], formats: Mapping[str, str]) -> Read:
    """The table [read] from the options of a command, None being an option that is not set.

    Raises UseCaseError.
    """
    given = {key: value for key, value in options.items() if value is not None}
    if given.get("delimiter") in {"tab", "\\t"}:
        given["delimiter"] = "\t"
    try:
        read = msgspec.convert(given, Read)
    except msgspec.ValidationError as error:
        raise UseCaseError(f"An option is wrong: {_explained(str(error), {'read': given} | given)}") from None
    check_read(read, formats, "An option is wrong")
    return read


def check_read(  # noqa: C901 - one rule after the other
    read: Read, formats: Mapping[str, str], path: str | Path
) -> None:
    """Refuse values of [read] and [formats] that do not make sense. Raises UseCaseError."""
    if read.encoding is not None:
        try:
            codecs.lookup(read.encoding)
        except LookupError:
            known = ("utf-8", "utf-16", "gb18030", "shift_jis", "windows-1251", "latin-1")
            raise UseCaseError(
                f'{path}: unknown read.encoding "{read.encoding}", expected a name such as {", ".join(known)}'
                f"{nearest(read.encoding, known)}."
            ) from None
    for key, most, what in (
        ("delimiter", MAX_DELIMITER, f"one to {MAX_DELIMITER} characters"),
        ("quote", 1, "one character or an empty text"),
        ("escape", 1, "one character or an empty text"),
    ):
        value = getattr(read, key)
        if value is not None and (len(value) > most or (key == "delimiter" and not value)):
            raise UseCaseError(f"{path}: read.{key} is {_shown(value)}, expected {what}.")
    same = [key for key in ("delimiter", "quote") if getattr(read, key) is not None]
    if len(same) == 2 and read.delimiter == read.quote:
        raise UseCaseError(f"{path}: read.delimiter and read.quote are both {_shown(read.quote)}.")
    if read.decimal is not None and read.decimal == read.thousands:
        raise UseCaseError(f"{path}: read.decimal and read.thousands are both {_shown(read.decimal)}.")
    for word in read.missing:
        if word in read.not_missing:
            raise UseCaseError(f'{path}: "{word}" is in both read.missing and read.not_missing.')
    for column, form in formats.items():
        if not re.search(r"%[a-zA-Z]", form):
            raise UseCaseError(
                f'{path}: "{column}" in formats is {_shown(form)}, expected a date format such as "%d.%m.%Y".'
            )


def _fields(struct: type[Struct]) -> set[str]:
    return {field.name for field in msgspec.structs.fields(struct)}


_AT = re.compile(r"^(?P<reason>.*?)(?: - at `(?P<where>.*)`)?$", re.DOTALL)
_EXPECTED = re.compile(r"Expected (.*?)(?:, got .*)?$", re.DOTALL)
_TYPE_WORDS = {
    "str": "a text in quotes",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list in [ ]",
    "object": "a table",
    "null": "nothing",
}


def _explained(message: str, settings: dict[str, Any]) -> str:
    """Turn msgspec's message into one with the key, its value and what is expected."""
    match = _AT.match(message)
    reason, where = (match["reason"], match["where"] or "$") if match else (message, "$")
    key = where.removeprefix("$").removeprefix(".") or "the file"
    if "[...]" in key:
        return _explained_entry(key.split("[...]")[0], reason, settings)
    value: Any = settings
    for step in re.findall(r"[^.\[\]]+", key):
        try:
            value = value[int(step)] if isinstance(value, list | tuple) else value[step]
        except (KeyError, IndexError, ValueError, TypeError):
            return f"{key}: {reason}."
    return f"{key} is {_shown(value)}, expected {_expected(reason, key)}."


def _explained_entry(key: str, reason: str, settings: dict[str, Any]) -> str:
    """Find the wrong entry of a mapping, which msgspec does not name."""
    value: Any = settings
    for step in key.split("."):
        value = value[step]
    choices = _choices(key)
    for name, entry in value.items():
        if choices:
            wrong = entry not in choices
        elif reason.startswith("Expected `str`"):
            wrong = not isinstance(entry, str)
        else:
            wrong = isinstance(entry, bool) or not isinstance(entry, int | float)
        if wrong:
            hint = nearest(str(entry), choices) if isinstance(entry, str) else ""
            return f'"{name}" in {key} is {_shown(entry)}, expected {_expected(reason, key)}{hint}.'
    return f"{key}: {reason}."


def _choices(key: str) -> tuple[str, ...]:
    return {
        "kinds": get_args(KindSetting),
        "unknown": ("refuse", "missing"),
        "missing": ("refuse", "allow"),
        "task": get_args(Task),
        "source.name": (),
        "read.decimal": DECIMAL_MARKS,
        "read.thousands": THOUSANDS_MARKS,
    }.get(key, ())


def _expected(reason: str, key: str) -> str:
    choices = _choices(key)
    if choices:
        listed = ", ".join(repr(choice) if not choice.isidentifier() else choice for choice in choices)
        return f"one of {listed}"
    if key == "source.name":
        return "the name of a bundled or generated set (see usecases/)"
    match = _EXPECTED.match(reason)
    if match is None:
        return f"something else ({reason})"
    return re.sub(
        r"`([^`]*)`",
        lambda found: " or ".join(
            _TYPE_WORDS.get(w.strip(), w.strip()) for w in found[1].split("|") if w.strip() != "null"
        ),
        match[1],
    )


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'the text "{value[:60]}"'
    if isinstance(value, dict):
        return "a table"
    return str(value)[:60]

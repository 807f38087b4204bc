"""`python -m training`: train, compare, promote. Each command imports what it needs, `--help` nothing."""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import sys
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.interpreter import lacks, typed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from training.decide.promote import Verdict
    from training.registry.mlflow_registry import Version
    from training.run import Budget, Result
    from training.settings import Read, UseCase

DONE, FAILED, USAGE, REFUSED, INTERRUPTED = 0, 1, 2, 3, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code: 0 done, 1 failed, 2 usage or data, 3 refused, 4 registry."""
    parser = argparse.ArgumentParser(
        prog="python -m training", description="From a table to a gated model in MLflow."
    )
    add_commands(parser.add_subparsers(title="commands", metavar="COMMAND", required=True))
    return execute(parser.parse_args(arguments))


def execute(chosen: argparse.Namespace) -> int:
    """Run a command that was parsed, and turn an error that was foreseen into its sentence and exit code."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    warnings.simplefilter("ignore")
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    try:
        return int(chosen.command(chosen))
    except KeyboardInterrupt:
        print(
            "\nInterrupted. Trials that were finished stay in MLflow; nothing was registered or promoted "
            "that was not said above.",
            file=sys.stderr,
        )
        return INTERRUPTED
    except BrokenPipeError:
        sys.stdout = None  # nobody reads it any more
        return DONE
    except ModuleNotFoundError as error:
        said = lacks(error, "training")
        if said is None:
            raise
        print(f"error: {said}", file=sys.stderr)
        return USAGE
    except Exception as error:
        code = getattr(error, "exit_code", None) or _code_of(error)
        if code is None:
            raise
        print(f"error: {error}", file=sys.stderr)
        return int(code)


def _code_of(error: Exception) -> int | None:
    """Errors whose modules are too heavy to import for their names alone."""
    return {"SearchError": USAGE, "ExportError": FAILED, "ArtifactError": FAILED, "BadRows": USAGE}.get(
        type(error).__name__
    )


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verbs of this package; what each parses into is for `execute`."""

    def command(name: str, does: Any, text: str, *, takes_name: bool = True) -> argparse.ArgumentParser:
        found = commands.add_parser(name, help=text, description=text)
        found.set_defaults(command=does, execute=execute)
        if takes_name:
            found.add_argument("name", metavar="NAME|FILE.toml", help="a use case, or the TOML file of one")
        return found

    def budget(found: argparse.ArgumentParser) -> None:
        found.add_argument("--trials", type=_positive, metavar="N", help="candidates to try")
        found.add_argument(
            "--timeout", type=_seconds, metavar="S", help="seconds after which no more are tried"
        )
        found.add_argument("--seed", type=int, default=0, metavar="K", help="of every draw (default: 0)")
        found.add_argument(
            "--storage", metavar="URL", help="an Optuna storage, for several processes that share one search"
        )
        found.add_argument(
            "--study", metavar="STUDY", help="its name in the storage (default: okamochi-NAME)"
        )

    budget(command("run", run, "train, register, and promote what the gate accepts"))
    budget(command("ensure", ensure, "as run, but only if the table or the use case has changed"))
    budget(command("tune", tune, "help the search that others share by --storage; registers nothing"))
    command("list", list_use_cases, "the use cases, and who is champion", takes_name=False)
    command("show", show, "champion and challenger side by side").add_argument(
        "--json", action="store_true", help="for a program to read"
    )
    command("promote", promote, "let the challenger meet the champion again").add_argument(
        "--force", action="store_true", help="promote it whatever the gate says"
    )
    command("rollback", rollback, "make the previous champion live again").add_argument(
        "--to", metavar="VERSION", help="the version instead; needed where the last change was a rollback"
    )
    command("card", card, "print the champion's model card")
    command("report", report, "write a report on the table's quality, with pictures")
    judged = command("live", live, "hold the champion's live quality against what it promised")
    judged.add_argument(
        "--log",
        metavar="FOLDER|URL",
        help="the prediction log (default: OKAMOCHI_PREDICTION_LOG, as the server has it)",
    )
    judged.add_argument("--json", action="store_true", help="for a program to read")
    judged.add_argument(
        "--publish", action="store_true", help="leave the verdict in the log, for the servers' metrics"
    )
    starting = command("init", init, "write a use case for a table of your own", takes_name=False)
    starting.add_argument("data", metavar="DATA.csv", help="a CSV or Parquet file")
    starting.add_argument("--target", required=True, metavar="COLUMN", help="the column to predict")
    reading_options(starting)
    looking = command("preview", preview, "show how a file is read, and what is unsure", takes_name=False)
    looking.add_argument("data", metavar="FILE", help="a CSV or Parquet file")
    looking.add_argument("--target", metavar="COLUMN", help="the column to predict")
    looking.add_argument("--rows", type=_positive, default=20, metavar="N", help="rows to show (default: 20)")
    looking.add_argument("--json", action="store_true", help="for a program to read")
    reading_options(looking)


def reading_options(found: argparse.ArgumentParser) -> None:
    """The keys of [read] and [formats] as options."""
    group = found.add_argument_group("how the file is written, where it is not found out or found wrongly")
    group.add_argument("--encoding", metavar="NAME", help='such as "gb18030" or "windows-1251"')
    group.add_argument("--delimiter", metavar="C", help='the character between cells, or "tab"')
    group.add_argument("--quote", metavar="C", help='the character around cells; "" for none')
    group.add_argument(
        "--escape", metavar="C", help='the character before a quote inside of quotes; "" for none'
    )
    group.add_argument("--decimal", choices=(".", ","), help="the decimal mark")
    group.add_argument("--thousands", metavar="C", help='the mark between thousands; "" for none')
    group.add_argument("--skip-lines", type=int, metavar="N", help="lines above the header")
    group.add_argument(
        "--missing", action="append", metavar="WORD", help="words that stand for a missing value"
    )
    group.add_argument(
        "--not-missing", action="append", metavar="WORD", help="a usual word for a missing value that is none"
    )
    order = group.add_mutually_exclusive_group()
    order.add_argument("--day-first", action="store_true", default=None, help="01/02/2024 is in February")
    order.add_argument(
        "--month-first", action="store_false", dest="day_first", help="01/02/2024 is in January"
    )
    group.add_argument(
        "--format", action="append", metavar="COLUMN=FORMAT", help="the format of dates, as day=%%d.%%m.%%Y"
    )


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {value}")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"expected more than 0 seconds, got {text}")
    return value


# ------------------------------------------------------------------------------------------------- commands


def run(chosen: argparse.Namespace) -> int:
    """`run NAME`."""
    from training.progress import Progress
    from training.run import run as train

    use_case = _use_case(chosen)
    progress = Progress()
    try:
        result = train(use_case, _budget(chosen), progress)
    finally:
        progress.done()
    _tell(use_case, result, chosen)
    return DONE if result.verdict.accepted else REFUSED


def ensure(chosen: argparse.Namespace) -> int:
    """`ensure NAME`."""
    from training.registry.mlflow_registry import CHAMPION, peek
    from training.run import up_to_date

    use_case = _use_case(chosen)
    made = up_to_date(use_case)
    if made is None:
        return run(chosen)
    champion = peek(use_case.name, CHAMPION)
    if champion is None:
        print(f"{use_case.name}: version {made.number} was refused and nothing has changed since.")
        print(f"  {made.tags.get('gate.reasons', '')}")
        return REFUSED
    print(f"{use_case.name}: champion version {champion.number}, {_known_for(champion)}; nothing to train.")
    return DONE


def tune(chosen: argparse.Namespace) -> int:
    """`tune NAME --storage URL`."""
    from training.progress import Progress
    from training.run import tune as help_search
    from training.settings import UseCaseError

    use_case = _use_case(chosen)
    if chosen.storage is None:
        raise UseCaseError(
            "tune helps a search that others share: name its database with --storage postgresql+psycopg://..."
        )
    progress = Progress()
    try:
        done = help_search(use_case, _budget(chosen), progress)
    finally:
        progress.done()
    print(f"{use_case.name}: the study has {done} trials; run with the same --storage chooses among them.")
    return DONE


def list_use_cases(_: argparse.Namespace) -> int:
    """`list`."""
    from training.registry.mlflow_registry import CHAMPION, peek
    from training.settings import all_use_cases

    rows = [("NAME", "WHAT", "CHAMPION")]
    for use_case in all_use_cases():
        champion = peek(use_case.name, CHAMPION)
        live = "-" if champion is None else f"version {champion.number}: {_known_for(champion)}"
        rows.append((use_case.name, use_case.title, live))
    _print_table(rows)
    return DONE


def show(chosen: argparse.Namespace) -> int:
    """`show NAME`."""
    from training.decide.promote import FIGURES
    from training.registry.mlflow_registry import CHALLENGER, CHAMPION, PREVIOUS, peek

    name = _name(chosen)
    found = {alias: peek(name, alias) for alias in (CHAMPION, CHALLENGER, PREVIOUS)}
    if all(version is None for version in found.values()):
        print(f"{name} has no version in the registry: {_run(chosen)}", file=sys.stderr)
        return USAGE
    told = {alias: _told(version, FIGURES) for alias, version in found.items() if version is not None}
    if chosen.json:
        print(
            json.dumps(
                {"name": name, "champion": None, "challenger": None, "previous": None} | told, indent=2
            )
        )
        return DONE
    print(f"{name}\n")
    _print_table(_side_by_side(told))
    challenger = told.get(CHALLENGER)
    if challenger is not None:
        print(f"\nThe challenger was {challenger['gate']}:")
        print(f"  {challenger['reasons']}")
    return DONE


def promote(chosen: argparse.Namespace) -> int:
    """`promote NAME`."""
    from training.decide.promote import NothingToPromoteError, challenge, exam_of
    from training.registry.mlflow_registry import CHALLENGER, Registry
    from training.tables.data import load_table

    use_case = _use_case(chosen)
    registry = Registry()
    challenger = registry.version(use_case.name, CHALLENGER)
    if challenger is None:
        raise NothingToPromoteError(f"{use_case.name} has no challenger to promote: {_run(chosen)}")
    print(f"Comparing version {challenger.number} with the champion on the test rows", file=sys.stderr)
    verdict = challenge(registry, exam_of(load_table(use_case)), challenger, force=chosen.force)
    _tell_verdict(use_case.name, verdict)
    return DONE if verdict.accepted else REFUSED


def rollback(chosen: argparse.Namespace) -> int:
    """`rollback NAME`."""
    from training.decide.promote import rollback as roll_back
    from training.registry.mlflow_registry import Registry

    name = _name(chosen)
    live, before = roll_back(Registry(), name, chosen.to)
    if live.number == before.number:
        print(f"{name}: version {live.number} is the champion already ({_known_for(live)}).")
        print("Nothing has changed.")
    else:
        print(f"{name}: version {live.number} ({_known_for(live)}) is champion again,")
        print(f"in place of version {before.number} ({_known_for(before)}), which is `previous` now.")
        if live.tags.get("gate") == "refused":
            print(f"The gate had refused version {live.number}: {live.tags.get('gate.reasons', '')}")
    print(f"To serve it: make bundle USECASES={chosen.name}, then restart the server.")
    return DONE


def card(chosen: argparse.Namespace) -> int:
    """`card NAME`."""
    from artifact import manifest
    from training.registry.mlflow_registry import CHAMPION, Registry, peek

    name = _name(chosen)
    champion = peek(name, CHAMPION)
    if champion is None:
        print(f"{name} has no champion: {_run(chosen)}", file=sys.stderr)
        return USAGE
    with tempfile.TemporaryDirectory(prefix="okamochi-") as folder:
        artifact = manifest.load(Registry().download(champion, Path(folder)), name=name)
        print((artifact.path / manifest.CARD).read_text("utf-8"))
    return DONE


def report(chosen: argparse.Namespace) -> int:
    """`report NAME`."""
    from training.tables.data import load_table, test_rows
    from training.tables.report import summary, write_report
    from training.tables.schema import signature_of

    table = load_table(_use_case(chosen))
    path = write_report(table, signature_of(table, ~test_rows(table)), Path("reports"))
    print(summary(table))
    print(f"\nThe report is at {path}")
    return DONE


def live(chosen: argparse.Namespace) -> int:
    """`live NAME [--log FOLDER|URL] [--publish]`."""
    from artifact import manifest
    from training.decide.live import (
        NothingToJudgeError,
        as_json,
        judge,
        publish,
        read_log,
        table,
        write_picture,
    )
    from training.registry.mlflow_registry import CHAMPION, Registry, peek

    name = _name(chosen)
    target = chosen.log or os.environ.get("OKAMOCHI_PREDICTION_LOG", "")
    if not target:
        raise NothingToJudgeError(
            "name the prediction log with --log FOLDER, --log postgresql://... or by OKAMOCHI_PREDICTION_LOG"
        )
    champion = peek(name, CHAMPION)
    if champion is None:
        raise NothingToJudgeError(f"{name} has no champion: {_run(chosen)}")
    with tempfile.TemporaryDirectory(prefix="okamochi-") as folder:
        signature = manifest.load(Registry().download(champion, Path(folder)), name=name).signature
    found = judge(champion, signature, read_log(target, name))
    if chosen.publish:
        publish(found, target)
    try:
        picture = f"The picture is at {write_picture(found, Path('reports'))}"
    except OSError as error:  # as in a pod whose root is read-only
        picture = f"There is no picture: {error}"
    print(as_json(found) if chosen.json else f"{table(found)}\n\n{picture}")
    return REFUSED if found.broken else DONE


def init(chosen: argparse.Namespace) -> int:
    """`init DATA.csv --target COLUMN`."""
    from training.tables.init import write_use_case

    path = write_use_case(
        chosen.data,
        chosen.target,
        read=_read(chosen),
        formats=_formats(chosen),
        tell=lambda line: print(line, file=sys.stderr),
        width=_terminal(),
    )
    print(f"{path} is written: look it over, then train with")
    print(f"  {typed(f'-m training run {path.name}')}")
    return DONE


def preview(chosen: argparse.Namespace) -> int:
    """`preview FILE`."""
    from training.tables.preview import as_json, as_text
    from training.tables.preview import preview as look

    found = look(
        chosen.data, target=chosen.target, rows=chosen.rows, read=_read(chosen), formats=_formats(chosen)
    )
    print(as_json(found) if chosen.json else as_text(found, _terminal()))
    return DONE


# --------------------------------------------------------------------------------------------------- words


def _use_case(chosen: argparse.Namespace) -> UseCase:
    from training.settings import load_use_case

    return load_use_case(chosen.name)


def _read(chosen: argparse.Namespace) -> Read:
    from training.settings import read_of_options

    keys = (
        "encoding", "delimiter", "quote", "escape", "decimal", "thousands", "skip_lines", "missing",
        "not_missing", "day_first",
    )  # fmt: skip
    return read_of_options({key: getattr(chosen, key) for key in keys}, _formats(chosen))


def _formats(chosen: argparse.Namespace) -> dict[str, str]:
    return dict(pair.rpartition("=")[::2] for pair in chosen.format or ())


def _terminal() -> int:
    return shutil.get_terminal_size((110, 24)).columns


def _name(chosen: argparse.Namespace) -> str:
    """A name in the registry needs no TOML file here; one that is in neither is a slip of the pen."""
    from training.registry.mlflow_registry import CHALLENGER, CHAMPION, peek

    name = str(chosen.name)
    if not name.endswith(".toml") and any(peek(name, alias) for alias in (CHAMPION, CHALLENGER)):
        return name
    return _use_case(chosen).name


def _run(chosen: argparse.Namespace) -> str:
    return typed(f"-m training run {chosen.name}")


def _budget(chosen: argparse.Namespace) -> Budget:
    from training.run import Budget

    return Budget(chosen.trials, chosen.timeout, chosen.seed, chosen.storage, chosen.study)


def _known_for(version: Version) -> str:
    tags = version.tags
    metric = tags.get("metric", "")
    return f"{tags.get('algorithm', '?')}, {metric} {tags.get(f'test_{metric}', '?')}"


def _told(version: Version, figures_tag: str) -> dict[str, Any]:
    tags = version.tags
    figures = json.loads(tags.get(figures_tag, "{}"))
    return {
        "version": version.number,
        "run": version.run_id,
        "algorithm": tags.get("algorithm"),
        "runtime": tags.get("runtime"),
        "metric": tags.get("metric"),
        "gate": tags.get("gate", "not judged yet"),
        "reasons": tags.get("gate.reasons", ""),
        "size_mb": figures.get("size_mb"),
        "row_ms": figures.get("row_ms"),
        "metrics": figures.get("metrics")
        or {
            key.removeprefix("test_"): float(value) for key, value in tags.items() if key.startswith("test_")
        },
    }


def _side_by_side(told: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    sides = list(told.values())
    rows: list[tuple[str, ...]] = [("", *told)]
    rows += [
        (key, *(str(side[key] or "-") for side in sides))
        for key in ("version", "algorithm", "runtime", "gate")
    ]
    names = dict.fromkeys(name for side in sides for name in side["metrics"])
    rows += [(name, *(_figure(side["metrics"].get(name)) for side in sides)) for name in names]
    rows += [(key, *(_figure(side[key]) for side in sides)) for key in ("size_mb", "row_ms")]
    return rows


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _tell(use_case: UseCase, result: Result, chosen: argparse.Namespace) -> None:
    """The last screen of a run: what won, how good it is, what the gate said, where to look, what next."""
    finished, verdict = result.finished, result.verdict
    metric = finished.tags["metric"]
    print(f"\n{use_case.title or use_case.name}: {finished.tags['algorithm']} won")
    if result.resumed:
        print(
            "  It was trained by a run that was cut off; only what was missing in MLflow has been done now."
        )
    print("\n".join(f"  {member}" for member in finished.params["settings"].split("; ")) + "\n")
    champion = verdict.champion
    head = ["", f"version {verdict.challenger.number}", "baseline"]
    compared = champion is not None and champion.number != verdict.challenger.number
    head += [f"champion ({champion.number})"] if compared and champion is not None else []
    rows = [tuple(head)]
    for name, value in sorted(verdict.metrics.items(), key=lambda pair: pair[0] != metric):
        cells = [name, _figure(value), _figure(finished.baseline.get(name))]
        cells += [_figure(verdict.champion_metrics.get(name))] if compared else []
        rows.append(tuple(cells))
    _print_table(rows)
    print(f"\n  on {finished.params['test_rows']} test rows; runs by {finished.tags['runtime']}, ", end="")
    print(f"{verdict.figures.size_mb:.3g} MB, {verdict.figures.row_ms:.3g} ms a row")
    _tell_verdict(use_case.name, verdict)
    print("  Experiments:  make mlflow")
    if not verdict.accepted:
        print(f"  Next:         {typed(f'-m training show {chosen.name}')}")
    elif chosen.command is not ensure:  # which `make serve` asks, and goes on by itself
        print(f"  Next:         make serve USECASES={chosen.name}")


def _tell_verdict(name: str, verdict: Verdict) -> None:
    says = "promoted to champion" if verdict.accepted else "refused; the champion stays"
    if not verdict.accepted and verdict.champion is None:
        says = "refused; there is no champion yet"
    print(f"\nThe gate: {name} version {verdict.challenger.number} is {says}")
    for reason in verdict.decision.reasons:
        print(f"  - {reason}")
    print()


if __name__ == "__main__":
    sys.exit(main())

"""`python -m training`: train, compare, promote. Each command imports its own modules, `--help` none."""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import sys
import tempfile
import warnings
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.interpreter import lacks, typed
from training.options import (
    budget_options,
    forget_options,
    formats_of,
    gate_options,
    init_options,
    live_options,
    preview_options,
    read_of,
    role_options,
)
from training.screen import gate_of, known_for, result_of, side_by_side, table_of, told_timeline, told_version

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.job import Budget
    from training.settings import UseCase
    from training.tables.data import Table

DONE, FAILED, USAGE, REFUSED, INTERRUPTED = 0, 1, 2, 3, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code: 0 done, 1 failed, 2 usage or data, 3 refused, 4 registry."""
    parser = argparse.ArgumentParser(
        prog="python -m training", description="From a table to a gated model in MLflow."
    )
    add_commands(parser.add_subparsers(title="commands", metavar="COMMAND", required=True))
    return execute(parser.parse_args(arguments))


def execute(chosen: argparse.Namespace) -> int:
    """Run a parsed command; print an expected error as its sentence, and return its exit code."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    warnings.simplefilter("ignore")
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    try:
        return int(chosen.command(chosen))
    except KeyboardInterrupt:
        print(
            "\nInterrupted. Finished trials stay in MLflow; nothing was registered or promoted beyond what "
            "is printed above.",
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
    """The exit code of errors whose modules are too slow to import here."""
    return {"SearchError": USAGE, "ExportError": FAILED, "ArtifactError": FAILED, "BadRows": USAGE}.get(
        type(error).__name__
    )


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands of this package to a parser; `execute` runs what it parses."""

    def command(name: str, does: Any, text: str, *, takes_name: bool = True) -> argparse.ArgumentParser:
        found = commands.add_parser(name, help=text, description=text)
        found.set_defaults(command=does, execute=execute)
        if takes_name:
            found.add_argument("name", metavar="NAME|FILE.toml", help="a use case, or the TOML file of one")
        return found

    budget_options(gate_options(command("run", run, "train, register, and promote what the gate accepts")))
    budget_options(
        gate_options(command("ensure", ensure, "as run, but only if the table or the use case has changed"))
    )
    budget_options(
        command("tune", tune, "work on a search that is shared through --storage; registers nothing")
    )
    command("list", list_use_cases, "the use cases and the champion of each", takes_name=False)
    command("show", show, "champion and challenger side by side").add_argument(
        "--json", action="store_true", help="print JSON, for a program to read"
    )
    gate_options(
        command(
            "promote",
            promote,
            "compare the challenger with the champion again, and promote it if the gate accepts it",
        )
    ).add_argument("--force", action="store_true", help="promote it even if the gate refuses it")
    command("rollback", rollback, "make the previous champion live again").add_argument(
        "--to",
        metavar="VERSION",
        help="the version to make live instead; required if the last change was a rollback",
    )
    role_options(command("role", role, "let a version stand beside the champion, as shadow or canary"))
    told = command("timeline", timeline, "print when which version became champion, and why")
    told.add_argument("--json", action="store_true", help="print JSON, for a program to read")
    command("card", card, "print the champion's model card")
    command("report", report, "write a report on the table's quality, with pictures")
    live_options(command("live", live, "compare the champion's live quality with what it promised"))
    forget_options(
        command(
            "forget", forget, "remove a person's rows and feedback from the prediction log", takes_name=False
        )
    )
    init_options(command("init", init, "write a use case for a table of your own", takes_name=False))
    preview_options(
        command("preview", preview, "show how a file is read, and what is unsure", takes_name=False)
    )


# ------------------------------------------------------------------------------------------------- commands


def run(chosen: argparse.Namespace) -> int:
    """`run NAME`."""
    use_case = _use_case(chosen)
    # After the use case was read, since these import scikit-learn and pandas, which takes seconds.
    from training.progress import Progress
    from training.run import run as train

    progress = Progress()
    try:
        result = train(use_case, _budget(chosen), progress, anyway=chosen.anyway)
    finally:
        progress.done()
    # `make serve` calls `ensure`, and serves the model next.
    print(result_of(use_case, result, chosen.name, goes_on=chosen.command is ensure))
    return DONE if result.gate.accepted else REFUSED


def ensure(chosen: argparse.Namespace) -> int:
    """`ensure NAME`."""
    from training.freshness import up_to_date
    from training.registry.mlflow_registry import read_alias
    from training.registry.records import CHAMPION

    use_case = _use_case(chosen)
    made = up_to_date(use_case)
    if made is None:
        return run(chosen)
    champion = read_alias(use_case.name, CHAMPION)
    if champion is None:
        print(f"{use_case.name}: version {made.number} was refused and nothing has changed since.")
        print(f"  {made.tags.get('gate.reasons', '')}")
        return REFUSED
    print(f"{use_case.name}: champion version {champion.number}, {known_for(champion)}; nothing to train.")
    return DONE


def tune(chosen: argparse.Namespace) -> int:
    """`tune NAME --storage URL`."""
    from training.settings import UseCaseError

    use_case = _use_case(chosen)
    if chosen.storage is None:
        raise UseCaseError(
            "tune works on a shared search: name its database by --storage postgresql+psycopg://..."
        )
    from training.progress import Progress
    from training.run import tune as help_search

    progress = Progress()
    try:
        done = help_search(use_case, _budget(chosen), progress)
    finally:
        progress.done()
    print(f"{use_case.name}: the study has {done} trials; `run` with the same --storage uses them.")
    return DONE


def list_use_cases(_: argparse.Namespace) -> int:
    """`list`."""
    from training.registry.mlflow_registry import read_alias
    from training.registry.records import CHAMPION
    from training.settings import all_use_cases

    rows = [("NAME", "WHAT", "CHAMPION")]
    for use_case in all_use_cases():
        champion = read_alias(use_case.name, CHAMPION)
        live = "-" if champion is None else f"version {champion.number}: {known_for(champion)}"
        rows.append((use_case.name, use_case.title, live))
    print(table_of(rows))
    return DONE


def show(chosen: argparse.Namespace) -> int:
    """`show NAME`."""
    from training.decide.promote import FIGURES
    from training.registry.mlflow_registry import read_alias
    from training.registry.records import CHALLENGER, CHAMPION, PREVIOUS

    name = _name(chosen)
    found = {alias: read_alias(name, alias) for alias in (CHAMPION, CHALLENGER, PREVIOUS)}
    if all(version is None for version in found.values()):
        print(f"{name} has no version in the registry: {_run(chosen)}", file=sys.stderr)
        return USAGE
    told = {alias: told_version(version, FIGURES) for alias, version in found.items() if version is not None}
    if chosen.json:
        print(
            json.dumps(
                {"name": name, "champion": None, "challenger": None, "previous": None} | told, indent=2
            )
        )
        return DONE
    print(f"{name}\n")
    print(table_of(side_by_side(told)))
    for alias, each in told.items():
        if each["runtime_reason"]:
            print(f"\nThe {alias} runs by {each['runtime']}: {each['runtime_reason']}")
    challenger = told.get(CHALLENGER)
    if challenger is not None:
        print(f"\nThe challenger was {challenger['gate']}:")
        print(f"  {challenger['reasons']}")
    return DONE


def promote(chosen: argparse.Namespace) -> int:
    """`promote NAME`."""
    from training.decide.aliases import NothingToPromoteError
    from training.decide.promote import challenge, challenge_unmeasured
    from training.decide.test_set import test_set_of
    from training.registry.mlflow_registry import Registry
    from training.registry.records import CHALLENGER
    from training.tables.data import load_table

    use_case = _use_case(chosen)
    registry = Registry()
    challenger = registry.version(use_case.name, CHALLENGER)
    if challenger is None:
        raise NothingToPromoteError(f"{use_case.name} has no challenger to promote: {_run(chosen)}")
    if not use_case.measured:
        result = challenge_unmeasured(registry, use_case, challenger, force=chosen.force)
        print(gate_of(use_case.name, result))
        return DONE if result.accepted else REFUSED
    print(f"Comparing version {challenger.number} with the champion on the test rows", file=sys.stderr)
    test = test_set_of(load_table(use_case))
    result = challenge(registry, test, challenger, force=chosen.force, anyway=chosen.anyway)
    print(gate_of(use_case.name, result))
    return DONE if result.accepted else REFUSED


def rollback(chosen: argparse.Namespace) -> int:
    """`rollback NAME`."""
    from training.decide.aliases import rollback as roll_back
    from training.registry.mlflow_registry import Registry

    name = _name(chosen)
    live, before = roll_back(Registry(), name, chosen.to)
    if live.number == before.number:
        print(f"{name}: version {live.number} is the champion already ({known_for(live)}).")
        print("Nothing has changed.")
    else:
        print(f"{name}: version {live.number} ({known_for(live)}) is champion again,")
        print(f"in place of version {before.number} ({known_for(before)}), which is `previous` now.")
        if live.tags.get("gate") == "refused":
            print(f"The gate had refused version {live.number}: {live.tags.get('gate.reasons', '')}")
    print(
        f"`make serve` takes it within seconds. For another server: make bundle USECASES={chosen.name}; "
        "a server that runs opens it without a restart."
    )
    return DONE


def role(chosen: argparse.Namespace) -> int:
    """`role NAME ROLE`."""
    from training.decide.aliases import set_role, stops_of
    from training.registry.mlflow_registry import Registry
    from training.registry.records import CANARY

    if chosen.percent is not None and chosen.role != CANARY:
        print("--percent is for a canary: a shadow answers no request.", file=sys.stderr)
        return USAGE
    name, registry = _name(chosen), Registry()
    if chosen.none:
        registry.delete_alias(name, chosen.role)
        print(f"{name} has no {chosen.role} now.")
    else:
        version = set_role(registry, name, chosen.role, chosen.version, chosen.percent)
        print(f"{name}: version {version.number} ({known_for(version)}) is the {chosen.role} now.")
        for stop in stops_of(version)[-1:] if chosen.role == CANARY else ():
            print(f"It was stopped as a canary at {stop.at}: {stop.reason}")
    print("`make serve` and `python -m deploy follow` take it within seconds.")
    return DONE


def timeline(chosen: argparse.Namespace) -> int:
    """`timeline NAME`."""
    from training.decide.timeline import timeline as events_of
    from training.registry.mlflow_registry import Registry, exists

    name = _name(chosen)
    events = events_of(Registry(), name) if exists() else []
    if chosen.json:
        print(json.dumps([asdict(event) for event in events], indent=1))
    elif events:
        print(told_timeline(events))
    else:
        print(f"{name} has no version in the registry: {_run(chosen)}")
    return DONE


def card(chosen: argparse.Namespace) -> int:
    """`card NAME`."""
    from artifact import manifest
    from training.model_card import without_pictures
    from training.registry.mlflow_registry import Registry, read_alias
    from training.registry.records import CHAMPION

    name = _name(chosen)
    champion = read_alias(name, CHAMPION)
    if champion is None:
        print(f"{name} has no champion: {_run(chosen)}", file=sys.stderr)
        return USAGE
    with tempfile.TemporaryDirectory(prefix="okamochi-") as folder:
        artifact = manifest.load(Registry().download(champion, Path(folder)), name=name)
        text = (artifact.path / manifest.CARD).read_text("utf-8")
        print(without_pictures(text) if sys.stdout.isatty() else text)
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
    from training.decide.live import judge
    from training.decide.live_log import NothingToJudgeError, publish, read_log
    from training.decide.live_report import as_dict, as_json, table, write_picture
    from training.decide.rivals import contender, rivals_of
    from training.registry.mlflow_registry import Registry, read_alias
    from training.registry.records import CHAMPION
    from training.settings import live_of

    name = _name(chosen)
    target = chosen.log or os.environ.get("OKAMOCHI_PREDICTION_LOG", "")
    if not target:
        raise NothingToJudgeError(
            "name the prediction log by --log FOLDER, --log postgresql://... or OKAMOCHI_PREDICTION_LOG"
        )
    version = read_alias(name, CHAMPION)
    if version is None:
        raise NothingToJudgeError(f"{name} has no champion: {_run(chosen)}")
    registry = Registry()
    champion = contender(registry, version)
    rivals = rivals_of(registry, champion, target, live_of(chosen.name))
    try:
        found = judge(version, champion.signature, read_log(target, name))
    except NothingToJudgeError as error:
        # What the shadow says needs no promise, and its agreement needs no feedback.
        if rivals.shadow is not None:
            judged = {"name": name, "version": version.number, "not_judged": str(error)}
            print(as_json({**judged, **rivals.as_dict()}) if chosen.json else f"{rivals.told()}\n")
        raise
    if chosen.publish:
        publish(found.verdict(), target)
    try:
        picture = f"The picture is at {write_picture(found, Path('reports'))}"
    except OSError as error:  # in a pod, the root file system may be read-only
        picture = f"The picture could not be written: {error}"
    if chosen.json:
        print(as_json({**as_dict(found), **rivals.as_dict()}))
    else:
        print(f"{table(found)}\n\n{rivals.told()}\n\n{picture}")
    return REFUSED if found.broken else DONE


def forget(chosen: argparse.Namespace) -> int:
    """`forget [NAME] --column COLUMN --value VALUE... [--log FOLDER|URL] [--models] [--dry-run]`."""
    from training.decide.live_log import sealing_keys
    from training.erasure.forget import as_json, as_text
    from training.erasure.forget import forget as erase
    from training.erasure.person import ErasureError, Person

    target = chosen.log or os.environ.get("OKAMOCHI_PREDICTION_LOG", "")
    if not target:
        raise ErasureError(
            "name the prediction log by --log FOLDER, --log postgresql://... or OKAMOCHI_PREDICTION_LOG"
        )
    values = [
        value
        for given in chosen.value
        for value in (sys.stdin.read().splitlines() if given == "-" else [given])
    ]
    if not values or not all(value.strip() for value in values):
        raise ErasureError("--value is empty; expected what the person has in the column")
    person = Person(
        chosen.column,
        tuple(values),
        model=_use_case(chosen).name if str(chosen.name).endswith(".toml") else chosen.name or "",
        hash_key=os.environ.get("OKAMOCHI_HASH_KEY", "").strip(),
        sealing=sealing_keys(),
    )
    found = erase(target, person, dry=chosen.dry_run, models=chosen.models)
    print(as_json(found, dry=chosen.dry_run) if chosen.json else as_text(found, person, dry=chosen.dry_run))
    return FAILED if found.problems else DONE


def init(chosen: argparse.Namespace) -> int:
    """`init DATA.csv --target COLUMN`, `init MODEL --data DATA.csv --target COLUMN`, or `init MODEL`."""
    from artifact.models_lock import NAME_IN_WORDS, NAME_RULE
    from training.imported.init import is_model, write_model_use_case, write_unmeasured_use_case
    from training.tables.init import write_use_case

    if chosen.name and not NAME_RULE.fullmatch(chosen.name):
        print(f"error: --name is {chosen.name!r}, expected {NAME_IN_WORDS}", file=sys.stderr)
        return USAGE
    told: dict[str, Any] = {
        "read": read_of(chosen),
        "formats": formats_of(chosen),
        "tell": lambda line: print(line, file=sys.stderr),
        "width": _terminal(),
        "name": chosen.name,
    }
    opens: dict[str, Any] = {"trust": chosen.trust, "code": chosen.code or ()}
    if chosen.table is None and (is_model(chosen.data, chosen.target)):
        path = write_unmeasured_use_case(
            chosen.data, name=chosen.name, target=chosen.target or "", tell=told["tell"], **opens
        )
        print(f"{path} is written. Check it, then serve it:")
        print(f"  make serve USECASES={path.name}")
        return DONE
    if chosen.target is None and chosen.table is None:
        print("error: --target is missing; name the column to predict", file=sys.stderr)
        return USAGE
    if chosen.table is not None:
        path = write_model_use_case(chosen.data, chosen.table, chosen.target, **opens, **told)
    else:
        path = write_use_case(chosen.data, chosen.target, taken=_taken, **told)
    print(f"{path} is written. Check it, then train:")
    print(f"  {typed(f'-m training run {path.name}')}")
    return DONE


def preview(chosen: argparse.Namespace) -> int:
    """`preview FILE`."""
    from training.tables.preview import as_json, as_text
    from training.tables.preview import preview as look

    found = look(
        chosen.data, target=chosen.target, rows=chosen.rows, read=read_of(chosen), formats=formats_of(chosen)
    )
    print(as_json(found) if chosen.json else as_text(found, _terminal()))
    return DONE


# --------------------------------------------------------------------------------------------------- words


def _use_case(chosen: argparse.Namespace) -> UseCase:
    from training.settings import load_use_case

    return load_use_case(chosen.name)


def _taken(name: str, table: Table) -> bool:
    """Whether a name belongs to another table; if the registry cannot be read, `run` checks it later."""
    from training.owner import columns_of, is_of_another_table
    from training.registry.mlflow_registry import read_alias
    from training.registry.records import CHALLENGER, CHAMPION, RegistryError

    with suppress(RegistryError):
        for alias in (CHAMPION, CHALLENGER):
            version = read_alias(name, alias)
            if version and is_of_another_table(version.tags, table.use_case.target, columns_of(table)):
                return True
    return False


def _terminal() -> int:
    return shutil.get_terminal_size((110, 24)).columns


def _name(chosen: argparse.Namespace) -> str:
    """The use case's name; one that is in the registry needs no TOML file."""
    from training.registry.mlflow_registry import read_alias
    from training.registry.records import CHALLENGER, CHAMPION

    name = str(chosen.name)
    if not name.endswith(".toml") and any(read_alias(name, alias) for alias in (CHAMPION, CHALLENGER)):
        return name
    return _use_case(chosen).name


def _run(chosen: argparse.Namespace) -> str:
    return typed(f"-m training run {chosen.name}")


def _budget(chosen: argparse.Namespace) -> Budget:
    from training.job import Budget

    return Budget(chosen.trials, chosen.timeout, chosen.seed, chosen.storage, chosen.study)


if __name__ == "__main__":
    sys.exit(main())

"""`python -m deploy COMMAND`: from the registry to a running server."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from deploy import DEFAULT_BASE_IMAGE, DEFAULT_IMAGE
from training.interpreter import lacks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command: 0 done, 1 failed, 2 wrong usage or data, 3 refused by the gate, 4 registry."""
    parser = argparse.ArgumentParser(prog="python -m deploy", description=__doc__)
    add_commands(parser.add_subparsers(required=True, metavar="COMMAND"))
    return execute(parser.parse_args(arguments))


def execute(options: argparse.Namespace) -> int:
    """Run a parsed command; where a package is missing, print which Python has it."""
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except KeyboardInterrupt:
        return 130
    except ModuleNotFoundError as error:
        said = lacks(error, "deploy")
        if said is None:
            raise
        print(said, file=sys.stderr)
        return 2


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands of this package to a parser; `execute` runs what it parses."""
    _add_serving(commands)
    _add_score(commands)
    _add_cluster(commands)
    _add_keys(commands)
    _add_upkeep(commands)


def _add_serving(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """From the registry to a server on this machine."""
    bundle = commands.add_parser("bundle", help="put champions into BentoML's model store and models.lock")
    bundle.add_argument("names", nargs="+", metavar="NAME", help="a use case or its TOML file")
    bundle.add_argument(
        "--only",
        action="store_true",
        help="write models.lock with these models only, the default first; otherwise its other lines stay",
    )
    bundle.add_argument(
        "--role",
        type=role,
        default=("champion", 0.0),
        metavar="ROLE",
        help="the alias to bundle: champion (default), shadow, or canary=5 for 5 %% of the callers",
    )
    bundle.set_defaults(run=run_bundle, execute=execute)

    serve = commands.add_parser(
        "serve", help="train use cases that are new or have changed, bundle the champions, serve them"
    )
    serve.add_argument(
        "names",
        nargs="+",
        metavar="NAME",
        help="a use case or its TOML file; the first is the default of /predict",
    )
    serve.add_argument("--port", type=int, default=3000)
    serve.add_argument("--mlflow-port", type=int, default=5001, help="the port that the printed hint names")
    serve.add_argument("--trials", type=int, help="the search budget of a training")
    serve.add_argument(
        "--no-follow", action="store_true", help="do not serve new champions without a restart"
    )
    serve.set_defaults(run=run_serve, execute=execute)

    follow = commands.add_parser(
        "follow", help="bring each new champion into models.lock until a signal comes"
    )
    follow.add_argument(
        "names", nargs="*", metavar="NAME", help="use cases (default: those that the file names)"
    )
    follow.add_argument("--every", type=seconds, metavar="SECONDS", help="the time between two checks")
    follow.add_argument(
        "--keep", type=count, metavar="N", help="keep only N older versions of these names in the store"
    )
    follow.add_argument(
        "--lock", type=Path, metavar="FILE", help="the file to write (default: the checkout's models.lock)"
    )
    follow.add_argument(
        "--canary-percent",
        type=percentage,
        default=5.0,
        metavar="N",
        help="the percentage of a canary whose version has no tag okamochi.canary_percent (default: 5)",
    )
    follow.add_argument(
        "--once", action="store_true", help="check once; exit code 0 if all are in the file, else 1"
    )
    follow.add_argument("--end-with-stdin", action="store_true", help="end when standard input ends")
    follow.set_defaults(run=run_follow, execute=execute)


def _add_score(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """From a table to its predictions."""
    score = commands.add_parser("score", help="add a model's predictions to a table of any size")
    score.add_argument(
        "model",
        metavar="MODEL",
        help="a use case, a folder of an artifact, a BentoML tag or models:/NAME@ALIAS",
    )
    score.add_argument(
        "table",
        metavar="TABLE",
        help="CSV, Parquet, JSON lines, gzipped or not, or a folder of them; or postgresql://HOST/DB?table=NAME",
    )
    score.add_argument("output", metavar="OUTPUT", help="likewise; for a folder, a folder")
    score.add_argument("--query", metavar="SQL", help="what to read from a database, instead of ?table=NAME")
    score.add_argument(
        "--key",
        metavar="COLUMN",
        help="the unique column of a query by which a killed run goes on (default: a table's primary key)",
    )
    score.add_argument(
        "--columns", type=words, metavar="NAMES", help="the columns of the table that are kept (default: all)"
    )
    score.add_argument("--probabilities", action="store_true", help="write the classes' probabilities too")
    score.add_argument(
        "--threshold", type=fraction, help="from which probability the positive label is predicted"
    )
    score.add_argument("--delimiter", help="of a CSV file, or tab (default: found in its header)")
    score.add_argument("--encoding", default="utf-8", help="of a CSV file (default: utf-8)")
    score.add_argument("--jobs", type=jobs, default=0, help="processes that score (default: one a core)")
    score.add_argument(
        "--engine",
        choices=("local", "spark"),
        default="local",
        help="spark: on a cluster of Spark, from and to any of its file systems; the output is a folder",
    )
    score.add_argument(
        "--master", metavar="URL", help="of Spark, such as spark://host:7077 (default: this machine)"
    )
    score.add_argument("--overwrite", action="store_true", help="replace an output that exists")
    score.set_defaults(run=run_score, execute=execute)


def _add_cluster(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """From `models.lock` to a cluster."""
    image = commands.add_parser("image", help="build the server's image with the bundled models")
    add_image_options(image, default=DEFAULT_IMAGE)
    image.set_defaults(run=run_image, execute=execute)

    bill = commands.add_parser("sbom", help="print the bill of materials of the image (CycloneDX JSON)")
    bill.add_argument("--to", type=Path, metavar="FILE", help="write it to a file instead")
    bill.add_argument("--licences", action="store_true", help="print the packages of each licence instead")
    bill.add_argument("--base-image", default=DEFAULT_BASE_IMAGE)
    bill.set_defaults(run=run_sbom, execute=execute)

    cluster = commands.add_parser("cluster", help="serve the bundled models on a Kubernetes cluster")
    add_image_options(cluster, default=DEFAULT_IMAGE)
    add_cluster_options(cluster)
    cluster.set_defaults(run=run_cluster, execute=execute)

    rollout = commands.add_parser(
        "rollout", help="roll out champions, check their golden rows, undo the rollout if one differs"
    )
    rollout.add_argument(
        "names", nargs="*", metavar="NAME", help="use cases to bundle again; other lines of models.lock stay"
    )
    add_image_options(rollout, default="okamochi")
    add_cluster_options(rollout)
    rollout.set_defaults(run=run_rollout, execute=execute)


def _add_keys(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Who may ask a server what."""
    keys = commands.add_parser("keys", help="add, list and revoke the keys that clients of a server need")
    actions = keys.add_subparsers(required=True, metavar="ACTION")

    add = actions.add_parser("add", help="make a key, print it once, and keep its hash in the file")
    add.add_argument("name", metavar="NAME", help="whose key it is; the server's log has this name")
    add.add_argument(
        "--role",
        dest="roles",
        required=True,
        type=words,
        metavar="ROLES",
        help="predict, explain, feedback, observe or admin; several with commas between them",
    )
    add.add_argument(
        "--certificate",
        default="",
        metavar="NAME",
        help="instead of a key: a name of a client certificate, such as DNS:shop.example.com or CN:shop",
    )
    add.add_argument(
        "--models", default=[], type=words, metavar="NAMES", help="the models it is for (default: all)"
    )
    add.add_argument("--rate", default="", metavar="N/s", help="such as 100/s, 60/min (default: no limit)")
    add.add_argument(
        "--digits",
        default=0,
        type=int,
        metavar="N",
        help="digits that probabilities are rounded to (default: as OKAMOCHI_PROBABILITY_DIGITS says)",
    )
    add.add_argument(
        "--expires", default="", metavar="TIME", help="such as 90d, 12h, 2027-06-30 (default: never)"
    )
    add.set_defaults(run=run_keys_add, execute=execute)

    listed = actions.add_parser("list", help="print the keys of the file, without any secret")
    listed.set_defaults(run=run_keys_list, execute=execute)

    revoke = actions.add_parser("revoke", help="let a key, or all keys of a name, no longer count")
    revoke.add_argument("name", metavar="NAME", help="the name or the id that `keys list` prints")
    revoke.set_defaults(run=run_keys_revoke, execute=execute)

    for action in (add, listed, revoke):
        action.add_argument(
            "--file", type=Path, metavar="FILE", help="the file of keys (default: OKAMOCHI_KEYS)"
        )


def _add_upkeep(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The registry's pages, backups and locks."""
    mlflow = commands.add_parser("mlflow", help="start the MLflow UI on the registry that training writes to")
    mlflow.add_argument("--port", type=int, default=5001)
    mlflow.set_defaults(run=run_mlflow, execute=execute)

    backup = commands.add_parser(
        "backup", help="write the registry, stored models, models.lock and prediction log into one archive"
    )
    backup.add_argument(
        "--to", type=Path, metavar="FILE", help="the archive (default: backups/okamochi-TIME.tar.gz)"
    )
    backup.set_defaults(run=run_backup, execute=execute)

    restore = commands.add_parser(
        "restore", help="restore an archive of `backup`, here or in another checkout"
    )
    restore.add_argument("file", type=Path, metavar="FILE")
    restore.add_argument("--overwrite", action="store_true", help="move existing state aside")
    restore.set_defaults(run=run_restore, execute=execute)

    signing_key = commands.add_parser(
        "signing-key", help="make a key that signs models, and print its line for OKAMOCHI_TRUSTED_KEYS"
    )
    signing_key.add_argument("file", type=Path, metavar="FILE", help="where the private key is written")
    signing_key.add_argument("--name", required=True, help="whose key it is, as /models shows it")
    signing_key.set_defaults(run=run_signing_key, execute=execute)

    sign = commands.add_parser("sign", help="sign champions again with the key of OKAMOCHI_SIGNING_KEY")
    sign.add_argument("names", nargs="+", metavar="NAME", help="a use case or its TOML file")
    sign.set_defaults(run=run_sign, execute=execute)

    log_key = commands.add_parser(
        "log-key", help="add a key to the file that OKAMOCHI_LOG_KEYS names; it encrypts from then on"
    )
    log_key.add_argument(
        "file", type=Path, metavar="FILE", help="the keys file; created if it does not exist"
    )
    log_key.add_argument("--id", default="", help="the key's id (default: the day)")
    log_key.set_defaults(run=run_log_key, execute=execute)

    lock = commands.add_parser("lock", help="resolve the dependency groups into requirements/")
    lock.add_argument(
        "--upgrade", action="store_true", help="take newer versions where the groups allow them"
    )
    lock.set_defaults(run=run_lock, execute=execute)


def seconds(text: str) -> float:
    """Parse the time between two checks."""
    value = float(text)
    if not 0.1 <= value <= 86_400:
        raise argparse.ArgumentTypeError(f"{text} is not between 0.1 and 86400 seconds")
    return value


def role(text: str) -> tuple[str, float]:
    """Parse a role of `models.lock`."""
    from artifact.models_lock import role_of

    try:
        return role_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a role; expected {error}") from None


def percentage(text: str) -> float:
    """Parse the percentage of a canary."""
    return role(f"canary={text}")[1]


def count(text: str) -> int:
    """Parse a number of versions."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is less than 0")
    return value


def jobs(text: str) -> int:
    """Parse a number of processes; 0 is one for each core."""
    value = int(text)
    if not 0 <= value <= 1024:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1024")
    return value


def fraction(text: str) -> float:
    """Parse a probability."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def words(text: str) -> list[str]:
    """Parse names with commas between them."""
    return [word for word in text.replace(",", " ").split() if word]


def add_image_options(parser: argparse.ArgumentParser, *, default: str) -> None:
    parser.add_argument(
        "--image",
        default=default,
        help="the name of the image; without a tag, the digest of its content becomes the tag",
    )
    parser.add_argument("--base-image", default=DEFAULT_BASE_IMAGE)
    parser.add_argument(
        "--build-args", default="", metavar="OPTIONS", help="further options for docker or buildah"
    )


def add_cluster_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--context", default="", help="a context of the kubeconfig (default: the kind cluster okamochi)"
    )
    parser.add_argument(
        "--loader", default="", metavar="COMMAND", help="the command that brings an image to the nodes"
    )
    parser.add_argument(
        "--timeout", type=int, default=300, metavar="SECONDS", help="how long pods may take to become ready"
    )


# Each command imports its own modules: importing mlflow takes seconds.


def run_bundle(options: argparse.Namespace) -> int:
    from artifact.models_lock import CHAMPION
    from deploy.bundle import bundle, bundle_beside

    def run() -> int:
        role, percent = options.role
        if role != CHAMPION and options.only:
            print(f"--only writes champions; leave it out to add a {role}.", file=sys.stderr)
            return 2
        if role == CHAMPION:
            print("\n".join(bundle(options.names, only=options.only).lines()))
            return 0
        for model in bundle_beside(options.names, role, percent):
            print(f"{model.name}: {role} version {model.version} is bundled as {model.tag}")
        return 0

    return explained(run)


def run_serve(options: argparse.Namespace) -> int:
    from deploy.serve import serve

    return explained(
        lambda: serve(
            options.names,
            port=options.port,
            mlflow_port=options.mlflow_port,
            trials=options.trials,
            followed=not options.no_follow,
        )
    )


def run_follow(options: argparse.Namespace) -> int:
    from deploy.bundle import MODELS_LOCK
    from deploy.follow import EVERY_S, follow

    return explained(
        lambda: follow(
            options.names,
            options.lock or MODELS_LOCK,
            every_s=options.every or EVERY_S,
            keep=options.keep,
            once=options.once,
            canary_percent=options.canary_percent,
            end_with_stdin=options.end_with_stdin,
        )
    )


def run_image(options: argparse.Namespace) -> int:
    from deploy import image

    def run() -> int:
        image.build(options.image, base=options.base_image, options=options.build_args)
        return 0

    return explained(run)


def run_sbom(options: argparse.Namespace) -> int:
    import json

    from deploy import image, sbom

    def run() -> int:
        tags = image.bundled() | image.beside()
        _, bill = image.materials(tags, image.CHECKOUT, options.base_image)
        if options.licences:
            for licence, packages in sbom.licences(json.loads(bill)).items():
                print(f"{licence}\n  {', '.join(packages)}")
        elif options.to is None:
            print(bill, end="")
        else:
            options.to.write_text(bill)
            print(f"{options.to}: {len(json.loads(bill)['components'])} packages and models")
        return 0

    return explained(run)


def run_cluster(options: argparse.Namespace) -> int:
    from deploy import cluster

    def run() -> int:
        found = cluster.find(options.context, options.loader, create=True)
        return cluster.up(
            found,
            options.image,
            base=options.base_image,
            options=options.build_args,
            timeout_s=options.timeout,
        )

    return explained(run)


def run_rollout(options: argparse.Namespace) -> int:
    from deploy import cluster, rollout
    from deploy.bundle import bundle
    from deploy.image import tagged

    def run() -> int:
        found = cluster.find(options.context, options.loader, create=False)
        rollout.check_deployed(found)
        image = options.image
        if tagged(image):
            found.load(image)
        else:
            if options.names:
                print("\n".join(bundle(options.names).lines()), flush=True)
            image = cluster.provide(found, image, base=options.base_image, options=options.build_args).image
        return rollout.rollout(found, image, timeout_s=options.timeout)

    return explained(run)


def run_keys_add(options: argparse.Namespace) -> int:
    from deploy import keys

    def run() -> int:
        path = keys.file_of(options.file)
        secret, key = keys.add(
            path,
            options.name,
            options.roles,
            certificate=options.certificate,
            models=options.models,
            rate=options.rate,
            digits=options.digits,
            expires=options.expires,
        )
        if secret:
            print(secret)
        print(keys.told(key, path), file=sys.stderr)
        return 0

    return explained(run)


def run_keys_list(options: argparse.Namespace) -> int:
    from deploy import keys

    def run() -> int:
        print("\n".join(keys.table(keys.file_of(options.file))))
        return 0

    return explained(run)


def run_keys_revoke(options: argparse.Namespace) -> int:
    from deploy import keys

    def run() -> int:
        path = keys.file_of(options.file)
        for key in keys.revoke(path, options.name):
            print(f"{key.id} of {key.name} is revoked; servers that read {path} refuse it within seconds")
        return 0

    return explained(run)


def run_score(options: argparse.Namespace) -> int:
    from deploy.score import command
    from deploy.score.rows import Asked

    columns = None if options.columns is None else tuple(options.columns)
    job = {
        "asked": Asked(columns, options.probabilities, options.threshold),
        "delimiter": "\t" if options.delimiter in {"tab", "\\t"} else options.delimiter,
        "encoding": options.encoding,
        "overwrite": options.overwrite,
    }
    if options.engine == "spark":
        if options.query or options.key or options.jobs:
            print("--query, --key and --jobs are for --engine local", file=sys.stderr)
            return 2
        job["master"] = options.master
        return explained(lambda: command.run_on_spark(options.model, options.table, options.output, job))
    if options.master:
        print("--master is for --engine spark", file=sys.stderr)
        return 2
    job |= {
        "jobs": options.jobs or len(os.sched_getaffinity(0)),
        "query": options.query,
        "key": options.key,
        "progress": True,
    }
    return explained(lambda: command.run(options.model, options.table, options.output, job))


def run_mlflow(options: argparse.Namespace) -> int:
    from deploy import program
    from training.registry.place import shown_uri, tracking_uri

    uri = tracking_uri()
    if uri.startswith(("http:", "https:")):
        print(f"MLFLOW_TRACKING_URI is an MLflow server; its UI is at {shown_uri(uri)}")
        return 0
    stopped = program.catch_signals()
    print(
        f"The experiments in {shown_uri(uri)}: http://127.0.0.1:{options.port}  (Ctrl-C stops it)", flush=True
    )
    # One worker: with MLflow's default of four, its parent process kills a worker that takes over 5 s to
    # start. On a busy machine all do, and MLflow then neither answers nor ends. Jobs are for language models.
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(options.port)]
    command += ["--workers", "1", "--backend-store-uri", uri]
    return program.run(command, stopped, cwd=Path.cwd()) or 0


def run_backup(options: argparse.Namespace) -> int:
    from artifact import store
    from deploy.backup import LOG_VARIABLE, backup, contents, find_state, not_archived, read_manifest

    def run() -> int:
        path = backup(options.to)
        whole = read_manifest(path)
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
        print("\n".join(contents(whole)))
        if find_state().log is None:
            is_database = os.environ.get(LOG_VARIABLE, "").strip()
            why = "is a database; back that up itself" if is_database else "is not set here"
            print(f"  without the prediction log: {LOG_VARIABLE} {why}")
        absent = not_archived(whole)
        if not absent:
            return 0
        print(
            f"models.lock names {', '.join(absent)}, but no intact copy is in {store.bentoml_home()}, so the "
            "archive has none. Set BENTOML_HOME to that of the server, or bundle again, and back up again.",
            file=sys.stderr,
        )
        return 1

    return explained(run)


def run_restore(options: argparse.Namespace) -> int:
    from deploy.backup import contents, restore, served_again

    def run() -> int:
        done = restore(options.file, overwrite=options.overwrite)
        print(f"Restored {options.file}, written {done.manifest.created}:")
        print("\n".join(contents(done.manifest)))
        for part in done.left_out:
            print(f"  left out: {part}")
        if done.replaced is not None:
            print(f"The state from before is in {done.replaced}")
        print(served_again())
        return 0

    return explained(run)


def run_signing_key(options: argparse.Namespace) -> int:
    from artifact.signing import make_key

    def run() -> int:
        line = make_key(options.file, options.name)
        print(
            f"{options.file} is the private key: set OKAMOCHI_SIGNING_KEY to it where models are promoted.\n"
            "Servers need this line in the file of OKAMOCHI_TRUSTED_KEYS; a last day may follow:",
            file=sys.stderr,
        )
        print(line)
        return 0

    return explained(run)


def run_sign(options: argparse.Namespace) -> int:
    from deploy.bundle import sign_champion

    def run() -> int:
        for name in options.names:
            print(sign_champion(name))
        return 0

    return explained(run)


def run_log_key(options: argparse.Namespace) -> int:
    from artifact.sealing import add_key

    def run() -> int:
        one = add_key(options.file, options.id)
        print(f"{options.file}: the key {one} encrypts from now on. Keep the file: without it, no row opens.")
        return 0

    return explained(run)


def run_lock(options: argparse.Namespace) -> int:
    from deploy.lock import lock

    return lock(["--upgrade"] if options.upgrade else [])


def explained(run: Callable[[], int]) -> int:
    """Print an expected error as its sentence; give its exit code.

    Each expected error has an `exit_code` of its own. Naming the classes would import modules that an image
    which runs one command may not have.
    """
    from artifact.manifest import ArtifactError
    from deploy.bundle import NoVersionError

    try:
        return run()
    except (ArtifactError, NoVersionError) as error:
        print(error, file=sys.stderr)
        return 1
    except Exception as error:
        code = getattr(error, "exit_code", None)
        if not isinstance(code, int):
            raise
        print(error, file=sys.stderr)
        return code


if __name__ == "__main__":
    sys.exit(main())

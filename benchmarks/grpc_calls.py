"""`make bench ARGS=--grpc`: calls of one row by gRPC, beside an empty service on grpcio, and MLServer.

The load is ghz's (`go install github.com/bojand/ghz/cmd/ghz@latest`): 64 callers on 8 connections, in
interleaved rounds. The empty service parses the message and answers the name of the model. Beside the rate,
the processor time of a call is compared, which other load on the machine hardly changes.
`python -m benchmarks.grpc_calls` measures this alone as well.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import grpc
import uvloop

from benchmarks.contestants import Setting, mlserver, ours
from benchmarks.environments import CHECKOUT, Absent
from benchmarks.json_report import publish
from benchmarks.models import KINDS, read
from benchmarks.servers import (
    BenchError,
    Command,
    Server,
    cpu_since_mark,
    free_port,
    mark_cpu,
    running,
)
from serving.grpc import schema

CALLERS, CONNECTIONS = 64, 8
READY_S = 120.0
OUT = CHECKOUT / "reports" / "bench" / "grpc.json"
EMPTY, OURS, MLSERVER = "empty grpc.aio", "okamochi", "MLServer"
AIMS = {EMPTY: 3.0, MLSERVER: 5.0}
"""How many times the rate of each ours is to be."""


class Side(NamedTuple):
    """A running server and its port of gRPC."""

    server: Server
    port: int


async def empty(port: int) -> None:
    """Serve the empty service until this process ends."""
    request, response = schema.METHODS["ModelInfer"]

    async def infer(message: Any, _: Any) -> Any:
        return response(model_name=message.model_name)

    handler = grpc.unary_unary_rpc_method_handler(infer, request.FromString, response.SerializeToString)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(schema.SERVICE, {"ModelInfer": handler}),)
    )
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    print("ready", flush=True)
    await server.wait_for_termination()


def ghz_program() -> str:
    """The load generator.

    Raises
    ------
    Absent
        It is not installed.
    """
    found = shutil.which("ghz") or shutil.which("ghz", path=str(Path.home() / "go" / "bin"))
    if found is None:
        raise Absent("ghz is not installed (go install github.com/bojand/ghz/cmd/ghz@latest)")
    return found


def sides(stack: ExitStack, models: Path, scratch: Path, rows: list[Any]) -> dict[str, Side]:
    """Start each server; one that cannot be started is left out with a sentence."""
    model = KINDS[0].name
    found: dict[str, Side] = {}
    for name in (EMPTY, OURS, MLSERVER):
        folder = scratch / name.replace(" ", "-")
        folder.mkdir(parents=True)
        port = free_port()  # and the next one, which MLServer takes
        setting = Setting(read(models, model), models / model, port, folder)
        try:
            command = _command(name, setting)
        except Absent as reason:
            print(f"gRPC: {name} is absent: {reason}", file=sys.stderr)
            continue
        server = stack.enter_context(running(name, command, port, folder / "log"))
        side = Side(server, port + 1)
        _await(side, _message(rows[0]))
        found[name] = side
    return found


def _command(name: str, setting: Setting) -> Command:
    if name == EMPTY:
        argv = [sys.executable, "-m", "benchmarks.grpc_calls", "--empty", str(setting.port + 1)]
        return Command(argv, CHECKOUT)
    if name == MLSERVER:
        return mlserver(setting)
    command = ours(setting)
    command.environment["OKAMOCHI_GRPC_PORT"] = str(setting.port + 1)
    return command


def _message(row: list[float]) -> dict[str, Any]:
    contents = {"fp64_contents": row}
    tensors = [{"name": "features", "datatype": "FP64", "shape": [1, len(row)], "contents": contents}]
    return {"model_name": KINDS[0].name, "inputs": tensors}


def _await(side: Side, message: dict[str, Any]) -> None:
    """Wait until a server answers this message."""
    request, response = schema.METHODS["ModelInfer"]
    sent = request(model_name=message["model_name"])
    (tensor,) = message["inputs"]
    sent.inputs.add(
        name=tensor["name"], datatype="FP64", shape=tensor["shape"]
    ).contents.fp64_contents.extend(tensor["contents"]["fp64_contents"])
    until = time.monotonic() + READY_S
    while True:
        with grpc.insecure_channel(
            f"127.0.0.1:{side.port}", [("grpc.use_local_subchannel_pool", 1)]
        ) as channel:
            infer = channel.unary_unary(
                f"/{schema.SERVICE}/ModelInfer", request.SerializeToString, response.FromString
            )
            try:
                infer(sent, timeout=5)
            except grpc.RpcError as error:
                if time.monotonic() > until or side.server.process.poll() is not None:
                    raise BenchError(f"{side.server.name}: {error}\n{side.server.last_words()}") from error
            else:
                return
        time.sleep(0.2)


def load(ghz: str, side: Side, message: Path, seconds: float) -> dict[str, Any]:
    """One round; the calls that its end cuts off are not counted as failures."""
    command = [ghz, "--insecure", "--protoset", str(schema.PROTOSET)]
    command += ["--call", f"{schema.SERVICE}.ModelInfer", "--data-file", str(message), "--format", "json"]
    command += ["--concurrency", str(CALLERS), "--connections", str(CONNECTIONS)]
    command += ["--duration", f"{seconds}s", "--duration-stop", "wait", f"127.0.0.1:{side.port}"]
    mark_cpu(side.server)
    found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    used = cpu_since_mark(side.server)
    slow = {each["percentage"]: each["latency"] / 1e6 for each in found["latencyDistribution"]}
    codes = found["statusCodeDistribution"]
    cpu_us = used / sum(codes.values()) * 1e6 if used is not None else None
    return {"rate": found["rps"], "p99_ms": slow[99], "cpu_us": cpu_us, "codes": codes}


def measure(ghz: str, models: Path, rounds: int, seconds: float) -> bool:
    """Measure, print and write all sides and their ratios: whether every call was answered."""
    rows = read(models, KINDS[0].name).rows
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="okamochi-grpc-")))
        running_sides = sides(stack, models, scratch, rows)
        message = scratch / "message.json"
        message.write_text(json.dumps(_message(rows[0])))
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in running_sides}
        for _ in range(rounds):
            for name, side in running_sides.items():
                found[name].append(load(ghz, side, message, seconds))
    rates = {name: median(each["rate"] for each in side) for name, side in found.items()}
    costs = {name: median(each["cpu_us"] or 0 for each in side) for name, side in found.items()}
    others = [name for name in found if name != OURS]
    figures = {
        "rounds": found,
        "rates": {name: round(rate) for name, rate in rates.items()},
        "cpu_us": {name: round(cost) for name, cost in costs.items()},
        "times_the_rate": {name: round(rates[OURS] / rates[name], 2) for name in others},
        "of_the_processor_time": {
            name: round(costs[OURS] / costs[name], 2) for name in others if costs[name]
        },
        "aims": {name: AIMS[name] for name in others},
    }
    publish(OUT, ("grpcio", "hpack"), figures)
    return all(set(each["codes"]) == {"OK"} for side in found.values() for each in side)


def main(arguments: list[str] | None = None) -> int:
    """Measure: 0 if every call was answered."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.grpc_calls", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each round")
    parser.add_argument("--empty", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.empty:
        uvloop.run(empty(options.empty))
    from benchmarks.run import prepared_models

    try:
        ghz = ghz_program()
        return 0 if measure(ghz, prepared_models(), options.rounds, options.seconds) else 1
    except Absent as reason:
        print(f"gRPC is not measured: {reason}", file=sys.stderr)
        return 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m benchmarks.grpc_calls`: calls of one row by gRPC, beside an empty service on grpcio and uvloop.

Start a server with gRPC first, such as `OKAMOCHI_GRPC_PORT=3001 make serve USECASES=iris`. The load is ghz's
(`go install github.com/bojand/ghz/cmd/ghz@latest`): 64 callers on 8 connections, in interleaved rounds. The
empty service parses the message and answers the name of the model.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import grpc
import uvloop

from benchmarks.environments import CHECKOUT
from benchmarks.json_report import publish
from benchmarks.servers import free_port
from serving.grpc import schema

CALLERS, CONNECTIONS = 64, 8
OUT = CHECKOUT / "reports" / "bench" / "grpc.json"


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


def message_of(address: str, model: str) -> dict[str, Any]:
    """A call of one row of zeros, in the shape that the model's metadata names."""
    request, response = schema.METHODS["ModelMetadata"]
    with grpc.insecure_channel(address) as channel:
        method = channel.unary_unary(
            f"/{schema.SERVICE}/ModelMetadata", request.SerializeToString, response.FromString
        )
        (tensor,) = method(request(name=model)).inputs
    width = tensor.shape[1]
    contents = {"fp64_contents": [0.0] * width}
    tensors = [{"name": tensor.name, "datatype": "FP64", "shape": [1, width], "contents": contents}]
    return {"model_name": model, "inputs": tensors}


def load(ghz: str, address: str, message: Path, seconds: float) -> dict[str, Any]:
    """One round; the calls that its end cuts off are not counted as failures."""
    command = [ghz, "--insecure", "--protoset", str(schema.PROTOSET)]
    command += ["--call", f"{schema.SERVICE}.ModelInfer", "--data-file", str(message), "--format", "json"]
    command += ["--concurrency", str(CALLERS), "--connections", str(CONNECTIONS)]
    command += ["--duration", f"{seconds}s", "--duration-stop", "wait", address]
    found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    slow = {each["percentage"]: each["latency"] / 1e6 for each in found["latencyDistribution"]}
    return {"rate": found["rps"], "p99_ms": slow[99], "codes": found["statusCodeDistribution"]}


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write both sides and their ratio: 0 if every call was answered."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.grpc_calls", description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--address", default="127.0.0.1:3001", help="of the server (default: %(default)s)")
    parser.add_argument("--ghz", default="ghz", help="the program")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each round")
    parser.add_argument("--empty", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.empty:
        uvloop.run(empty(options.empty))
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.grpc_calls", options.model, "--empty", str(port)]
    beside = subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE)
    try:
        assert beside.stdout is not None  # noqa: S101 - a pipe
        beside.stdout.readline()
        with tempfile.TemporaryDirectory() as folder:
            message = Path(folder) / "message.json"
            message.write_text(json.dumps(message_of(options.address, options.model)))
            sides = {"empty": f"127.0.0.1:{port}", "okamochi": options.address}
            rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
            for _ in range(options.rounds):
                for name, address in sides.items():
                    rounds[name].append(load(options.ghz, address, message, options.seconds))
    finally:
        beside.terminate()
        beside.wait()
    rates = {name: median(each["rate"] for each in found) for name, found in rounds.items()}
    figures = {
        "rounds": rounds,
        "rates": {name: round(rate) for name, rate in rates.items()},
        "ratio": round(rates["okamochi"] / rates["empty"], 2),
    }
    publish(OUT, ("grpcio",), figures)
    return 0 if all(set(each["codes"]) == {"OK"} for side in rounds.values() for each in side) else 1


if __name__ == "__main__":
    sys.exit(main())

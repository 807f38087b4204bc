"""`python -m benchmarks`: measure, write the results, judge the figures."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks import grpc_calls, report
from benchmarks.contestants import CONTESTANTS
from benchmarks.environments import CHECKOUT
from benchmarks.run import Plan, run
from benchmarks.servers import BenchError


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark: 0 if every answer is correct and every measured figure is met, else 1."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="take less than three minutes, with fewer contestants"
    )
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default: 3)")
    parser.add_argument("--seconds", type=int, help="the duration of each load (default: 5, quick: 1)")
    parser.add_argument(
        "--only", nargs="*", default=(), choices=[one.name for one in CONTESTANTS], metavar="NAME"
    )
    parser.add_argument(
        "--parts", action="store_true", help="measure only the optional work of the server, such as traces"
    )
    parser.add_argument(
        "--own-process",
        action="store_true",
        help="measure only a model without an ONNX form, which runs in a process of its own",
    )
    parser.add_argument("--trust", action="store_true", help="measure only what keys cost, and explanations")
    parser.add_argument("--grpc", action="store_true", help="measure only calls by gRPC (needs ghz)")
    parser.add_argument(
        "--out",
        type=Path,
        help="the folder of the results (default: benchmarks/results, quick: reports/bench)",
    )
    options = parser.parse_args(arguments)
    if options.grpc:
        return grpc(options.rounds, options.seconds or 4)
    seconds = options.seconds or (1 if options.quick else 5)
    alone = (options.parts, options.own_process, options.trust)
    out = options.out or CHECKOUT / ("reports/bench" if any(alone) or options.quick else "benchmarks/results")
    plan = Plan(
        options.quick,
        options.rounds,
        seconds,
        tuple(options.only),
        parts=options.parts,
        own_process=options.own_process,
        trust=options.trust,
    )
    try:
        with tempfile.TemporaryDirectory(prefix="okamochi-bench-") as scratch:
            results = run(plan, Path(scratch))
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped; nothing was written.", file=sys.stderr)
        return 130
    report.write(results, out)
    print(report.page(results))
    for text in results.wrong:
        print(f"wrong answer: {text}", file=sys.stderr)
    for text in results.missed:
        print(f"missed: {text}", file=sys.stderr)
    print(f"written to {out}", file=sys.stderr)
    whole = not (options.quick or any(alone) or options.only)
    failed = grpc(options.rounds, seconds) if whole else 0
    return 1 if results.wrong or results.missed or failed else 0


def grpc(rounds: int, seconds: float) -> int:
    """Measure calls by gRPC, where ghz is installed: 0 if every call was answered."""
    return grpc_calls.main(["--rounds", str(rounds), "--seconds", str(seconds)])


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""The query server beside the batch job, on the same ranks and data, in one run: what the server's front costs.

Usage: serve_figures.py BUILD_FOLDER DATA.hdf5 [--ranks 2] [--k 10] [--seconds 10] [--rounds 3] [--json FILE]

DATA has `train` and `test`. Batch job and server take turns, medians of the rounds count. Every answer of the server is compared
with the batch job's file, bit for bit. Exit code 1: one was wrong or failed.
"""

import argparse
import contextlib
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time

READY_SECONDS = 120


def mpirun(ranks, *arguments, **options):
    return subprocess.Popen(["mpirun", "-n", str(ranks), *map(str, arguments)], **options)


def batch_queries_per_second(options, folder):
    """Of the whole job, reading and writing included."""
    result = folder / "result.h5"
    job = mpirun(options.ranks, options.program, "search", "--base", f"{options.data}:/train", "--queries",
                 f"{options.data}:/test", "-k", options.k, "-o", result, "--overwrite", "-q", stdout=subprocess.DEVNULL)
    if job.wait() != 0:
        sys.exit("the batch job failed")
    report = json.loads((folder / "result.h5.report.json").read_text())
    return report["queries_per_second"], result


@contextlib.contextmanager
def server(options, folder):
    discovery = folder / "server.addr"
    process = mpirun(options.ranks, options.program, "serve", "--collection", f"figures={options.data}:/train", "--listen",
                     "127.0.0.1:0", "--discovery-file", discovery, "--access-log", folder / "access.log",
                     stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + READY_SECONDS
        while not discovery.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit("the server did not become ready")
            time.sleep(0.05)
        yield discovery
    finally:
        process.send_signal(signal.SIGUSR1)
        process.wait()


def load(options, folder, discovery, result, *more):
    """What bench/serve measured, and its samples."""
    samples = folder / "samples.csv"
    line = [options.build / "bench/serve", "--discovery-file", discovery, "--collection", "figures", "--queries",
            f"{options.data}:/test", "--k", options.k, "--expect", result, "--json", "--samples", samples, "--timeout", 300,
            *more]
    done = subprocess.run([str(part) for part in line], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"bench/serve ended with {done.returncode}:\n{done.stdout}")
    return json.loads(done.stdout), [float(row.split(",")[1]) for row in samples.read_text().splitlines()[1:]]


def added_milliseconds(latencies, log):
    """Median over requests of the client's latency minus the engine's part of it, pair by pair."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    searches = [line for line in lines if line["method"] == "Search"][-len(latencies):]
    over_batch = [latency - line["batch_seconds"] for latency, line in zip(latencies, searches)]
    over_search = [latency - line["search_seconds"] for latency, line in zip(latencies, searches)]
    return statistics.median(over_search) * 1e3, statistics.median(over_batch) * 1e3


def one_round(options, folder):
    batch, result = batch_queries_per_second(options, folder)
    with server(options, folder) as discovery:
        alone, latencies = load(options, folder, discovery, result, "--seconds", options.seconds)
        time.sleep(0.5)  # the access log is written behind the requests
        over_search, over_batch = added_milliseconds(latencies, folder / "access.log")
        many, _ = load(options, folder, discovery, result, "--clients", 64, "--seconds", options.seconds)
        large, _ = load(options, folder, discovery, result, "--nq", 10_000, "--requests", 1, "--warm-up", 0)
    return {"batch_queries_per_second": batch,
            "alone_p50_ms": alone["latency_ms"]["p50"],
            "alone_p99_ms": alone["latency_ms"]["p99"],
            "added_over_search_p50_ms": over_search,
            "added_over_batch_p50_ms": over_batch,
            "clients64_queries_per_second": many["queries_per_second"],
            "clients64_p50_ms": many["latency_ms"]["p50"],
            "clients64_p99_ms": many["latency_ms"]["p99"],
            "clients64_over_batch": many["queries_per_second"] / batch,
            "large_queries_per_second": large["queries_per_second"],
            "large_over_batch": large["queries_per_second"] / batch}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    options.program = options.build / "mpishards"
    rounds = []
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            rounds.append(one_round(options, pathlib.Path(folder)))
    medians = {name: statistics.median(found[name] for found in rounds) for name in rounds[0]}
    print(f"{options.ranks} ranks, k = {options.k}, {os.cpu_count()} cores, medians of {options.rounds}; "
          "every answer equals the batch job's")
    for name, value in medians.items():
        print(f"{name:32} {value:10.3f}   {' '.join(f'{found[name]:.3f}' for found in rounds)}")
    if options.json:
        options.json.write_text(json.dumps({"medians": medians, "rounds": rounds}, indent=2) + "\n")


if __name__ == "__main__":
    main()

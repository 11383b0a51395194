#!/usr/bin/env python3
"""Build and search of an index of lists beside FAISS IndexIVFFlat and hnswlib, at the same recall.

Usage: ivf_figures.py PROGRAM DATA.hdf5 [--lists 1024] [--metric l2] [--threads 2] [--k 10] [--rounds 5]
                      [--recalls 0.95,0.99] [--no-hnsw] [--json FILE]

DATA has `train` and `test`. Needs numpy, h5py and, for the peers, faiss-cpu and hnswlib from PyPI in the Python that runs it.
Everybody has the same threads, the same number of lists, and the fewest lists (or smallest ef) with which its own index reaches
the recall, found on all queries; the recall is against the exact search of the program. Then all take turns at those settings;
medians of the rounds count. Our seconds are those between "indexed" and "finished" of the job's log: probing, search, merge and
writing the result, one batch. The peers' are those of their search call.
"""

import argparse
import datetime
import json
import pathlib
import statistics
import tempfile
import time

import h5py
import numpy as np
from ivf_peers import FaissIvf, Hnswlib, neighbors_of, run, search_exactly


def recall(found, truth):
    """Share of the true neighbors that were found, mean over the queries."""
    return float(np.mean([len(np.intersect1d(a, b)) / len(b) for a, b in zip(found, truth)]))


def seconds_between(log, first, last):
    """From the last event `first` to the last event `last` of rank 0."""
    times = {}
    for line in (log / "rank-00000.jsonl").read_text().splitlines():
        event = json.loads(line)
        times[event["event"]] = datetime.datetime.strptime(event["time"], "%Y-%m-%dT%H:%M:%S.%fZ")
    return (times[last] - times[first]).total_seconds()


class Ours:
    __str__ = staticmethod(lambda: "mpishards ivf")

    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        began = time.perf_counter()
        run(options, "build", "--base", f"{options.data}:/train", "--metric", options.metric, "--index",
            f"ivf{options.lists}", "--threads", options.threads, "-o", folder / "index", "-q")
        self.build_seconds = time.perf_counter() - began

    def search(self, nprobe):
        log = self.folder / "log"
        run(self.options, "search", "--base", self.folder / "index", "--queries", f"{self.options.data}:/test", "-k",
            self.options.k, "--nprobe", nprobe, "--recall-queries", 0, "--self-check", 0, "--batch", 1_000_000, "--threads",
            self.options.threads, "--log", log, "--report=false", "-o", self.folder / "out.h5", "--overwrite", "-q")
        seconds = seconds_between(log, "indexed", "finished")
        for path in log.iterdir():
            path.unlink()
        return neighbors_of(self.folder / "out.h5")[0], seconds

    settings = staticmethod(lambda options: range(1, options.lists + 1))


def least_setting(options, contender, truth, wanted):
    """The smallest of the contender's settings with which it reaches the recall, by doubling and halving."""
    settings = contender.settings(options)
    enough = settings[0]
    while recall(contender.search(enough)[0], truth) < wanted:
        if enough == settings[-1]:
            return None
        enough = min(2 * enough, settings[-1])
    too_few = enough // 2
    while enough - max(too_few, settings[0] - 1) > 1:
        tried = (max(too_few, settings[0] - 1) + enough) // 2
        if recall(contender.search(tried)[0], truth) >= wanted:
            enough = tried
        else:
            too_few = tried
    return enough


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--lists", type=int, default=1024)
    parser.add_argument("--metric", default="l2", choices=["l2", "ip", "cosine"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--recalls", default="0.95,0.99")
    parser.add_argument("--no-hnsw", action="store_true")
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    with h5py.File(options.data) as file:
        base, queries = file["train"][:].astype(np.float32), file["test"][:].astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        truth, _ = search_exactly(options, folder)
        contenders = [Ours(options, folder), FaissIvf(options, base, queries)]
        if not options.no_hnsw:
            contenders.append(Hnswlib(options, base, queries))
        print(f"{options.data.name}: {len(base)} x {base.shape[1]}, {len(queries)} queries, k = {options.k}, {options.metric}, "
              f"{options.lists} lists, {options.threads} threads, medians of {options.rounds}")
        rows = []
        for contender in contenders:
            print(f"build  {str(contender):28} {contender.build_seconds:9.2f} s", flush=True)
            rows.append({"what": "build", "who": str(contender), "seconds": contender.build_seconds})
        for wanted in map(float, options.recalls.split(",")):
            chosen = [(contender, least_setting(options, contender, truth, wanted)) for contender in contenders]
            chosen = [(contender, setting) for contender, setting in chosen if setting is not None]
            seconds = {str(contender): [] for contender, _ in chosen}
            for _ in range(options.rounds):
                for contender, setting in chosen:
                    found, took = contender.search(setting)
                    seconds[str(contender)].append(took)
            for contender, setting in chosen:
                median = statistics.median(seconds[str(contender)])
                row = {"what": "search", "recall_wanted": wanted, "who": str(contender), "setting": setting,
                       "recall": recall(contender.search(setting)[0], truth), "seconds": median,
                       "queries_per_second": len(queries) / median,
                       "ratio": statistics.median(seconds[str(contenders[0])]) / median}
                rows.append(row)
                print(f"recall {wanted}  {str(contender):28} at {setting:5}: recall {row['recall']:.4f}  "
                      f"{row['queries_per_second']:10.0f} queries/s", flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()

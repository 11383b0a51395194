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
import importlib.metadata
import json
import pathlib
import statistics
import subprocess
import tempfile
import time

import h5py
import numpy as np


def run(options, *arguments):
    subprocess.run([str(part) for part in (options.program, *arguments)], check=True, stdout=subprocess.DEVNULL)


def neighbors_of(path):
    with h5py.File(path) as file:
        return file["neighbors"][:], file["distances"][:]


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
    name = "mpishards ivf"

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


class Faiss:
    def __init__(self, options, base, queries):
        import faiss
        faiss.omp_set_num_threads(options.threads)
        self.name, self.queries, self.k = f"FAISS {faiss.__version__} IVF-Flat", queries, options.k
        metric = faiss.METRIC_L2 if options.metric == "l2" else faiss.METRIC_INNER_PRODUCT
        if options.metric == "cosine":
            base, self.queries = unit(base), unit(queries)
        quantizer = (faiss.IndexFlatL2 if options.metric == "l2" else faiss.IndexFlatIP)(base.shape[1])
        self.index = faiss.IndexIVFFlat(quantizer, base.shape[1], options.lists, metric)
        began = time.perf_counter()
        self.index.train(base)
        self.index.add(base)
        self.build_seconds = time.perf_counter() - began

    def search(self, nprobe):
        self.index.nprobe = nprobe
        began = time.perf_counter()
        _, found = self.index.search(self.queries, self.k)
        return found, time.perf_counter() - began

    settings = staticmethod(lambda options: range(1, options.lists + 1))


class Hnsw:
    def __init__(self, options, base, queries):
        import hnswlib
        self.name, self.queries, self.k = f"hnswlib {importlib.metadata.version('hnswlib')} M = 16", queries, options.k
        self.index = hnswlib.Index(space=options.metric, dim=base.shape[1])
        began = time.perf_counter()
        self.index.init_index(max_elements=len(base), M=16, ef_construction=200, random_seed=1)
        self.index.add_items(base, num_threads=options.threads)
        self.build_seconds = time.perf_counter() - began
        self.threads = options.threads

    def search(self, ef):
        self.index.set_ef(ef)
        began = time.perf_counter()
        found, _ = self.index.knn_query(self.queries, k=self.k, num_threads=self.threads)
        return found, time.perf_counter() - began

    settings = staticmethod(lambda options: range(options.k, 2001))


def unit(rows):
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)


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
        run(options, "search", "--base", f"{options.data}:/train", "--queries", f"{options.data}:/test", "-k", options.k,
            "--metric", options.metric, "--threads", options.threads, "-o", folder / "exact.h5", "-q")
        truth, _ = neighbors_of(folder / "exact.h5")
        contenders = [Ours(options, folder), Faiss(options, base, queries)]
        if not options.no_hnsw:
            contenders.append(Hnsw(options, base, queries))
        print(f"{options.data.name}: {len(base)} x {base.shape[1]}, {len(queries)} queries, k = {options.k}, {options.metric}, "
              f"{options.lists} lists, {options.threads} threads, medians of {options.rounds}")
        rows = []
        for contender in contenders:
            print(f"build  {contender.name:28} {contender.build_seconds:9.2f} s", flush=True)
            rows.append({"what": "build", "who": contender.name, "seconds": contender.build_seconds})
        for wanted in map(float, options.recalls.split(",")):
            chosen = [(contender, least_setting(options, contender, truth, wanted)) for contender in contenders]
            chosen = [(contender, setting) for contender, setting in chosen if setting is not None]
            seconds = {contender.name: [] for contender, _ in chosen}
            for _ in range(options.rounds):
                for contender, setting in chosen:
                    found, took = contender.search(setting)
                    seconds[contender.name].append(took)
            for contender, setting in chosen:
                median = statistics.median(seconds[contender.name])
                row = {"what": "search", "recall_wanted": wanted, "who": contender.name, "setting": setting,
                       "recall": recall(contender.search(setting)[0], truth), "seconds": median,
                       "queries_per_second": len(queries) / median,
                       "ratio": statistics.median(seconds[contenders[0].name]) / median}
                rows.append(row)
                print(f"recall {wanted}  {contender.name:28} at {setting:5}: recall {row['recall']:.4f}  "
                      f"{row['queries_per_second']:10.0f} queries/s", flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()

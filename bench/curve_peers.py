#!/usr/bin/env python3
"""Recall against queries/s of FAISS (IVF-Flat, HNSW, IVF-PQ fast-scan with refinement) and hnswlib, for eval --curve --peers.

Usage: curve_peers.py PROGRAM DATA.hdf5 -o peers.json [--lists 1024] [--metric l2] [--threads 2] [--k 100] [--repeat 3]
                      [--only NAME,...]

DATA has `train` and `test`. Needs numpy, h5py, faiss-cpu and hnswlib from PyPI in the Python that runs it. Everybody is asked as the
program's own sweep asks: all queries in one call, once to warm up and then --repeat times, of which the median counts. Recall is that
of `mpishards eval`: found is what is as near as the last true neighbor, ties included, against the exact search of the program.
"""

import argparse
import json
import pathlib
import statistics
import tempfile

import h5py
import numpy as np
from ivf_peers import FaissFastScan, FaissHnsw, FaissIvf, Hnswlib, search_exactly, unit

TOLERANCE = 1e-6  # up to which distances count as equal, as in eval
PEERS = {"ivf": FaissIvf, "fastscan": FaissFastScan, "faiss-hnsw": FaissHnsw, "hnswlib": Hnswlib}


class Judge:
    """Recall by distance. Distances are such that smaller is nearer, as eval compares them."""

    def __init__(self, options, base, queries, truth):
        self.metric, self.base, self.queries = options.metric, base, queries
        if self.metric == "cosine":
            self.base, self.queries = unit(base), unit(queries)
        self.neighbors = truth[0]
        self.gaps = self.comparable(truth[1].astype(np.float64))
        self.counts = sorted({at for at in (1, 10, 100, options.k) if at <= options.k})

    def comparable(self, written):
        return {"l2": lambda: np.sqrt(np.maximum(written, 0)), "ip": lambda: -written, "cosine": lambda: 1 - written}[self.metric]()

    def distances(self, query, ids):
        rows, query = self.base[ids].astype(np.float64), self.queries[query].astype(np.float64)
        return self.comparable(((rows - query) ** 2).sum(axis=1) if self.metric == "l2" else rows @ query)

    def gaps_of(self, query, found):
        """Known ones from the truth, the others computed."""
        order = np.argsort(self.neighbors[query])
        place = np.minimum(np.searchsorted(self.neighbors[query], found, sorter=order), len(order) - 1)
        known = self.neighbors[query][order[place]] == found
        gaps = np.where(known, self.gaps[query][order[place]], np.inf)
        others = ~known & (found >= 0)
        if others.any():
            gaps[others] = self.distances(query, found[others])
        return gaps

    def recall(self, found):
        met = dict.fromkeys(self.counts, 0)
        for query, ids in enumerate(found.astype(np.int64)):
            gaps = self.gaps_of(query, ids)
            for at in self.counts:
                limit = self.gaps[query][at - 1]
                slack = TOLERANCE * abs(limit) + (TOLERANCE if self.metric == "cosine" else 0)
                met[at] += min(at, np.count_nonzero(gaps[:at] <= limit + slack))
        return {str(at): float(met[at] / (at * len(found))) for at in self.counts}


def sweep(settings):
    """The smallest setting, its doubles, and the largest."""
    chosen = [settings[0]]
    while 2 * chosen[-1] < settings[-1]:
        chosen.append(2 * chosen[-1])
    return [*chosen, settings[-1]]


def curve_of(peer, options, judge, machine):
    points = []
    for setting in sweep(type(peer).settings(options)):
        found, _ = peer.search(setting)
        seconds = statistics.median(peer.search(setting)[1] for _ in range(options.repeat))
        points.append({"parameter": f"{peer.parameter} {setting}", "recall": judge.recall(found),
                       "queries_per_second": len(found) / seconds})
        print(f"{str(peer):40} {peer.parameter} {setting:5}: recall {points[-1]['recall']}, "
              f"{points[-1]['queries_per_second']:.0f} queries/s", flush=True)
        if min(points[-1]["recall"].values()) == 1:
            break  # more finds no more
    return {"name": peer.name, "version": peer.version, "machine": machine, "ranks": 1, "threads": options.threads,
            "build_seconds": peer.build_seconds, "bytes_per_vector": peer.index_bytes() / len(judge.base), "points": points}


def cpu_model():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True)
    parser.add_argument("--lists", type=int, default=1024)
    parser.add_argument("--metric", default="l2", choices=["l2", "ip", "cosine"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", default=",".join(PEERS), help=f"of {', '.join(PEERS)}")
    options = parser.parse_args()
    with h5py.File(options.data) as file:
        base, queries = file["train"][:].astype(np.float32), file["test"][:].astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        truth = search_exactly(options, pathlib.Path(folder))
    judge = Judge(options, base, queries, truth)
    document = {"schema": "mpishards.curve/1", "metric": options.metric, "rows": len(base), "d": base.shape[1],
                "nq": len(queries), "k": options.k, "base": f"{options.data}:/train", "queries": f"{options.data}:/test",
                "truth": "mpishards search", "recall_by": "distance", "curves": []}
    for name in options.only.split(","):
        peer = PEERS[name](options, base, queries)
        document["curves"].append(curve_of(peer, options, judge, f"{cpu_model()}, 1 host(s)"))
        options.output.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()

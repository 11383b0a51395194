"""The peers of an index of lists, from their wheels, and the exact answers of the program: what the figures are measured against."""

import importlib.metadata
import os
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


def search_exactly(options, folder):
    """Neighbors and distances of all queries."""
    run(options, "search", "--base", f"{options.data}:/train", "--queries", f"{options.data}:/test", "-k", options.k,
        "--metric", options.metric, "--threads", options.threads, "-o", folder / "exact.h5", "-q")
    return neighbors_of(folder / "exact.h5")


def unit(rows):
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)


class FaissIndex:
    """An index of FAISS' factory, trained and filled."""

    def __init__(self, options, base, queries, factory):
        import faiss
        faiss.omp_set_num_threads(options.threads)
        self.faiss, self.version, self.k = faiss, faiss.__version__, options.k
        cosine = options.metric == "cosine"
        base, self.queries = (unit(base), unit(queries)) if cosine else (base, queries)
        metric = faiss.METRIC_L2 if options.metric == "l2" else faiss.METRIC_INNER_PRODUCT
        self.index = faiss.index_factory(base.shape[1], factory, metric)
        began = time.perf_counter()
        self.index.train(base)
        self.index.add(base)
        self.build_seconds = time.perf_counter() - began

    def __str__(self):
        return f"{self.name} {self.version}"

    def search(self, setting):
        self.faiss.ParameterSpace().set_index_parameter(self.index, self.parameter, setting)
        began = time.perf_counter()
        _, found = self.index.search(self.queries, self.k)
        return found, time.perf_counter() - began

    def index_bytes(self):
        return self.faiss.serialize_index(self.index).nbytes


class FaissIvf(FaissIndex):
    name, parameter = "FAISS IVF-Flat", "nprobe"

    def __init__(self, options, base, queries):
        super().__init__(options, base, queries, f"IVF{options.lists},Flat")

    settings = staticmethod(lambda options: range(1, options.lists + 1))


class FaissFastScan(FaissIndex):
    """Codes of 4 bits for every two values, the best four times k of them compared again with the vectors."""

    name, parameter = "FAISS IVF-PQ fast-scan, refined", "nprobe"

    def __init__(self, options, base, queries):
        d = base.shape[1]
        super().__init__(options, base, queries, f"IVF{options.lists},PQ{d // 2 if d % 2 == 0 else d}x4fs,RFlat")
        self.index.k_factor = 4

    settings = staticmethod(lambda options: range(1, options.lists + 1))


class FaissHnsw(FaissIndex):
    name, parameter = "FAISS HNSW32", "efSearch"

    def __init__(self, options, base, queries):
        super().__init__(options, base, queries, "HNSW32")

    settings = staticmethod(lambda options: range(options.k, 2001))


class Hnswlib:
    name, parameter = "hnswlib M = 16", "ef"

    def __init__(self, options, base, queries):
        import hnswlib
        self.version, self.queries, self.k = importlib.metadata.version("hnswlib"), queries, options.k
        self.index = hnswlib.Index(space=options.metric, dim=base.shape[1])
        began = time.perf_counter()
        self.index.init_index(max_elements=len(base), M=16, ef_construction=200, random_seed=1)
        self.index.add_items(base, num_threads=options.threads)
        self.build_seconds = time.perf_counter() - began
        self.threads = options.threads

    __str__ = FaissIndex.__str__

    def search(self, ef):
        self.index.set_ef(ef)
        began = time.perf_counter()
        found, _ = self.index.knn_query(self.queries, k=self.k, num_threads=self.threads)
        return found, time.perf_counter() - began

    def index_bytes(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "index")
            self.index.save_index(path)
            return os.path.getsize(path)

    settings = staticmethod(lambda options: range(options.k, 2001))

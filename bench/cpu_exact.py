#!/usr/bin/env python3
"""The exact CPU engine beside the newest FAISS IndexFlat, each in a process of its own, in turns.

Usage: cpu_exact.py PROGRAM [--faiss-python PYTHON] [--threads 2] [--rounds 5] [--only CASE,...] [--quick] [--debian] [--json FILE]

PROGRAM is bench/cpu_exact. The Python that runs this needs numpy, PYTHON (default: the same) numpy and faiss-cpu from PyPI. Every case
compares a random sample of answers with an fp64 brute force. Exit code 1: one was wrong.
"""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import gzip
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

try:
    import numpy as np
except ImportError:
    cause = (f"{sys.executable} has no numpy: python3 -m venv build/venvs/exact && build/venvs/exact/bin/pip install numpy faiss-cpu, "
             "and name build/venvs/exact/bin/python")
    if sys.argv[1:] == ["--serve-faiss"]:
        print(json.dumps({"error": cause}))
        sys.exit()
    sys.exit(cause)

AT_LEAST_SECONDS = 0.25  # of one side's turn in a round: short searches are repeated in it
SEED = 7
TRY_QUERIES = 512  # by which FAISS' settings are chosen
HOPELESS = 4  # times as slow as the best one so far


@dataclasses.dataclass
class Case:
    name: str
    data: str
    metric: str
    k: int
    asked: float
    nq: int = 10_000
    isa: str = "auto"
    peer: str = "faiss"  # or "one thread": ours


CASES = [
    Case("normal-128", "normal-128", "l2", 10, 28),
    Case("normal-128", "normal-128", "l2", 100, 16),
    Case("normal-128", "normal-128", "ip", 10, 28),
    Case("normal-128", "normal-128", "ip", 100, 16),
    Case("few-queries", "normal-128", "l2", 10, 6, nq=1),
    Case("few-queries", "normal-128", "l2", 10, 14, nq=10),
    Case("few-queries", "normal-128", "l2", 10, 20, nq=100),
    Case("two-threads", "normal-128", "l2", 10, 1.85, peer="one thread"),
    Case("avx512", "normal-128", "l2", 10, 1.3, isa="avx512"),
    Case("fashion-mnist", "fashion-mnist", "l2", 10, 22),
    Case("fashion-mnist", "fashion-mnist", "l2", 100, 17),
    Case("fashion-real", "fashion-real", "l2", 10, 14),
    Case("fashion-real", "fashion-real", "l2", 100, 8),
    Case("clustered-96", "clustered-96", "l2", 10, 22),
    Case("clustered-96", "clustered-96", "l2", 100, 14),
]


class FaissPeer:
    """FAISS IndexFlat, in the process that --serve-faiss is."""

    def __init__(self):
        import faiss
        self.faiss = faiss
        self.default_threshold = faiss.cvar.distance_compute_blas_threshold

    def open(self, request):
        base = np.fromfile(request["base"], dtype=request["numpy"], count=request["rows"] * request["d"])
        self.queries = np.fromfile(request["queries"], dtype="float32", count=request["nq"] * request["d"]).reshape(-1, request["d"])
        metric = self.faiss.METRIC_L2 if request["metric"] == "l2" else self.faiss.METRIC_INNER_PRODUCT
        began = time.perf_counter()
        self.index = self.faiss.IndexFlat(request["d"], metric)
        self.index.add(base.reshape(-1, request["d"]).astype("float32", copy=False))
        build_seconds = time.perf_counter() - began
        self.k, self.threads = request["k"], request["threads"]
        self.pool = concurrent.futures.ThreadPoolExecutor(self.threads)
        tries = self.try_settings()
        self.setting = min(tries, key=tries.get)
        self.search(self.queries, self.setting)
        return {"build_seconds": build_seconds, "version": self.faiss.__version__, "description": self.name_of(self.setting),
                "tries": {self.name_of(setting): seconds for setting, seconds in tries.items()}}

    def name_of(self, setting):
        parts, threshold = setting
        return f"{parts} x {self.threads // parts} threads, {'always BLAS' if threshold == 1 else 'BLAS by default'}"

    def try_settings(self):
        """Each way to use the threads, with matrix products and as FAISS does by itself: first few queries, then more."""
        some, tries = self.queries[:TRY_QUERIES], {}
        for parts in sorted({1, min(self.threads, len(some))}):
            for threshold in (1, self.default_threshold):
                few = some[:32 * parts]
                seconds = self.seconds_of(few, (parts, threshold))
                # FAISS 1.15 goes row by row below 128000 / d queries; that need not be tried to its end.
                if threshold == 1 or seconds * len(some) / len(few) < HOPELESS * min(tries.values()):
                    tries[parts, threshold] = self.seconds_of(some, (parts, threshold))
        return tries

    def seconds_of(self, queries, setting):
        """The best of as many as fit into a turn: other work must not choose."""
        end, best = time.perf_counter() + AT_LEAST_SECONDS, float("inf")
        while best == float("inf") or time.perf_counter() < end:
            began = time.perf_counter()
            self.search(queries, setting)
            best = min(best, time.perf_counter() - began)
        return best

    def search(self, queries, setting):
        """All at once with all threads, or a part of the queries a thread."""
        parts, self.faiss.cvar.distance_compute_blas_threshold = setting
        distances = np.empty((len(queries), self.k), dtype="float32")
        neighbors = np.empty((len(queries), self.k), dtype="int64")

        def search_part(part):
            self.faiss.omp_set_num_threads(self.threads // parts)  # of this thread
            rows = slice(len(queries) * part // parts, len(queries) * (part + 1) // parts)
            self.index.search(queries[rows], self.k, D=distances[rows], I=neighbors[rows])

        if parts == 1:
            search_part(0)
        else:
            list(self.pool.map(search_part, range(parts)))

    def timed(self, at_least):
        began, searches = time.perf_counter(), 0
        while searches == 0 or time.perf_counter() - began < at_least:
            self.search(self.queries, self.setting)
            searches += 1
        return {"seconds": (time.perf_counter() - began) / searches}

    def answer(self, request):
        if request["do"] == "open":
            return self.open(request)
        return self.timed(request["at_least"]) if request["do"] == "search" else {}


def serve_faiss():
    try:
        peer = FaissPeer()
    except ImportError as error:
        print(json.dumps({"error": f"no FAISS in {sys.executable} ({error}): {sys.executable} -m pip install faiss-cpu numpy, or name "
                                   "another with --faiss-python"}), flush=True)
        return
    print(json.dumps({"version": peer.faiss.__version__}), flush=True)
    for line in sys.stdin:
        try:
            answer = peer.answer(json.loads(line))
        except Exception as error:  # the driver prints it and ends
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


class Child:
    """A process that answers each line of JSON by one."""

    def __init__(self, name, *command):
        self.name = name
        # Idle threads of one side must not spin in the other's turn.
        environment = {"OMP_WAIT_POLICY": "passive", **os.environ}
        try:
            self.process = subprocess.Popen([str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                            env=environment)
        except OSError as error:
            sys.exit(f"{name} does not start: {error}")

    def answer(self):
        line = self.process.stdout.readline()
        answer = json.loads(line) if line.startswith("{") else {"error": f"it ended with code {self.process.wait()}"}
        if "error" in answer:
            sys.exit(f"{self.name}: {answer['error']}")
        return answer

    def ask(self, what, **more):
        try:
            self.process.stdin.write(json.dumps({"do": what, **more}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # answer() says what became of it
        return self.answer()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()


class Data:
    """The cases' vectors as raw files; those of one data set at a time."""

    def __init__(self, options, folder):
        self.options, self.folder, self.name = options, folder, None
        self.rows = 100_000 if options.quick else 1_000_000

    def request(self, name):
        if name != self.name:
            base, queries = self.make(name)
            for path, vectors in ((self.folder / "base", base), (self.folder / "queries", queries.astype("float32"))):
                vectors.tofile(path)
            self.name, self.base_type, self.shape = name, str(base.dtype), base.shape
        return {"base": str(self.folder / "base"), "queries": str(self.folder / "queries"), "numpy": self.base_type,
                "dtype": {"uint8": "u8", "float32": "f32"}[self.base_type], "rows": self.shape[0], "d": self.shape[1]}

    def make(self, name):
        random = np.random.default_rng(SEED)
        if name == "normal-128":
            return tuple(random.standard_normal((rows, 128), dtype="float32") for rows in (self.rows, 10_000))
        if name == "clustered-96":
            centers = random.standard_normal((1000, 96), dtype="float32")
            return tuple(centers[random.integers(0, 1000, rows)] + np.float32(0.3) * random.standard_normal((rows, 96), dtype="float32")
                         for rows in (self.rows, 10_000))
        base, queries = self.images("train-images-idx3-ubyte.gz"), self.images("t10k-images-idx3-ubyte.gz")
        if name == "fashion-mnist":
            return base, queries
        return tuple(images + random.uniform(-0.5, 0.5, images.shape).astype("float32") for images in (base, queries))

    def images(self, file):
        with gzip.open(self.options.fashion_mnist / file) as stream:
            return np.frombuffer(stream.read(), dtype="uint8", offset=16).reshape(-1, 784)

    def has(self, name):
        return not name.startswith("fashion") or (self.options.fashion_mnist / "train-images-idx3-ubyte.gz").exists()


def roof_of(case, request, opened, closed, seconds):
    """Name of the limit and the part of it that was reached."""
    roofs, values = closed["roofs"], request["rows"] * request["d"]
    packed = opened["packed_bytes"]
    if case.nq <= 10:
        read = packed or values * (1 if request["dtype"] == "u8" else 4)
        return "memory", read / seconds / roofs["memory"]
    name = "float32"
    if packed:
        # Whole tiles of 64 bytes a row: which type is nearer to what the index grew by?
        sizes = {kind: request["rows"] * -(-request["d"] * bytes_each // 64) * 64
                 for kind, bytes_each in (("amx bf16", 2), ("amx bytes", 1))}
        name = min(sizes, key=lambda kind: abs(sizes[kind] - packed))
    # The float32 roof where the tiles' was not measured.
    name = name if roofs[name] > 0 else "float32"
    return name, 2 * request["d"] * closed["screened_per_query"] * case.nq / seconds / roofs[name]


def measure(options, case, request, ours, peer, debian):
    request = {**request, "nq": case.nq, "metric": case.metric, "k": case.k, "threads": options.threads, "isa": case.isa}
    theirs = {**request, "threads": 1} if case.peer == "one thread" else request
    sides = {"ours": ours, "peer": peer, **({"debian": debian} if debian else {})}
    opened = {name: side.ask("open", **(theirs if name == "peer" else request)) for name, side in sides.items()}
    rounds = []
    for number in range(options.rounds):
        order = list(sides) if number % 2 == 0 else list(reversed(sides))
        rounds.append({name: sides[name].ask("search", at_least=AT_LEAST_SECONDS)["seconds"] for name in order})
    closed = ours.ask("close", sample=options.sample, seed=SEED)
    seconds = {name: statistics.median(one[name] for one in rounds) for name in sides}
    roof, of_roof = roof_of(case, request, opened["ours"], closed, seconds["ours"])
    return {**dataclasses.asdict(case), "rows": request["rows"], "d": request["d"], "threads": options.threads,
            "description": opened["ours"]["description"], "seconds": seconds,
            "peer_name": "ours, 1 thread" if case.peer == "one thread" else f"FAISS {opened['peer']['version']}",
            "ratio": statistics.median(one["peer"] / one["ours"] for one in rounds),
            "ratio_debian": statistics.median(one["debian"] / one["ours"] for one in rounds) if debian else None,
            "roof": roof, "of_roof": of_roof, "exact": closed["exact"], "rounds": rounds, "opened": opened, "closed": closed}


COLUMNS = (("case", 13), ("k", 4), ("metric", 6), ("nq", 6), ("threads", 7), ("ours s", 9), ("peer s", 9), ("ratio", 6), ("asked", 6),
           ("of roof", 16), ("screened", 8), ("cand/q", 7), ("widened", 7), ("exact", 5), ("peer", 14), ("pack s", 6), ("divide s", 8),
           ("isa", 0))


def print_row(cells):
    print(" ".join(str(cell).ljust(width) if name in ("case", "isa", "peer") else str(cell).rjust(width)
                   for cell, (name, width) in zip(cells, COLUMNS)).rstrip(), flush=True)


def print_figures(row):
    closed, opened = row["closed"], row["opened"]["ours"]
    print_row([row["name"], row["k"], row["metric"], row["nq"], row["threads"], f"{row['seconds']['ours']:.4f}",
               f"{row['seconds']['peer']:.4f}", f"{row['ratio']:.2f}", f"{row['asked']:g}", f"{row['roof']} {100 * row['of_roof']:.0f} %",
               f"{100 * closed['screened_per_query'] / row['rows']:.0f} %", f"{closed['candidates_per_query']:.1f}",
               f"{closed['widened']:.0f}", "yes" if row["exact"] else "NO", row["peer_name"], f"{opened['pack_seconds']:.2f}",
               f"{opened['divide_seconds']:.2f}", row["description"]])
    if row["ratio_debian"] is not None:
        print(f"  Debian's FAISS: {row['seconds']['debian']:.4f} s, ratio {row['ratio_debian']:.2f}")
    if not row["exact"]:
        print(f"  {closed['difference']}")


def print_roofs(rows):
    """The best that was seen: the machine may have had other work."""
    names = rows[0]["closed"]["roofs"]
    best = {name: max(row["closed"]["roofs"][name] for row in rows) for name in names}
    parts = [f"{name} {best[name] / 1e9:.1f} GB/s" if name == "memory" else f"{name} {best[name] / 1e12:.2f} Tops/s" for name in names
             if best[name] > 0]
    print(f"roofs of {rows[0]['threads']} threads: {', '.join(parts)}")


def cases_of(options, data):
    known = list(dict.fromkeys(case.name for case in CASES))
    wanted = options.only.split(",") if options.only else known
    if unknown := [name for name in wanted if name not in known]:
        sys.exit(f"unknown case {unknown[0]!r}; known: {', '.join(known)}")
    cases = [dataclasses.replace(case, nq=min(case.nq, 1000 if options.quick else case.nq)) for case in CASES if case.name in wanted]
    if skipped := sorted({case.name for case in cases if not data.has(case.data)}):
        print(f"{', '.join(skipped)} skipped: no images in {options.fashion_mnist} (Debian's package dataset-fashion-mnist)")
    return [case for case in cases if data.has(case.data) and not (case.peer == "one thread" and options.threads == 1)]


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--faiss-python", default=sys.executable, help="a Python that has numpy and faiss-cpu; default: this one")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sample", type=int, default=20, help="queries a case that are verified")
    parser.add_argument("--only", help=f"of {', '.join(dict.fromkeys(case.name for case in CASES))}")
    parser.add_argument("--quick", action="store_true", help="100000 rows, 1000 queries, 1 round")
    parser.add_argument("--debian", action="store_true", help="Debian's FAISS in each round as well")
    parser.add_argument("--fashion-mnist", type=pathlib.Path, default=pathlib.Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--json", type=pathlib.Path, help="also write all figures to this file")
    options = parser.parse_args()
    options.rounds = 1 if options.quick else options.rounds
    return options


def main():
    if sys.argv[1:] == ["--serve-faiss"]:
        return serve_faiss()
    options = parse()
    rows = []
    with contextlib.ExitStack() as stack:
        data = Data(options, pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory())))
        cases = cases_of(options, data)
        if not cases:
            sys.exit("no case is left")
        faiss = stack.enter_context(Child("FAISS", options.faiss_python, pathlib.Path(__file__).resolve(), "--serve-faiss"))
        faiss.answer()
        ours = stack.enter_context(Child("cpu_exact", options.program.resolve()))
        one_thread = stack.enter_context(Child("cpu_exact", options.program.resolve()))
        debian = stack.enter_context(Child("cpu_exact", options.program.resolve(), "--debian-faiss")) if options.debian else None
        print_row([name for name, _ in COLUMNS])
        for case in cases:
            rows.append(measure(options, case, data.request(case.data), ours, one_thread if case.peer == "one thread" else faiss,
                                None if case.peer == "one thread" else debian))
            print_figures(rows[-1])
            if options.json:
                options.json.write_text(json.dumps(rows, indent=2) + "\n")
    print_roofs(rows)
    return 0 if all(row["exact"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())

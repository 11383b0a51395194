"""Helpers of the end-to-end tests: start the program, make inputs, read results, and an oracle of their own."""

import dataclasses
import os
import pathlib
import random
import subprocess
import time

import h5py
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("MPISHARDS", str(ROOT / "build/release/mpishards"))
# Kernels that need little memory beside the rows, for jobs that are to fit into some kibibytes anywhere.
LEAN = ["--isa", "avx2"] if "avx2" in pathlib.Path("/proc/cpuinfo").read_text() else []

SEED = int(os.environ.get("MPISHARDS_TEST_SEED", time.time_ns() % 1_000_000))


def dice(name=""):
    """Random choices that MPISHARDS_TEST_SEED repeats; the seed is printed, and shown where the test fails."""
    print(f"seed {SEED}: MPISHARDS_TEST_SEED={SEED} repeats these choices")
    return random.Random(f"{SEED} {name}")


def _data_folder():
    for candidate in (os.environ.get("MPISHARDS_DATA"), ROOT.parent / "shared" / "data"):
        if candidate and pathlib.Path(candidate).is_dir():
            return pathlib.Path(candidate)
    return None


DATA = _data_folder()

# Ranks outnumber the cores of a test machine: they must yield while they wait and not be bound to core 0.
MPI_ENVIRONMENT = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_MCA_pml": "ob1",
    "OMPI_MCA_btl": "self,vader",
    "OMPI_MCA_mpi_yield_when_idle": "1",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


@dataclasses.dataclass
class Result:
    """What one call of the program left behind."""

    code: int
    stdout: str
    stderr: str
    seconds: float

    def __str__(self):
        return f"exit code {self.code} after {self.seconds:.1f} s\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"


def environment(extra=None):
    """The caller's environment with the settings that ranks on a test machine need."""
    return {**os.environ, **MPI_ENVIRONMENT, **{name: str(value) for name, value in (extra or {}).items()}}


def command(args, np=None):
    """The whole command line: through mpirun for np ranks, without any launcher for None."""
    launcher = [] if np is None else ["mpirun", "-n", str(np)]
    return launcher + [str(PROGRAM)] + [str(argument) for argument in args]


def start(args, np=None, env=None, cwd=None, **popen_options):
    """Starts the program in a process group of its own and returns the Popen."""
    return subprocess.Popen(command(args, np), env=environment(env), cwd=cwd, start_new_session=True, **popen_options)


def run(args, np=None, timeout=120, env=None, cwd=None):
    """Runs the program to its end. A run that outlives `timeout` is killed with all its ranks and fails the test."""
    began = time.monotonic()
    process = start(args, np, env, cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                    text=True, errors="replace")
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        kill_group(process)
        stdout, stderr = process.communicate()
        raise AssertionError(f"still running after {timeout} s: {command(args, np)}\n{stdout}\n{stderr}") from None
    return Result(process.returncode, stdout, stderr, time.monotonic() - began)


def search(args, np=None, **options):
    """Runs `mpishards search` and insists on success."""
    result = run(["search", *args], np=np, **options)
    assert result.code == 0, result
    return result


def kill_group(process):
    """kill -9 for the process and all that it started in its group."""
    try:
        os.killpg(process.pid, 9)
    except ProcessLookupError:
        pass


def write_h5(path, **data_sets):
    """Writes arrays as data sets: write_h5(path, train=base, test=queries)."""
    with h5py.File(path, "w") as file:
        for name, rows in data_sets.items():
            file.create_dataset(name, data=rows)
    return path


def read_result(path):
    """neighbors and distances of a result file."""
    with h5py.File(path, "r") as file:
        return file["neighbors"][...], file["distances"][...]


def attributes(path):
    with h5py.File(path, "r") as file:
        return dict(file.attrs)


def payload(path):
    """The bytes that must not depend on ranks, batches, strategies and interruptions."""
    neighbors, distances = read_result(path)
    assert neighbors.dtype == np.int64 and distances.dtype == np.float32, (neighbors.dtype, distances.dtype)
    return neighbors.tobytes() + distances.tobytes()


def _scores(base, query, metric):
    if metric == "l2":
        difference = base - query
        return (difference * difference).sum(axis=1)
    products = (base * query).sum(axis=1)
    if metric == "ip":
        return products
    lengths = np.sqrt((base * base).sum(axis=1) * (query * query).sum())
    return np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)


def oracle(base, queries, k, metric="l2"):
    """The exact answer in double precision, rounded once to float32, ties by smaller id, padded beyond the base.

    The order is that of the rounded distances, as the result file promises.
    """
    base = np.asarray(base, dtype=np.float64)
    queries = np.asarray(queries, dtype=np.float64)
    sign = 1 if metric == "l2" else -1
    neighbors = np.full((len(queries), k), -1, dtype=np.int64)
    distances = np.full((len(queries), k), sign * np.inf, dtype=np.float32)
    ids = np.arange(len(base))
    for row, query in enumerate(queries):
        rounded = _scores(base, query, metric).astype(np.float32)
        best = np.lexsort((ids, sign * rounded))[:k]
        neighbors[row, : len(best)] = best
        distances[row, : len(best)] = rounded[best]
    return neighbors, distances


def assert_exact(result_path, base, queries, k, metric="l2"):
    """The result is the oracle's.

    Sums in another order may differ in the last bit of the double, hence by one unit in the last place of the
    float32; where they do, the ids may swap inside such a tie and nowhere else.
    """
    neighbors, distances = read_result(result_path)
    wanted_neighbors, wanted_distances = oracle(base, queries, k, metric)
    assert neighbors.shape == wanted_neighbors.shape
    finite = np.isfinite(wanted_distances)
    assert (np.isfinite(distances) == finite).all()
    gap = np.abs(distances[finite] - wanted_distances[finite])
    assert (gap <= np.spacing(np.abs(wanted_distances[finite]))).all(), f"largest gap {gap.max()}"
    for row, place in zip(*np.nonzero(neighbors != wanted_neighbors)):
        query = np.asarray(queries[row], dtype=np.float64)
        found = _scores(np.asarray(base[neighbors[row, place]], dtype=np.float64)[None, :], query, metric)[0]
        assert abs(np.float32(found) - wanted_distances[row, place]) <= np.spacing(
            np.abs(wanted_distances[row, place])), (
            f"query {row}, place {place}: id {neighbors[row, place]}, expected {wanted_neighbors[row, place]}")


DTYPES = {"f32": np.float32, "f16": np.float16, "f64": np.float64, "u8": np.uint8, "i8": np.int8}


def bfloat16_bits(rows):
    """The upper halves of float32 values, which must fit them exactly."""
    bits = np.ascontiguousarray(rows, dtype=np.float32).view(np.uint32)
    assert not (bits & 0xFFFF).any(), "values that bfloat16 cannot hold"
    return (bits >> 16).astype(np.uint16)


def write_vectors(path, dtype, ids=None, **data_sets):
    """Like write_h5, in one of the program's dtypes; values must be representable. `ids` are the file's own."""
    with h5py.File(path, "w") as file:
        for name, rows in data_sets.items():
            if dtype == "bf16":
                file.create_dataset(name, data=bfloat16_bits(rows)).attrs["dtype"] = "bfloat16"
            else:
                stored = np.asarray(rows).astype(DTYPES[dtype])
                assert (stored == rows).all(), f"values that {dtype} cannot hold"
                file.create_dataset(name, data=stored)
        if ids is not None:
            file.create_dataset("ids", data=np.asarray(ids, dtype=np.int64))
    return path


def read_any_result(path):
    """neighbors and distances of a result in any of its formats."""
    path = pathlib.Path(path)
    if path.suffix == ".npy":
        stem = path.with_suffix("")
        return np.load(f"{stem}.neighbors.npy"), np.load(f"{stem}.distances.npy")
    if path.suffix == ".ibin":
        nq, k = np.fromfile(path, "<u4", 2)
        neighbors = np.fromfile(path, "<i4", nq * k, offset=8).reshape(nq, k)
        distances = np.fromfile(path, "<f4", offset=8 + 4 * int(nq) * int(k)).reshape(nq, k)
        return neighbors.astype(np.int64), distances
    return read_result(path)


def assert_same_bits(path, wanted):
    """The result at `path` is `wanted`, neighbors and distances, bit for bit."""
    neighbors, distances = read_any_result(path)
    assert neighbors.shape == wanted[0].shape, (neighbors.shape, wanted[0].shape)
    wrong = np.argwhere((neighbors != wanted[0]) | (distances.view(np.int32) != wanted[1].view(np.int32)))
    if len(wrong):
        row, place = wrong[0]
        around = slice(max(0, place - 2), place + 3)
        raise AssertionError(f"{len(wrong)} of {neighbors.size} places differ, the first at query {row}, place {place}:\n"
                             f"found  {neighbors[row, around]} {distances[row, around]}\n"
                             f"wanted {wanted[0][row, around]} {wanted[1][row, around]}")


def complaints(result):
    """What the program itself says on stderr when it fails, without mpirun's remarks."""
    return [line for line in result.stderr.splitlines() if line.startswith("mpishards:")]


def snapshot(folder):
    """Everything in a folder: name to bytes and modification time."""
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) if path.is_file() else None
            for path in sorted(folder.rglob("*"))}


def wait_until(condition, process=None, timeout=60, interval=0.001):
    """Polls until the condition holds or the process is over; says which, and fails after `timeout`."""
    deadline = time.monotonic() + timeout
    while not condition():
        if process is not None and process.poll() is not None:
            return False
        assert time.monotonic() < deadline, f"nothing happened within {timeout} s"
        time.sleep(interval)
    return True


def child_pids(process):
    """The living children of a process: of mpirun, its local ranks."""
    pids = []
    for task in pathlib.Path(f"/proc/{process.pid}/task").glob("*/children"):
        try:
            pids += [int(pid) for pid in task.read_text().split()]
        except OSError:
            continue
    return pids


def processes_naming(text):
    """Command lines of the living processes that have `text` in them, without this one."""
    found = []
    for folder in pathlib.Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line:
            found.append(f"{folder.name}: {line}")
    return found


def assert_no_orphans(text):
    """No process that names `text` survives its launcher by more than a moment."""
    wait_until(lambda: not processes_naming(str(text)), timeout=10, interval=0.05)

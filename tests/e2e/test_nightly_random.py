"""Random questions, asked in random ways, against the oracle.

MPISHARDS_RANDOM_RUNS says how many (default 60), MPISHARDS_RANDOM_SEED where to begin (default: the clock). A failure
prints its seed: run with that seed and one run to see it again.
"""

import os
import time

import h5py
import numpy as np
import pytest
import support

RUNS = int(os.environ.get("MPISHARDS_RANDOM_RUNS", "60"))
FIRST_SEED = int(os.environ.get("MPISHARDS_RANDOM_SEED", str(int(time.time()) % 1_000_000)))


def powers(generator, low, high):
    """A size of random magnitude."""
    return int(np.exp(generator.uniform(np.log(low), np.log(high + 1))))


def random_vectors(generator, rows, d, dtype, spread, offset):
    """Whole numbers, often repeated; at times far from the origin, so that float32 alone cannot tell them apart."""
    low = 0 if dtype == "u8" else -spread
    vectors = generator.integers(low, spread + 1, (rows, d)).astype(np.float64)
    copies = generator.random(rows) < generator.choice([0, 0.1, 0.7])
    vectors[copies] = vectors[generator.integers(0, rows, copies.sum())]
    vectors[generator.random(rows) < 0.02] = 0
    return vectors + offset


def random_question(generator):
    """What is asked: vectors, k and metric. Everything is exact in double precision and in the dtype."""
    dtype = str(generator.choice(["f32", "f32", "f16", "bf16", "f64", "u8", "i8"]))
    spread = int(generator.choice([1, 3, 100])) if dtype != "bf16" else 3
    offset = int(generator.choice([0, 0, 1 << 12])) if dtype in ("f32", "f64") else 0
    rows, d, nq = powers(generator, 1, 6000), powers(generator, 1, 300), powers(generator, 1, 150)
    k = powers(generator, 1, min(2 * rows, 1500))
    base = random_vectors(generator, rows, d, dtype, spread, offset)
    queries = random_vectors(generator, nq, d, dtype, spread, offset)
    return dtype, base, queries, k, str(generator.choice(["l2", "ip", "cosine"]))


def random_way(generator, nq):
    """How it is asked; must not matter."""
    options = ["--merge", generator.choice(["auto", "gather", "reduce", "all_to_all", "halving", "two_level"])]
    if generator.random() < 0.6:
        options += ["--batch", powers(generator, 1, 2 * nq)]
    if generator.random() < 0.5:
        options += ["--threads", generator.integers(1, 5)]
    if generator.random() < 0.3:
        options += ["--isa", "portable"]
    return [str(option) for option in options], generator.choice([None, 1, 2, 3, 4, 5, 7])


def write_pieces(generator, folder, dtype, base, queries, ids):
    """The base in one file or several; returns the flags that name it all."""
    cuts = sorted({0, len(base), *generator.integers(0, len(base) + 1, generator.choice([0, 0, 2]))})
    flags = []
    for begin, end in zip(cuts, cuts[1:]):
        path = support.write_vectors(folder / f"base{begin}.h5", dtype, train=base[begin:end],
                                     ids=None if ids is None else ids[begin:end])
        if generator.random() < 0.3:
            rewrite_in_chunks(generator, path)
        flags += ["--base", path]
    return [*flags, "--queries", support.write_vectors(folder / "queries.h5", dtype, test=queries)]


def rewrite_in_chunks(generator, path):
    with h5py.File(path, "a") as file:
        rows, attributes = file["train"][...], dict(file["train"].attrs)
        del file["train"]
        chunks = tuple(int(generator.integers(1, extent + 1)) for extent in rows.shape)
        if rows.size / np.prod(chunks) > 5000:
            chunks = rows.shape
        file.create_dataset("train", data=rows, chunks=chunks, compression="gzip", shuffle=True).attrs.update(attributes)


def streamed_memory(flags, ranks):
    """A --memory that makes the base stream, if there is one: half of what the resident plan wants."""
    planned = support.run(["search", *flags, "--dry-run", "--json"], np=ranks)
    assert planned.code == 0, planned
    half = int(planned.stdout.split('"memory_bytes": ')[1].split(",")[0]) // 2
    fits = support.run(["search", *flags, "--memory", str(half), "--dry-run"], np=ranks)
    return ["--memory", str(half)] if fits.code == 0 else []


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + RUNS))
def test_random_question_asked_in_a_random_way(tmp_path, seed):
    generator = np.random.default_rng(seed)
    dtype, base, queries, k, metric = random_question(generator)
    ids = np.sort(generator.choice(10**9, len(base), replace=False)) if generator.random() < 0.3 else None
    options, ranks = random_way(generator, len(queries))
    flags = [*write_pieces(generator, tmp_path, dtype, base, queries, ids), "-k", k, "--metric", metric, *options,
             "-o", tmp_path / "out.h5", "-q", "--report=false"]
    if generator.random() < 0.4:
        flags += streamed_memory(flags, ranks)
    print(f"seed {seed}: {dtype} {base.shape} {queries.shape} on {ranks} ranks: {' '.join(map(str, flags))}")
    support.search(flags, np=ranks, timeout=300)
    neighbors, distances = support.oracle(base, queries, k, metric)
    if ids is not None:
        neighbors = np.where(neighbors >= 0, ids[neighbors], -1)
    support.assert_same_bits(tmp_path / "out.h5", (neighbors, distances))

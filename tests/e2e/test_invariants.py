"""Exact means exact, and the bytes depend on nothing but the question (promises I1 and I2).

Inputs are small integers, or such that every product and sum is exact in double precision, with many ties and
repeated rows; so there is one right answer, and results are compared with it bit for bit.
"""

import itertools
import re

import numpy as np
import pytest
import support

RANKS = (1, 2, 3, 4, 7)
MERGES = ("gather", "reduce", "all_to_all", "halving", "two_level", "auto")
METRICS = ("l2", "ip", "cosine")
DTYPES = ("f32", "f16", "bf16", "f64", "u8", "i8")
K = 13
QUIET = ("-q", "--report=false")


def small_integers(rows, d, seed, low=-3, high=3):
    """Few values, so ties abound; every third row repeats an earlier one, and some rows are zero."""
    generator = np.random.default_rng(seed)
    vectors = generator.integers(low, high + 1, (rows, d)).astype(np.float64)
    for row in range(3, rows, 3):
        vectors[row] = vectors[generator.integers(0, row)]
    vectors[rows // 2 :: 97] = 0
    return vectors


BASE = small_integers(311, 5, seed=1)
QUERIES = small_integers(29, 5, seed=2)


def search(out, *arguments, np=None):
    support.search([*arguments, "-o", out, *QUIET], np=np)
    return out


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A file with BASE and QUERIES in float32, for the tests of everything but dtypes."""
    path = tmp_path_factory.mktemp("plain") / "plain.h5"
    return support.write_vectors(path, "f32", train=BASE, test=QUERIES)


@pytest.fixture(scope="module")
def wanted():
    return support.oracle(BASE, QUERIES, K)


def question(path, k=K):
    return "--base", path, "--queries", path, "-k", k


# Every rank count with every strategy, and every metric with every dtype at two of them.
PLACES = [(ranks, merge) for merge in MERGES for ranks in RANKS]
QUESTIONS = list(itertools.product(METRICS, DTYPES)) * 2
RUNS = [(*QUESTIONS[i], *PLACES[i * 7 % len(PLACES)]) for i in range(len(QUESTIONS))]


@pytest.mark.parametrize("metric, dtype, ranks, merge", RUNS)
def test_ranks_strategies_metrics_and_dtypes(tmp_path, metric, dtype, ranks, merge):
    low, high = (0, 6) if dtype == "u8" else (-3, 3)
    base, queries = small_integers(311, 5, 1, low, high), small_integers(29, 5, 2, low, high)
    path = support.write_vectors(tmp_path / "in.h5", dtype, train=base, test=queries)
    out = search(tmp_path / "out.h5", *question(path), "--metric", metric, "--merge", merge, np=ranks)
    support.assert_same_bits(out, support.oracle(base, queries, K, metric))


def test_every_rank_count_meets_every_strategy():
    assert {run[2:] for run in RUNS} == set(PLACES)
    for asked in itertools.product(METRICS, DTYPES):
        assert len({ranks for *question, ranks, _ in RUNS if tuple(question) == asked}) == 2, asked
        assert len({merge for *question, _, merge in RUNS if tuple(question) == asked}) == 2, asked


def kernel_families():
    return re.search(r"kernels\s.*\(of ([^)]*)\)", support.run(["doctor"]).stdout)[1].split()


@pytest.mark.parametrize("options", [
    ("--batch", 1), ("--batch", 7), ("--batch", 1000), ("--threads", 1), ("--threads", 3), ("--isa", "portable"),
    ("--isa", "avx2"), ("--isa", "avx512"), ("--isa", "amx"), ("--self-check", 0)], ids=lambda options: "".join(map(str, options)))
@pytest.mark.parametrize("ranks", [None, 3])
def test_how_it_is_computed_does_not_matter(plain, wanted, tmp_path, options, ranks):
    if options[0] == "--isa" and options[1] not in kernel_families():
        pytest.skip(f"no {options[1]} here")
    support.assert_same_bits(search(tmp_path / "out.h5", *question(plain), *options, np=ranks), wanted)


@pytest.mark.parametrize("ranks", [None, 1, 2])
@pytest.mark.parametrize("suffix", ["h5", "npy", "ibin"])
def test_result_formats_hold_the_same(plain, wanted, tmp_path, suffix, ranks):
    out = search(tmp_path / f"out.{suffix}", *question(plain), "--format", suffix, np=ranks)
    support.assert_same_bits(out, wanted)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("rows, ranks", [(5, 2), (3, 7), (1, 4)])
def test_fewer_rows_than_places_or_ranks_are_padded(tmp_path, metric, rows, ranks):
    base, queries = BASE[:rows], QUERIES[:4]
    path = support.write_vectors(tmp_path / "in.h5", "f32", train=base, test=queries)
    out = search(tmp_path / "out.h5", *question(path, 9), "--metric", metric, np=ranks)
    support.assert_same_bits(out, support.oracle(base, queries, 9, metric))
    neighbors, distances = support.read_result(out)
    assert (neighbors[:, rows:] == -1).all()
    assert (distances[:, rows:] == (np.inf if metric == "l2" else -np.inf)).all()


@pytest.mark.parametrize("merge", MERGES)
@pytest.mark.parametrize("k, queries", [(1, 29), (311, 2), (400, 1)])
def test_one_place_all_places_and_fewer_queries_than_ranks(tmp_path, plain, merge, k, queries):
    out = search(tmp_path / "out.h5", *question(plain, k), "--merge", merge, "--queries-range", f"0:{queries}", np=4)
    support.assert_same_bits(out, support.oracle(BASE, QUERIES[:queries], k))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("ranks", [1, 3])
def test_one_dimension(tmp_path, metric, ranks):
    base, queries = small_integers(100, 1, 3), small_integers(10, 1, 4)
    path = support.write_vectors(tmp_path / "in.h5", "f32", train=base, test=queries)
    out = search(tmp_path / "out.h5", *question(path), "--metric", metric, np=ranks)
    support.assert_same_bits(out, support.oracle(base, queries, K, metric))


@pytest.mark.parametrize("metric", METRICS)
def test_all_vectors_equal(tmp_path, metric):
    base, queries = np.full((500, 9), 2.0), np.full((3, 9), 1.0)
    path = support.write_vectors(tmp_path / "in.h5", "f32", train=base, test=queries)
    out = search(tmp_path / "out.h5", *question(path, 50), "--metric", metric, np=3)
    support.assert_same_bits(out, support.oracle(base, queries, 50, metric))
    assert (support.read_result(out)[0] == np.arange(50)).all()


@pytest.mark.parametrize("metric", METRICS)
def test_whole_numbers_far_from_the_origin_are_not_confused(tmp_path, metric):
    """In float32 |a|^2 - 2ab + |b|^2 would lose every digit of these distances."""
    base = 4096 + small_integers(3000, 24, 5, -8, 8) / 64
    queries = 4096 + small_integers(12, 24, 6, -8, 8) / 64
    path = support.write_vectors(tmp_path / "in.h5", "f32", train=base, test=queries)
    out = search(tmp_path / "out.h5", *question(path), "--metric", metric, np=2)
    support.assert_same_bits(out, support.oracle(base, queries, K, metric))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("exponent", [-140, -74, 50, 90])
def test_tiny_and_huge_values(tmp_path, metric, exponent):
    """Squares leave float32's range on both sides: they become subnormal, 0 or infinite only in the final rounding."""
    base, queries = BASE * 2.0**exponent, QUERIES * 2.0**exponent
    path = support.write_vectors(tmp_path / "in.h5", "f32", train=base, test=queries)
    out = search(tmp_path / "out.h5", *question(path), "--metric", metric, np=2)
    with np.errstate(over="ignore"):
        support.assert_same_bits(out, support.oracle(base, queries, K, metric))


@pytest.mark.parametrize("dtype", ["u8", "i8", "f16"])
@pytest.mark.parametrize("metric", METRICS)
def test_queries_may_have_another_dtype_than_the_base(tmp_path, metric, dtype):
    base = small_integers(311, 5, 7, 0, 6)
    queries = small_integers(20, 5, 8) / 4
    base_path = support.write_vectors(tmp_path / "base.h5", dtype, train=base)
    queries_path = support.write_vectors(tmp_path / "queries.h5", "f32", test=queries)
    out = search(tmp_path / "out.h5", "--base", base_path, "--queries", queries_path, "-k", K, "--metric", metric, np=2)
    support.assert_same_bits(out, support.oracle(base, queries, K, metric))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype, low, high", [("u8", 0, 255), ("i8", -128, 127)])
def test_extreme_bytes_in_many_dimensions(tmp_path, metric, dtype, low, high):
    """Sums beyond 2^24, where float32 would begin to round whole numbers."""
    generator = np.random.default_rng(9)
    base = generator.choice([low, low + 1, high - 1, high], (400, 1537)).astype(np.float64)
    queries = np.vstack([base[:6], np.full((1, 1537), low), np.full((1, 1537), high)])
    path = support.write_vectors(tmp_path / "in.h5", dtype, train=base, test=queries)
    out = search(tmp_path / "out.h5", *question(path), "--metric", metric, np=2)
    support.assert_same_bits(out, support.oracle(base, queries, K, metric))


def with_ids(answer, ids):
    """An oracle's answer in the file's own ids. @pre ids ascend, so that ties fall the same way"""
    neighbors, distances = answer
    return np.where(neighbors >= 0, np.asarray(ids)[neighbors], -1), distances


@pytest.mark.parametrize("ranks", [1, 3, 7])
def test_own_ids_name_the_neighbors(tmp_path, ranks):
    ids = 10**12 + 7 * np.arange(len(BASE))
    path = support.write_vectors(tmp_path / "in.h5", "f32", ids=ids, train=BASE)
    queries = support.write_vectors(tmp_path / "queries.h5", "f32", test=QUERIES)
    out = search(tmp_path / "out.h5", "--base", path, "--queries", queries, "-k", K, np=ranks)
    support.assert_same_bits(out, with_ids(support.oracle(BASE, QUERIES, K), ids))


@pytest.mark.parametrize("ranks", [None, 1, 3, 4])
def test_ties_fall_to_the_smaller_id_also_where_ids_descend(tmp_path, ranks):
    ids = 5000 - np.arange(len(BASE))
    path = support.write_vectors(tmp_path / "in.h5", "f32", ids=ids, train=BASE)
    queries = support.write_vectors(tmp_path / "queries.h5", "f32", test=QUERIES)
    out = search(tmp_path / "out.h5", "--base", path, "--queries", queries, "-k", K, np=ranks)
    ascending = with_ids(support.oracle(BASE[::-1], QUERIES, K), ids[::-1])
    support.assert_same_bits(out, ascending)


@pytest.mark.parametrize("ranks", [None, 2, 7])
def test_dropped_rows_keep_the_numbers_of_the_others(tmp_path, ranks):
    base = BASE.copy()
    bad = np.array([0, 50, 51, 52, 200, 310])
    base[bad, [0, 1, 2, 3, 4, 0]] = [np.nan, np.inf, -np.inf, np.nan, np.nan, np.inf]
    path = support.write_h5(tmp_path / "in.h5", train=base.astype(np.float32), test=QUERIES.astype(np.float32))
    out = search(tmp_path / "out.h5", *question(path, 311), "--nonfinite", "drop", np=ranks)
    kept = np.setdiff1d(np.arange(len(BASE)), bad)
    support.assert_same_bits(out, with_ids(support.oracle(BASE[kept], QUERIES, 311), kept))
    assert int(support.attributes(out)["dropped_rows"]) == len(bad)


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """BASE cut into files of unequal length, in the formats that float32 has."""
    folder = tmp_path_factory.mktemp("pieces")
    cuts = [0, 1, 100, 250, len(BASE)]
    for i, (begin, end) in enumerate(zip(cuts, cuts[1:])):
        support.write_vectors(folder / f"piece{i}.h5", "f32", train=BASE[begin:end])
    (folder / "list.txt").write_text("# pieces of one base\npiece0.h5\npiece1.h5:train\n\npiece2.h5\npiece3.h5\n")
    return folder


@pytest.mark.parametrize("ranks", [None, 3])
@pytest.mark.parametrize("bases", [
    ("{}/piece0.h5", "{}/piece1.h5", "{}/piece2.h5:train", "{}/piece3.h5"), ("{}/piece*.h5",), ("@{}/list.txt",),
    ("{}/piece0.h5", "{}/piece[12].h5", "{}/piece3.h5:/train")], ids=["repeated", "glob", "list", "mixed"])
def test_several_files_are_one_base(plain, pieces, wanted, tmp_path, bases, ranks):
    flags = [word for base in bases for word in ("--base", base.format(pieces))]
    support.assert_same_bits(search(tmp_path / "out.h5", *flags, "--queries", plain, "-k", K, np=ranks), wanted)


@pytest.mark.parametrize("begin, end", [(0, 29), (5, 6), (11, 29)])
def test_range_of_queries_is_that_part_of_the_whole(plain, wanted, tmp_path, begin, end):
    out = search(tmp_path / "out.h5", *question(plain), "--queries-range", f"{begin}:{end}", np=2)
    support.assert_same_bits(out, tuple(part[begin:end] for part in wanted))


def test_no_launcher_and_one_rank_under_mpirun_agree(plain, wanted, tmp_path):
    alone = search(tmp_path / "alone.h5", *question(plain))
    launched = search(tmp_path / "launched.h5", *question(plain), np=1)
    assert support.payload(alone) == support.payload(launched)
    support.assert_same_bits(alone, wanted)

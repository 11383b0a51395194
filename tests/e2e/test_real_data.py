"""Real data: results equal the files' own ground truth and an oracle of ours, and `eval` sees every damage."""

import json
import shutil

import h5py
import numpy as np
import pytest
import support

QUIET = ("-q", "--report=false")

# file, metric, data are whole numbers, queries searched, and the (ranks, strategy) that must all give the same bytes
SETS = {
    "deep-10k-96-euclidean.hdf5": (
        "l2", False, 100, [(1, "auto"), (2, "gather"), (3, "reduce"), (4, "all_to_all"), (7, "halving")]),
    "sift-5k-128-euclidean.hdf5": ("l2", True, 100, [(1, "auto"), (3, "all_to_all"), (4, "halving")]),
    "word2vec-googlenews-8k-300-angular.hdf5": ("cosine", False, 60, [(1, "auto"), (2, "all_to_all"), (7, "reduce")]),
    "usps-256-euclidean.hdf5": ("l2", True, 200, [(1, "auto"), (4, "gather"), (7, "halving")]),
    "letter-16-euclidean-ties.hdf5": (
        "l2", True, 300, [(1, "auto"), (2, "reduce"), (3, "halving"), (4, "gather"), (7, "all_to_all")]),
    "sift-lund-170k-128-euclidean.hdf5": ("l2", True, 50, [(1, "auto"), (3, "halving")]),
    "fashion-mnist-784-euclidean.gz.hdf5": ("l2", True, 100, [(2, "auto")]),
}
K = 100


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Searches a set once per (ranks, strategy) and remembers the file for all tests."""
    folder = tmp_path_factory.mktemp("results")

    def result(data, name, ranks, merge):
        metric, _, queries, _ = SETS[name]
        out = folder / f"{name}.{ranks}.{merge}.h5"
        if not out.exists():
            support.search(["--base", data / name, "--queries", data / name, "-k", K, "--metric", metric, "--merge", merge,
                            "--queries-range", f"0:{queries}", "-o", out, *QUIET], np=ranks, timeout=300)
        return out

    return result


def first_result(results, data, name):
    return results(data, name, *SETS[name][3][0])


def read_set(path, queries):
    with h5py.File(path, "r") as file:
        return file["train"][...], file["test"][:queries]


def whole_number_oracle(base, queries, k):
    """support.oracle for l2 and whole numbers, fast: every sum is a whole number below 2^53, so any order is exact."""
    base, queries = base.astype(np.float64), queries.astype(np.float64)
    squares = (base * base).sum(axis=1)
    neighbors = np.empty((len(queries), k), dtype=np.int64)
    distances = np.empty((len(queries), k), dtype=np.float32)
    for row, query in enumerate(queries):
        rounded = (squares - 2 * (base @ query) + query @ query).astype(np.float32)
        near = np.nonzero(rounded <= np.partition(rounded, k - 1)[k - 1])[0]
        neighbors[row] = near[np.lexsort((near, rounded[near]))][:k]
        distances[row] = rounded[neighbors[row]]
    return neighbors, distances


@pytest.mark.parametrize("name", SETS)
def test_all_ranks_and_strategies_give_the_same_bytes(data, results, name):
    first, *others = [results(data, name, *how) for how in SETS[name][3]]
    for other in others:
        assert support.payload(other) == support.payload(first), other.name


@pytest.mark.parametrize("name", SETS)
def test_result_is_the_oracles(data, results, name):
    metric, whole_numbers, queries, _ = SETS[name]
    base, wanted_for = read_set(data / name, queries)
    out = first_result(results, data, name)
    if whole_numbers:
        support.assert_same_bits(out, whole_number_oracle(base, wanted_for, K))
    else:
        support.assert_exact(out, base, wanted_for, K, metric)


@pytest.mark.parametrize("name", SETS)
def test_result_is_the_files_own_truth(data, results, name):
    metric, _, queries, _ = SETS[name]
    neighbors, distances = support.read_result(first_result(results, data, name))
    with h5py.File(data / name, "r") as file:
        true_neighbors, true_distances = file["neighbors"][:queries], file["distances"][:queries].astype(np.float64)
    # The truth holds roots and 1 - cosine, both rounded to float32, as the squares and cosines here are.
    found = np.sqrt(distances.astype(np.float64)) if metric == "l2" else 1 - distances.astype(np.float64)
    slack = 2e-7 * (true_distances if metric == "l2" else 1)
    assert (np.abs(found - true_distances) <= slack).all()
    slack = 2 * slack * np.ones_like(true_distances)
    tied = np.zeros(true_distances.shape, dtype=bool)
    tied[:, 1:] |= np.diff(true_distances, axis=1) <= slack[:, 1:]
    tied[:, :-1] |= tied[:, 1:]
    tied[:, -1] = True
    assert (neighbors == true_neighbors)[~tied].all()
    assert (~tied).any()


@pytest.mark.parametrize("name", SETS)
def test_eval_reports_full_recall_against_the_files_truth(data, results, name):
    judged = support.run(["eval", first_result(results, data, name), data / name, "--expect", "exact"])
    assert judged.code == 0, judged
    assert judged.stdout.splitlines()[-1] == "RESULT OK", judged
    numbers = support.run(["eval", first_result(results, data, name), data / name, "--json"])
    report = json.loads(numbers.stdout)
    assert [row["recall"] for row in report["at"]] == [1.0, 1.0, 1.0], report
    assert report["queries_compared"] == SETS[name][2]
    assert report["different_queries"] == 0


@pytest.mark.parametrize("name", SETS)
def test_eval_trusts_what_its_oracle_confirms(data, results, name):
    judged = support.run(["eval", first_result(results, data, name), "--oracle", 20], timeout=300)
    assert judged.code == 0, judged
    assert judged.stdout.splitlines()[-1] == "RESULT OK", judged


def swap_two_ids(neighbors, _):
    neighbors[7, [3, 4]] = neighbors[7, [4, 3]]


def replace_an_id(neighbors, _):
    neighbors[7, K - 1] = np.setdiff1d(np.arange(2 * K), neighbors[7])[0]


def repeat_an_id(neighbors, _):
    neighbors[7, 1] = neighbors[7, 0]


def lose_a_neighbor(neighbors, distances):
    neighbors[7, 5:-1], distances[7, 5:-1] = neighbors[7, 6:], distances[7, 6:]


def change_a_distance(_, distances):
    distances[7, 50] *= np.float32(1 + 1e-5)


def pad_a_place(neighbors, distances):
    neighbors[7, K - 1], distances[7, K - 1] = -1, np.inf


def swap_two_queries(neighbors, distances):
    neighbors[[7, 8]], distances[[7, 8]] = neighbors[[8, 7]], distances[[8, 7]]


DAMAGES = [swap_two_ids, replace_an_id, repeat_an_id, lose_a_neighbor, change_a_distance, pad_a_place, swap_two_queries]


def damaged(path, out, damage):
    shutil.copy(path, out)
    with h5py.File(out, "r+") as file:
        neighbors, distances = file["neighbors"][...], file["distances"][...]
        before = neighbors.tobytes() + distances.tobytes()
        damage(neighbors, distances)
        assert neighbors.tobytes() + distances.tobytes() != before
        file["neighbors"][...], file["distances"][...] = neighbors, distances
    return out


@pytest.mark.parametrize("name", ["deep-10k-96-euclidean.hdf5", "letter-16-euclidean-ties.hdf5",
                                  "word2vec-googlenews-8k-300-angular.hdf5"])
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_eval_does_not_trust_a_damaged_result(data, results, tmp_path, name, damage):
    out = damaged(first_result(results, data, name), tmp_path / "damaged.h5", damage)
    judged = support.run(["eval", out, "--oracle", "all"], timeout=300)
    assert judged.code == 65, judged
    assert judged.stdout.splitlines()[-1].startswith("RESULT NOT TRUSTED"), judged


def claim_a_tie(neighbors, _):
    neighbors[7, 50] = np.setdiff1d(np.arange(2 * K), neighbors[7])[0]


@pytest.mark.parametrize("damage", [swap_two_ids, claim_a_tie, repeat_an_id, lose_a_neighbor, change_a_distance,
                                    pad_a_place, swap_two_queries], ids=lambda damage: damage.__name__)
def test_eval_against_truth_does_not_trust_a_damaged_result(data, results, tmp_path, damage):
    name = "sift-5k-128-euclidean.hdf5"
    out = damaged(first_result(results, data, name), tmp_path / "damaged.h5", damage)
    judged = support.run(["eval", out, data / name, "--expect", "exact"])
    assert judged.code == 65, judged
    assert judged.stdout.splitlines()[-1].startswith("RESULT NOT TRUSTED"), judged


@pytest.mark.parametrize("base, queries", [
    ("sift-5k_base.fvecs", "sift-5k_query.fvecs"), ("sift-5k_base.bvecs", "sift-5k_query.fvecs")])
def test_texmex_files_hold_the_same_vectors_as_hdf5(data, results, tmp_path, base, queries):
    out = tmp_path / "out.h5"
    support.search(["--base", data / base, "--queries", data / queries, "-k", K, "-o", out, *QUIET], np=2)
    assert support.payload(out) == support.payload(first_result(results, data, "sift-5k-128-euclidean.hdf5"))
    judged = support.run(["eval", out, data / "sift-5k_groundtruth.ivecs", "--json"])
    assert judged.code == 0, judged


def test_big_ann_files_agree_with_their_float32_truth(data, tmp_path):
    """That truth was made in float32: a few near ties stand in the other order, never more."""
    out = tmp_path / "out.h5"
    support.search(["--base", data / "deep.base.10K.fbin", "--queries", data / "deep.query.public.10K.fbin", "-k", K,
                    "-o", out, *QUIET], np=2, timeout=300)
    truth = np.fromfile(data / "deep.groundtruth.10K.10K.ibin", "<i4", 10000 * 100, offset=8).reshape(10000, 100)
    neighbors, _ = support.read_result(out)
    differing = (neighbors != truth).any(axis=1)
    assert differing.sum() <= 60
    same_set = [set(a) == set(b) for a, b in zip(neighbors[differing, :-1], truth[differing, :-1])]
    assert np.mean(same_set) > 0.9

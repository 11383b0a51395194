"""Shares of the base: by weights, by measured speed, by kinds of ranks. Answers are the same bytes for all of them."""

import json
import os
import pathlib
import subprocess

import h5py
import numpy as np
import pytest
import support

K = 7


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    generator = np.random.default_rng(5)
    base = generator.integers(-3, 4, (1000, 6)).astype(np.float32)
    path = tmp_path_factory.mktemp("balance") / "in.h5"
    return support.write_vectors(path, "f32", train=base, test=base[:40] + 1)


def data_sets(path):
    with h5py.File(path) as file:
        return {name: file[name][()].tobytes() for name in file}


def build_and_search(commands):
    for arguments in commands:
        result = support.run(arguments, np=3)
        assert result.code == 0, result


def question(path, *more):
    return ["--base", f"{path}:/train", "--queries", f"{path}:/test", "-k", K, *more]


def rows_of_ranks(out):
    report = json.loads(out.with_name(out.name + ".report.json").read_text())
    return [rank["rows"] for rank in report["ranks"]]


@pytest.fixture(scope="module")
def wanted(file, tmp_path_factory):
    out = tmp_path_factory.mktemp("wanted") / "out.h5"
    support.search([*question(file), "-o", out, "-q"])
    return support.payload(out)


@pytest.mark.parametrize("weights, rows", [
    ("3,1", [750, 250]), ("1,1,2", [250, 250, 500]), ("1,1e-9,1", [500, 0, 500]), ("1e-9,1", [0, 1000]), ("1,1,1,1,1,1,94", [10] * 6 + [940]),
    ("5", [1000])])
def test_weights_share_out_the_rows(file, wanted, tmp_path, weights, rows):
    out = tmp_path / "out.h5"
    support.search([*question(file), "--balance", weights, "-o", out, "-q"], np=len(rows))
    assert rows_of_ranks(out) == rows
    assert support.payload(out) == wanted


@pytest.mark.parametrize("balance", ["auto", "equal", "measured"])
@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 7])
def test_words_at_every_rank_count(file, wanted, tmp_path, balance, ranks):
    out = tmp_path / "out.h5"
    support.search([*question(file), "--balance", balance, "-o", out, "-q"], np=ranks)
    rows = rows_of_ranks(out)
    assert sum(rows) == 1000 and len(rows) == ranks
    if balance != "measured":  # ranks of one machine are of one kind
        assert max(rows) - min(rows) <= 1
    assert support.payload(out) == wanted


def bound_cores():
    """Cores, not threads of them, that this process may use."""
    topology = [f"/sys/devices/system/cpu/cpu{cpu}/topology" for cpu in os.sched_getaffinity(0)]
    return {tuple(pathlib.Path(folder, name).read_text() for name in ("physical_package_id", "core_id"))
            for folder in topology}


def test_ranks_with_fewer_cores_get_shares_by_their_speed_unasked(file, wanted, tmp_path):
    """One rank is bound to one core: it is of another kind."""
    if len(bound_cores()) < 2:
        pytest.skip("one core: ranks can't be bound to different numbers of them")
    out = tmp_path / "out.h5"
    command = [str(support.PROGRAM), "search", *map(str, question(file)), "-o", str(out), "-q"]
    bound = ["taskset", "-c", str(min(os.sched_getaffinity(0)))]
    environment = support.environment()
    del environment["OMP_NUM_THREADS"]
    done = subprocess.run(["mpirun", "-n", "1", *command, ":", "-n", "1", *bound, *command], env=environment,
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    report = json.loads(out.with_name("out.h5.report.json").read_text())
    weights = report["shape"]["weights"]
    assert len(weights) == 2 and max(weights) == 1 and min(weights) >= 0.01, weights
    assert [rank["threads"] for rank in report["ranks"]] == [len(bound_cores()), 1]
    assert abs(rows_of_ranks(out)[0] - 1000 * weights[0] / sum(weights)) <= 1
    assert support.payload(out) == wanted


def test_a_streamed_base_is_shared_out_group_by_group(file, wanted, tmp_path):
    out = tmp_path / "out.h5"
    small = ["--isa", "portable", "--memory", "60KiB", "--batch", 8]
    support.search([*question(file), "--balance", "1,3", *small, "-o", out, "-q"], np=2)
    report = json.loads(out.with_name("out.h5.report.json").read_text())
    assert report["plan"]["groups"] > 1 and report["shape"]["weights"] == [1, 3]
    first, second = rows_of_ranks(out)
    assert abs(second - 3 * first) <= 4 * report["plan"]["groups"]
    assert support.payload(out) == wanted


def test_lists_graphs_joins_and_builds_are_shared_out_alike(file, tmp_path):
    results = {}
    for balance in ("equal", "1,4,2", "1e-9,1,1"):
        folder = tmp_path / balance
        folder.mkdir()
        more = ["--balance", balance, "-q"]
        base, index = f"{file}:/train", folder / "index"
        build_and_search([
            ["build", "--base", base, "--index", "ivf8", *more, "-o", index],
            ["search", "--base", index, "--queries", f"{file}:/test", "-k", K, "--nprobe", 3, *more, "-o",
             folder / "s.h5"],
            ["graph", "--base", base, "-k", K, *more, "-o", folder / "g.h5"],
            ["join", "--base", base, "--eps", 2, *more, "-o", folder / "j.h5"]])
        results[balance] = [data_sets(path) for path in
                            (index / "lists.h5", index / "shard-00000.h5", *(folder / f"{x}.h5" for x in "sgj"))]
    assert results["equal"] == results["1,4,2"] == results["1e-9,1,1"]


@pytest.mark.parametrize("balance, ranks, word", [
    ("1,2,3", 2, "3 weights for 2 ranks"), ("1,0", 2, "auto, equal, measured"), ("fast", 1, "auto, equal, measured"),
    ("1,,1", 3, "auto, equal, measured")])
def test_what_is_no_balance_is_said_in_one_line(file, tmp_path, balance, ranks, word):
    out = tmp_path / "out.h5"
    result = support.run(["search", *question(file), "--balance", balance, "-o", out], np=ranks)
    assert result.code == 64
    assert word in result.stderr
    assert not out.exists()

"""All rows within a distance, all pairs and their clusters: exact, the same for any number of ranks."""

import json
import os

import h5py
import interrupted_job
import numpy as np
import pytest
import range_oracle
import support
from range_oracle import EPS, assert_is, line, truth

USAGE, BAD_DATA, UNAVAILABLE, CANNOT_CREATE, CONFIG = 64, 65, 69, 73, 78


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("range")
    range_oracle.write_vectors(folder)
    return folder


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return interrupted_job.build_library(tmp_path_factory.mktemp("library"))


# All forms, metrics and numbers of ranks meet one oracle; test_nightly_range.py has every combination.
@pytest.mark.parametrize("form, metric, ranks", [
    ("range", "l2", 3), ("range", "ip", None), ("range", "cosine", None),
    ("join", "l2", 7), ("join", "cosine", 2),
    ("join both ways", "l2", 4), ("join both ways", "ip", 1), ("join both ways", "cosine", None)])
def test_every_row_within_eps_is_found_and_no_other(folder, tmp_path, form, metric, ranks):
    pieces = ["--batch", 77] if ranks else []
    result = support.run(line(folder, form, tmp_path / "out.h5", *pieces, metric=metric), np=ranks)
    assert result.code == 0 and result.stdout.endswith("RESULT OK\n"), result
    assert "0 ids and 0 distances differ" in result.stdout, result
    assert_is(tmp_path / "out.h5", truth(folder, form, metric))
    attributes = support.attributes(tmp_path / "out.h5")
    assert attributes["eps"] == EPS[metric] and "k" not in attributes
    assert attributes.get("pairs") == {"range": None, "join": "once", "join both ways": "both"}[form]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.h5", "out.h5.report.html", "out.h5.report.json"]


@pytest.mark.parametrize("command, ranks, memory", [("range", None, "640KiB"), ("join", 3, "720KiB")])
def test_a_base_beyond_memory_gives_the_same_matrix(tmp_path, command, ranks, memory):
    base = np.random.default_rng(3).integers(-2, 3, (1600, 64)).astype(np.float32)
    queries = base[:100] if command == "range" else base
    support.write_h5(tmp_path / "base.h5", train=base, test=queries)
    inputs = ["--queries", tmp_path / "base.h5"] if command == "range" else []
    result = support.run([command, "--base", tmp_path / "base.h5", *inputs, "--eps", 170, "--threads", 1, "--memory", memory,
                          "--batch", 40 if ranks is None else 400, "-o", tmp_path / "out.h5"], np=ranks)
    assert result.code == 0 and "streamed" in result.stderr, result
    wanted = range_oracle.matrix_of(queries, base, np.arange(1600), 170, pairs="all" if command == "range" else "once")
    assert len(wanted[1]) > 1000
    assert_is(tmp_path / "out.h5", wanted)


@pytest.mark.parametrize("form, kind, ranks", [("join", "block", 2), ("range", "publishing", None)])
def test_what_was_killed_goes_on_but_not_as_another_job(folder, tmp_path, library, form, kind, ranks):
    output = tmp_path / "out.h5"
    job = line(folder, form, output, "--batch", 80)
    process = interrupted_job.launch_held(library, job, output, ranks, kind, 2 if kind == "block" else 1)
    for pid in support.child_pids(process) if ranks else [process.pid]:
        os.kill(pid, 9)
    assert interrupted_job.end_of(process, tmp_path) != 0 and not output.exists()
    if kind == "block":
        result = support.run([5 if part == EPS["l2"] else part for part in job])
        assert result.code == CONFIG and "eps" in support.complaints(result)[0], result
        result = support.run([*job, "--symmetric"])
        assert result.code == CONFIG and "pairs" in support.complaints(result)[0], result
    result = support.run(job, np=None if ranks else 3)
    assert result.code == 0 and "resuming: " in result.stderr, result
    assert_is(output, truth(folder, form))
    assert not [path.name for path in tmp_path.iterdir() if path.name.endswith((".hits", *interrupted_job.LITTER))]


def partial_writes(log):
    """Numbers of the changes to OUT.partial that are writes."""
    return [number for number, call in enumerate(log.read_text().splitlines(), 1) if call.startswith("pwrite")]


def test_clusters_are_found_again_after_a_kill_amid_them(folder, tmp_path, library):
    matrix = truth(folder, "join")
    job = line(folder, "join", tmp_path / "whole.h5", "--clusters", "--json")
    log = {"LD_PRELOAD": library, "CRASH_PREFIX": tmp_path / "whole.h5.partial", "CRASH_LOG": tmp_path / "log"}
    result = support.run(job, env=log)
    assert result.code == 0 and json.loads(result.stdout)["clusters"]["count"] > 3, result
    assert_is(tmp_path / "whole.h5", matrix)
    range_oracle.assert_clusters(tmp_path / "whole.h5", matrix)

    output = tmp_path / "out.h5"
    job = line(folder, "join", output, "--clusters")
    last = partial_writes(tmp_path / "log")[-1]  # of all writes that of `keep` is the last
    crash = {"LD_PRELOAD": library, "CRASH_PREFIX": f"{output}.partial", "CRASH_AT": last, "CRASH_HALF": "1"}
    assert support.run(job, env=crash).code != 0 and not output.exists()
    result = support.run(job[:-1])
    assert result.code == CONFIG and "clusters" in support.complaints(result)[0], result
    result = support.run(job, np=2)
    assert result.code == 0 and "0 shard groups are left" in result.stderr, result
    assert_is(output, matrix)
    range_oracle.assert_clusters(output, matrix)


def test_clusters_of_pairs_in_both_directions_are_the_same(folder, tmp_path):
    output = tmp_path / "out.h5"
    result = support.run(line(folder, "join both ways", output, "--clusters"), np=3)
    assert result.code == 0 and "\nclusters  " in result.stdout, result
    assert_is(output, truth(folder, "join both ways"))
    range_oracle.assert_clusters(output, truth(folder, "join both ways"))
    result = support.run(["eval", output, "--oracle", "all"])
    assert result.code == 0 and "0 missing, 0 surplus, 0 with a wrong distance\n" in result.stdout, result


def test_eval_trusts_a_right_matrix_alone(folder, tmp_path):
    output = tmp_path / "out.h5"
    assert support.run(line(folder, "range", output)).code == 0
    result = support.run(["eval", output, "--oracle", 40])
    assert result.code == 0 and result.stdout.endswith("RESULT OK\n"), result
    result = support.run(["eval", output, output, "--expect", "exact"])
    assert result.code == BAD_DATA and "--oracle" in support.complaints(result)[0], result
    with h5py.File(output, "r+") as file:
        file["indices"][3] = 5 * range_oracle.ROWS + 1
    result = support.run(["eval", output, "--oracle", "all", "--json"])
    assert result.code == BAD_DATA, result
    found = json.loads(result.stdout)
    assert not found["trusted"] and found["missing_entries"] == found["surplus_entries"] == 1, found


def test_an_option_of_another_command_is_refused(folder, tmp_path):
    result = support.run(["join", "--base", folder / "base.h5", "-o", tmp_path / "out.h5", "--eps", 1, "--queries", "q.h5"])
    assert result.code == USAGE and len(support.complaints(result)) == 1 and "queries" in support.complaints(result)[0], result
    assert not list(tmp_path.iterdir())


# With and without a CUDA engine in the build.
@pytest.mark.parametrize("more", [[], ["--dry-run"]], ids=["job", "dry run"])
@pytest.mark.parametrize("form, ranks", [("range", 3), ("join", None), ("join both ways", 2)])
def test_another_engine_is_refused_before_anything_is_begun(folder, tmp_path, form, ranks, more):
    result = support.run(line(folder, form, tmp_path / "out.h5", "--engine", "cuda", *more), np=ranks)
    assert result.code == UNAVAILABLE and len(support.complaints(result)) == 1, result
    for word in ("range and join", "cuda", "--engine cpu"):
        assert word in support.complaints(result)[0], result
    assert not list(tmp_path.iterdir())


def test_an_output_that_exists_is_kept(folder, tmp_path):
    (tmp_path / "out.h5").write_text("mine")
    job = line(folder, "join", tmp_path / "out.h5", metric="ip")
    result = support.run(job)
    assert result.code == CANNOT_CREATE and (tmp_path / "out.h5").read_text() == "mine", result
    assert support.run([*job, "--overwrite"]).code == 0
    assert_is(tmp_path / "out.h5", truth(folder, "join", "ip"))


def test_one_query_that_finds_more_than_memory_holds_is_named(tmp_path):
    with h5py.File(tmp_path / "base.h5", "w") as file:
        file["train"] = np.zeros((20000, 2), np.float32)
    result = support.run(["join", "--base", tmp_path / "base.h5", "--eps", 1, "--threads", 1, "--batch", 4,
                          "--memory", "1200KiB", "-o", tmp_path / "out.h5"])
    assert result.code == CONFIG and len(support.complaints(result)) == 1, result
    for word in ("query 0", "rows within eps", "--memory", "--eps"):
        assert word in support.complaints(result)[0], result
    assert [path.name for path in tmp_path.iterdir()] == ["base.h5"]

"""Nightly: range and join in every form and metric on every number of ranks, killed in either phase."""

import os

import interrupted_job
import numpy as np
import pytest
import range_oracle
import support
from range_oracle import FORMS, assert_is, line, truth


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("range")
    range_oracle.write_vectors(folder)
    return folder


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("metric", ["l2", "ip", "cosine"])
@pytest.mark.parametrize("form", FORMS)
def test_the_matrix_is_the_same_for_any_ranks_and_batch(folder, tmp_path, form, metric, ranks):
    result = support.run(line(folder, form, tmp_path / "out.h5", "--batch", "33", metric=metric), np=ranks)
    assert result.code == 0 and "0 ids and 0 distances differ" in result.stdout, result
    assert_is(tmp_path / "out.h5", truth(folder, form, metric))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("ranks, memory", [(1, "1400KiB"), (3, "700KiB")])
def test_a_base_beyond_memory_gives_the_same_matrix_as_one_within(tmp_path, form, ranks, memory):
    base = np.random.default_rng(3).integers(-2, 3, (4000, 48)).astype(np.float32)
    support.write_h5(tmp_path / "base.h5", train=base, test=base[:100])
    command, more = FORMS[form]
    inputs = ["--queries", tmp_path / "base.h5"] if command == "range" else []
    job = [command, "--base", tmp_path / "base.h5", *inputs, *more, "--eps", 110, "--threads", 1]
    whole = support.run([*job, "-o", tmp_path / "whole.h5"])
    assert whole.code == 0 and "resident" in whole.stderr, whole
    part = support.run([*job, "-o", tmp_path / "part.h5", "--memory", memory, "--batch", 40], np=ranks)
    assert part.code == 0 and "streamed" in part.stderr, part
    queries, pairs = (base[:100], "all") if command == "range" else (base, "both" if more else "once")
    wanted = range_oracle.matrix_of(queries, base, np.arange(4000), 110, pairs=pairs)
    for output in ("whole.h5", "part.h5"):
        assert_is(tmp_path / output, wanted)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["block", "publishing"])
def test_what_was_killed_goes_on(folder, tmp_path, form, kind):
    output = tmp_path / "out.h5"
    job = line(folder, form, output, "--batch", 20)
    library = interrupted_job.build_library(tmp_path)
    process = interrupted_job.launch_held(library, job, output, 2, kind, 2 if kind == "block" else 1)
    for pid in support.child_pids(process):
        os.kill(pid, 9)
    assert interrupted_job.end_of(process, tmp_path) != 0 and not output.exists()
    result = support.run(job, np=3)
    assert result.code == 0 and "resuming: " in result.stderr, result
    assert_is(output, truth(folder, form))
    assert not [path.name for path in tmp_path.iterdir() if path.name.endswith((".hits", *interrupted_job.LITTER))]


def test_a_stopped_run_is_left_behind_where_that_is_asked_for(folder, tmp_path):
    output = tmp_path / "out.h5"
    process = interrupted_job.launch_held(interrupted_job.build_library(tmp_path),
                                          line(folder, "join", output, "--batch", 20), output, None, "block", 1)
    process.kill()
    interrupted_job.end_of(process, tmp_path)
    assert support.run(line(folder, "join both ways", output, "--no-resume")).code == 0
    assert_is(output, truth(folder, "join both ways"))


def test_an_older_file_is_never_taken_for_the_new_one(folder, tmp_path):
    library = interrupted_job.build_library(tmp_path)
    output = tmp_path / "out.h5"
    assert support.run(line(folder, "join", output, metric="ip")).code == 0
    job = line(folder, "join", output, "--overwrite")
    # Killed before the renaming, and again when the matrix that was whole has gone to be made anew.
    process = interrupted_job.launch_held(library, job, output, None, "publishing", 1)
    process.kill()
    interrupted_job.end_of(process, tmp_path)
    log = {"LD_PRELOAD": library, "CRASH_PREFIX": f"{output}.partial", "CRASH_AT": 2}
    assert support.run(job, env=log).code != 0
    assert not (tmp_path / "out.h5.partial").exists(), "the second kill came too late"
    assert support.run(job).code == 0
    assert_is(output, truth(folder, "join"))


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("metric", ["l2", "cosine"])
@pytest.mark.parametrize("form", ["join", "join both ways"])
def test_clusters_are_the_same_for_any_ranks(folder, tmp_path, form, metric, ranks):
    result = support.run(line(folder, form, tmp_path / "out.h5", "--clusters", metric=metric), np=ranks)
    assert result.code == 0, result
    range_oracle.assert_clusters(tmp_path / "out.h5", truth(folder, form, metric))

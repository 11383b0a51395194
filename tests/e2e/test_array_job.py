"""Parts of the base searched by jobs of their own and merged are the whole job, byte for byte; nothing less is accepted."""

import json

import numpy as np
import pytest
import support

K = 17
PARTS = 4
QUIET = ("-q", "--report=false")


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A folder with inputs full of ties and the four parts' results, l2."""
    folder = tmp_path_factory.mktemp("array")
    generator = np.random.default_rng(21)
    base = generator.integers(-3, 4, (1003, 6)).astype(np.float64)
    base[600:900] = base[:300]
    queries = generator.integers(-3, 4, (40, 6)).astype(np.float64)
    support.write_vectors(folder / "in.h5", "f32", train=base, test=queries)
    for part in range(PARTS):
        search_part(folder, part, folder / f"part{part}.h5", np=1 + part % 2)
    return folder, base, queries


def question(folder, k=K):
    return "--base", folder / "in.h5", "--queries", folder / "in.h5", "-k", k


def search_part(folder, part, out, *options, k=K, parts=PARTS, np=None):
    support.search([*question(folder, k), "--part", f"{part}/{parts}", "-o", out, *options, *QUIET], np=np)
    return out


def parts_of(folder, *chosen):
    return [folder / f"part{part}.h5" for part in (chosen or range(PARTS))]


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2)])
def test_merged_parts_are_the_whole_job(job, tmp_path, order):
    folder, base, queries = job
    support.search([*question(folder), "-o", tmp_path / "whole.h5", *QUIET], np=3)
    merged = support.run(["merge", *parts_of(folder, *order), "-o", tmp_path / "merged.h5"])
    assert merged.code == 0, merged
    assert support.payload(tmp_path / "merged.h5") == support.payload(tmp_path / "whole.h5")
    support.assert_same_bits(tmp_path / "merged.h5", support.oracle(base, queries, K))
    judged = support.run(["eval", tmp_path / "merged.h5", "--oracle", "all"])
    assert judged.code == 0 and judged.stdout.splitlines()[-1] == "RESULT OK", judged


@pytest.mark.parametrize("metric", ["ip", "cosine"])
@pytest.mark.parametrize("parts, k", [(2, 5), (3, 700)])
def test_other_metrics_and_parts_smaller_than_k(job, tmp_path, metric, parts, k):
    folder, base, queries = job
    outs = [search_part(folder, part, tmp_path / f"part{part}.h5", "--metric", metric, k=k, parts=parts)
            for part in range(parts)]
    merged = support.run(["merge", *outs, "-o", tmp_path / "merged.h5"])
    assert merged.code == 0, merged
    support.assert_same_bits(tmp_path / "merged.h5", support.oracle(base, queries, k, metric))


@pytest.mark.parametrize("suffix", ["npy", "ibin"])
def test_merged_in_another_format(job, tmp_path, suffix):
    folder, base, queries = job
    merged = support.run(["merge", *parts_of(folder), "-o", tmp_path / f"merged.{suffix}"])
    assert merged.code == 0, merged
    support.assert_same_bits(tmp_path / f"merged.{suffix}", support.oracle(base, queries, K))


def test_parts_cover_the_base_once(job):
    folder, base, _ = job
    covered = [support.attributes(path) for path in parts_of(folder)]
    ranges = [(int(part["base_begin"]), int(part["base_end"])) for part in covered]
    assert ranges[0][0] == 0 and ranges[-1][1] == len(base)
    assert all(before[1] == after[0] for before, after in zip(ranges, ranges[1:]))


def refused(arguments, out, *words):
    result = support.run(["merge", *arguments, "-o", out])
    assert result.code == 65, result
    for word in words:
        assert word in result.stderr, result
    assert not out.exists()
    assert not list(out.parent.glob(f"{out.name}*"))


@pytest.mark.parametrize("chosen", [(0, 1, 3), (1, 2, 3), (0, 1, 2), (2,)])
def test_missing_part_is_refused_and_named(job, tmp_path, chosen):
    folder, _, _ = job
    missing = next(part for part in range(PARTS) if part not in chosen)
    first_row = int(support.attributes(folder / f"part{missing}.h5")["base_begin"])
    refused(parts_of(folder, *chosen), tmp_path / "merged.h5", f"[{first_row}, ", "--allow-partial")


def test_allowed_partial_result_says_what_it_covers(job, tmp_path):
    folder, base, queries = job
    out = tmp_path / "partial.h5"
    merged = support.run(["merge", *parts_of(folder, 0, 2), "-o", out, "--allow-partial", "--json"])
    assert merged.code == 0, merged
    assert json.loads(merged.stdout)["missing_base_rows"]
    begin, end = (int(support.attributes(folder / "part1.h5")[name]) for name in ("base_begin", "base_end"))
    first_of_last = int(support.attributes(folder / "part3.h5")["base_begin"])
    kept = np.r_[0:begin, end:first_of_last]
    neighbors, distances = support.oracle(base[kept], queries, K)
    support.assert_same_bits(out, (kept[neighbors], distances))
    assert support.attributes(out)["base_covered"]


def test_part_given_twice_is_refused(job, tmp_path):
    folder, _, _ = job
    refused([*parts_of(folder), folder / "part2.h5"], tmp_path / "merged.h5", "overlap")


def test_overlapping_parts_of_another_cut_are_refused(job, tmp_path):
    folder, _, _ = job
    other = search_part(folder, 1, tmp_path / "half.h5", parts=2)
    refused([*parts_of(folder, 0, 1, 2), other], tmp_path / "merged.h5", "overlap", "half.h5")


@pytest.mark.parametrize("options, k, word", [
    ((), K + 1, "k"), (("--metric", "ip"), K, "metric"), (("--queries-range", "0:39"), K, "nq"),
    (("--nonfinite", "drop"), K, "nonfinite")])
def test_parts_of_different_questions_are_refused(job, tmp_path, options, k, word):
    folder, _, _ = job
    other = search_part(folder, 3, tmp_path / "other.h5", *options, k=k)
    refused([*parts_of(folder, 0, 1, 2), other], tmp_path / "merged.h5", f"differ in {word}", "other.h5")


def test_parts_of_different_bases_are_refused(job, tmp_path):
    folder, base, queries = job
    changed = base.copy()
    changed[1000] += 1
    support.write_vectors(tmp_path / "in.h5", "f32", train=changed, test=queries)
    other = search_part(tmp_path, 3, tmp_path / "other.h5")
    refused([*parts_of(folder, 0, 1, 2), other], tmp_path / "merged.h5", "differ in base", "other.h5")


def test_existing_output_stays_unless_replaced(job, tmp_path):
    folder, base, queries = job
    out = tmp_path / "merged.h5"
    out.write_text("precious")
    assert support.run(["merge", *parts_of(folder), "-o", out]).code == 73
    assert out.read_text() == "precious"
    assert support.run(["merge", *parts_of(folder), "-o", out, "--overwrite"]).code == 0
    support.assert_same_bits(out, support.oracle(base, queries, K))


@pytest.mark.parametrize("part", ["4/4", "-1/4", "0/0", "x", "1"])
def test_nonsense_parts_are_refused(job, tmp_path, part):
    folder, _, _ = job
    result = support.run(["search", *question(folder), "--part", part, "-o", tmp_path / "out.h5"])
    assert result.code == 64, result
    assert list(tmp_path.iterdir()) == []

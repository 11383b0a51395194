"""A base beyond --memory is streamed in groups, or refused with the numbers; the bytes stay the same (promise I6)."""

import json

import h5py
import numpy as np
import pytest
import support

MIB = 1 << 20
K = 20


def plan_of(arguments, np=None):
    """What --dry-run says would be done."""
    result = support.search([*arguments, "-o", "never.h5", "--dry-run", "--json"], np=np)
    return json.loads(result.stdout)


def report_of(out):
    with open(f"{out}.report.json", encoding="utf-8") as file:
        return json.load(file)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A base of 20000 x 16 small whole numbers (1.2 MiB as float32), full of ties, and the exact answer."""
    generator = np.random.default_rng(11)
    base = generator.integers(-4, 5, (20000, 16)).astype(np.float64)
    base[5000:5400] = base[:400]
    queries = generator.integers(-4, 5, (150, 16)).astype(np.float64)
    path = support.write_vectors(tmp_path_factory.mktemp("small") / "in.h5", "f32", train=base, test=queries)
    return path, base, queries, support.oracle(base, queries, K)


def question(path):
    return ["--base", path, "--queries", path, "-k", K, "--threads", 1, *support.LEAN]


@pytest.mark.parametrize("ranks", [None, 2, 3, 7])
def test_streamed_bytes_are_those_of_the_resident_base(small, tmp_path, ranks):
    path, _, _, wanted = small
    memory = 160 if ranks == 7 else 384
    limited = [*question(path), "--batch", 16, "--memory", f"{memory}KiB"]
    assert plan_of(limited, ranks)["groups"] >= 2
    support.search([*limited, "-o", tmp_path / "out.h5", "-q"], np=ranks)
    support.assert_same_bits(tmp_path / "out.h5", wanted)
    plan = report_of(tmp_path / "out.h5")["plan"]
    assert plan["groups"] == plan_of(limited, ranks)["groups"]
    assert plan["memory_bytes"] <= memory * 1024


@pytest.mark.parametrize("ranks, merge", [(1, "auto"), (2, "reduce"), (3, "halving"), (3, "gather"), (4, "all_to_all")])
def test_several_passes_over_the_stream(small, tmp_path, ranks, merge):
    path, _, _, wanted = small
    limited = [*question(path), "--batch", 16, "--memory", "76KiB", "--merge", merge]
    plan = plan_of(limited, ranks)
    assert plan["groups"] > 2 and plan["passes"] > 1, plan
    support.search([*limited, "-o", tmp_path / "out.h5", "-q", "--report=false"], np=ranks)
    support.assert_same_bits(tmp_path / "out.h5", wanted)


@pytest.mark.parametrize("metric", ["ip", "cosine"])
@pytest.mark.parametrize("dtype", ["i8", "f16", "f64"])
def test_streaming_other_metrics_and_dtypes(small, tmp_path, metric, dtype):
    _, base, queries, _ = small
    path = support.write_vectors(tmp_path / "in.h5", dtype, train=base, test=queries)
    limited = [*question(path), "--batch", 16, "--memory", "256KiB", "--metric", metric]
    assert plan_of(limited, 2)["groups"] > 1
    support.search([*limited, "-o", tmp_path / "out.h5", "-q", "--report=false"], np=2)
    support.assert_same_bits(tmp_path / "out.h5", support.oracle(base, queries, K, metric))


def test_streaming_drops_bad_rows_and_keeps_own_ids(small, tmp_path):
    _, base, queries, _ = small
    ids = 10**10 + 3 * np.arange(len(base))
    bad = np.arange(17, len(base), 1999)
    stored = base.astype(np.float32)
    stored[bad, 3] = np.nan
    support.write_h5(tmp_path / "in.h5", train=stored, test=queries.astype(np.float32))
    with h5py.File(tmp_path / "in.h5", "a") as file:
        file["ids"] = ids
    limited = [*question(tmp_path / "in.h5"), "--batch", 16, "--memory", "512KiB", "--nonfinite", "drop"]
    assert plan_of(limited, 2)["groups"] > 1
    support.search([*limited, "-o", tmp_path / "out.h5", "-q", "--report=false"], np=2)
    kept = np.setdiff1d(np.arange(len(base)), bad)
    neighbors, distances = support.oracle(base[kept], queries, K)
    support.assert_same_bits(tmp_path / "out.h5", (ids[kept][neighbors], distances))
    assert int(support.attributes(tmp_path / "out.h5")["dropped_rows"]) == len(bad)


def test_streaming_a_chunked_and_compressed_base(small, tmp_path):
    _, base, queries, wanted = small
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file.create_dataset("train", data=base.astype(np.float32), chunks=(700, 5), compression="gzip", shuffle=True)
        file["test"] = queries.astype(np.float32)
    support.search([*question(tmp_path / "in.h5"), "--batch", 16, "--memory", "512KiB", "-o", tmp_path / "out.h5"], np=2)
    assert report_of(tmp_path / "out.h5")["plan"]["groups"] > 1
    support.assert_same_bits(tmp_path / "out.h5", wanted)


def test_plan_says_what_is_streamed(small):
    path, *_ = small
    limited = [*question(path), "--batch", 16, "--memory", "512KiB"]
    printed = support.search([*limited, "-o", "never.h5", "--dry-run"])
    assert "streamed" in printed.stdout + printed.stderr, printed
    plan = plan_of(limited)
    assert plan["groups"] * plan["rows_per_group"] >= 20000 > (plan["groups"] - 1) * plan["rows_per_group"]
    assert plan["memory_bytes"] == sum(item["bytes"] for item in plan["memory"]) <= plan["memory_limit_bytes"] == 512 * 1024
    resident = plan_of(question(path))
    assert resident["groups"] == resident["passes"] == 1


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """200 MiB of base: far more than the program itself takes."""
    path = tmp_path_factory.mktemp("big") / "in.h5"
    generator = np.random.default_rng(12)
    with h5py.File(path, "w") as file:
        train = file.create_dataset("train", (204800, 256), dtype=np.float32)
        for begin in range(0, 204800, 20480):
            train[begin : begin + 20480] = generator.integers(-9, 10, (20480, 256), dtype=np.int8)
        file["test"] = generator.integers(-9, 10, (24, 256)).astype(np.float32)
    return path


def peak_rss(out):
    return max(rank["peak_rss_bytes"] for rank in report_of(out)["ranks"])


@pytest.mark.parametrize("ranks", [1, 2])
def test_memory_stays_near_its_limit(big, small, tmp_path, ranks):
    support.search([*question(small[0]), "-o", tmp_path / "tiny.h5", "-q"], np=ranks)
    support.search([*question(big), "-o", tmp_path / "resident.h5", "-q", "--memory", "1GiB"], np=ranks)
    support.search([*question(big), "-o", tmp_path / "streamed.h5", "-q", "--memory", "24MiB"], np=ranks)
    assert support.payload(tmp_path / "resident.h5") == support.payload(tmp_path / "streamed.h5")
    assert report_of(tmp_path / "streamed.h5")["plan"]["groups"] > 200 // (24 * ranks)
    program = peak_rss(tmp_path / "tiny.h5")
    assert peak_rss(tmp_path / "resident.h5") > program + 180 * MIB / ranks
    assert peak_rss(tmp_path / "streamed.h5") < program + 24 * MIB + 12 * MIB


def test_narrowing_float64_takes_no_more_than_planned(tmp_path):
    """The wide values are never in memory as a whole: 80 MiB of float64 are 40 MiB of base."""
    generator = np.random.default_rng(13)
    base = generator.integers(-9, 10, (40960, 256)).astype(np.float64)
    path = support.write_h5(tmp_path / "in.h5", train=base, test=base[:20])
    few = support.write_h5(tmp_path / "few.h5", train=base[:20], test=base[:20])
    support.search([*question(few), "-o", tmp_path / "tiny.h5", "-q"])
    support.search([*question(path), "-o", tmp_path / "out.h5", "-q"])
    planned = report_of(tmp_path / "out.h5")["plan"]["memory_bytes"]
    assert 40 * MIB < planned < 48 * MIB
    assert peak_rss(tmp_path / "out.h5") < peak_rss(tmp_path / "tiny.h5") + planned + 12 * MIB
    support.assert_same_bits(tmp_path / "out.h5", support.oracle(base, base[:20], K))


@pytest.mark.parametrize("ranks", [None, 3])
def test_what_does_not_fit_at_all_is_refused_with_the_numbers(small, tmp_path, ranks):
    path, *_ = small
    refused = support.run(["search", *question(path), "--batch", 16, "--memory", "20KiB", "-o", tmp_path / "out.h5"], np=ranks)
    assert refused.code == 78, refused
    assert "needs at least" in refused.stderr and "20.0 KiB" in refused.stderr and "--memory" in refused.stderr, refused
    assert list(tmp_path.iterdir()) == []


def test_the_memory_that_the_refusal_asks_for_is_enough(small, tmp_path):
    path, base, queries, _ = small
    arguments = ["search", *question(path), "--batch", 16, "--queries-range", "0:16", "--part", "0/100",
                 "-o", tmp_path / "out.h5", "-q"]
    refused = support.run([*arguments, "--memory", "4KiB"])
    assert refused.code == 78, refused
    asked = float(refused.stderr.split("needs at least ")[1].split(" KiB")[0]) + 0.1  # it was rounded
    granted = support.run([*arguments, "--memory", f"{asked:.1f}KiB"])
    assert granted.code == 0, granted
    support.assert_same_bits(tmp_path / "out.h5", support.oracle(base[:200], queries[:16], K))

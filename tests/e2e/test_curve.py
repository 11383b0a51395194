"""eval --curve: the recall of every number of lists is what numpy finds inside them, however many ranks search."""

import json
import os
import re
import shutil
import struct
import subprocess
import xml.etree.ElementTree

import h5py
import numpy as np
import pytest
import support
from list_oracle import best, rows_by_list, scores

USAGE, DATA, MISSING, UNAVAILABLE, CANNOT_CREATE, CONFIG = 64, 65, 66, 69, 73, 78
ROWS, QUERIES, DIM, LISTS, K = 2000, 90, 13, 12, 12
NPROBES = [1, 3, LISTS]
TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Small integers around a few centres: many ties."""
    folder = tmp_path_factory.mktemp("curve")
    random = np.random.default_rng(11)
    centres = random.integers(-4, 5, (30, DIM))
    base = (centres[random.integers(0, 30, ROWS)] + random.integers(-2, 3, (ROWS, DIM))).astype(np.float32)
    queries = (centres[random.integers(0, 30, QUERIES)] + random.integers(-4, 5, (QUERIES, DIM))).astype(np.float32)
    support.write_h5(folder / "base.h5", train=base, test=queries, ids=np.arange(ROWS, dtype=np.int64)[::-1] * 2 + 7)
    for metric in ["l2", "ip", "cosine"]:
        built = support.run(["build", "--base", folder / "base.h5", "--index", f"ivf{LISTS}", "--metric", metric,
                             "--shards", 2, "--threads", 1, "-o", folder / metric, "-q"])
        assert built.code == 0, built
    return folder


@pytest.fixture(scope="module")
def truths(folder):
    """Results that are no truth of the sweep: of the queries in another order, of a few of them, with too few neighbors."""
    with h5py.File(folder / "base.h5") as file:
        queries = file["test"][:]
    support.write_h5(folder / "queries.h5", others=np.roll(queries, 1, axis=0), few=queries[:30], short=queries)
    for name, k in {"others": K, "few": K, "short": 5}.items():
        support.search(["--base", folder / "base.h5", "--queries", f"{folder}/queries.h5:{name}", "-k", k, "-o",
                        folder / f"{name}.h5", "-q"])


def line(folder, index, *more):
    return ["eval", "--curve", "--base", folder / index, "--queries", folder / "base.h5", "-k", K, "--threads", 1,
            "--repeat", 1, *more]


def curve(folder, index, *more, np=None):
    result = support.run(line(folder, index, "--json", *more), np=np)
    assert result.code == 0, result
    return json.loads(result.stdout)


def points(document):
    return {point["parameter"]: {int(at): share for at, share in point["recall"].items()}
            for point in document["curves"][0]["points"]}


def gaps(metric, query, rows):
    """Distances as eval compares them: smaller is nearer."""
    values = scores(metric, query, rows)
    return {"l2": lambda: np.sqrt(values), "ip": lambda: -values, "cosine": lambda: 1 - values}[metric]()


def recalls(folder, metric, nprobe):
    """Share of the first `at` places inside the probed lists that are as near as the at-th of all rows, and the share of the
    rows that were compared."""
    centroids, vectors, _ = rows_by_list(folder / metric)
    with h5py.File(folder / "base.h5") as file:
        queries = file["test"][:].astype(np.float64)
    found, compared = {at: 0 for at in (1, 10, K)}, 0
    for query in queries:
        by = "l2" if metric == "l2" else "ip"
        probed, _ = best(by, scores(by, query, centroids), np.arange(LISTS), nprobe)
        inside = np.sort(gaps(metric, query, np.concatenate([vectors[i] for i in probed])))
        everywhere = np.sort(gaps(metric, query, np.concatenate(vectors)))
        compared += len(inside)
        for at in found:
            limit = everywhere[at - 1]
            slack = TOLERANCE * abs(limit) + (TOLERANCE if metric == "cosine" else 0)
            found[at] += np.count_nonzero(inside[:at] <= limit + slack)
    return {at: count / (at * QUERIES) for at, count in found.items()}, compared / (ROWS * QUERIES)


@pytest.mark.parametrize("metric", ["l2", "ip", "cosine"])
def test_the_recalls_are_those_of_double_arithmetic_inside_the_lists(folder, metric):
    document = curve(folder, metric, "--nprobe", ",".join(map(str, reversed(NPROBES))))
    own = document["curves"][0]
    assert document["schema"] == "mpishards.curve/1" and document["recall_by"] == "distance"
    assert [document[name] for name in ("metric", "rows", "d", "nq", "k")] == [metric, ROWS, DIM, QUERIES, K]
    assert own["name"] == f"mpishards ivf{LISTS}" and own["build_seconds"] > 0
    assert own["bytes_per_vector"] == sum(path.stat().st_size for path in (folder / metric).iterdir()) / ROWS
    for nprobe, point in zip(NPROBES, own["points"], strict=True):
        wanted, compared = recalls(folder, metric, nprobe)
        assert point["parameter"] == f"nprobe {nprobe}" and point["queries_per_second"] > 0
        assert {int(at): share for at, share in point["recall"].items()} == pytest.approx(wanted, abs=1e-12)
        assert point["rows_share"] == pytest.approx(compared, abs=1e-12)
    assert set(points(document)[f"nprobe {LISTS}"].values()) == {1}
    assert wanted[10] == 1 and recalls(folder, metric, 1)[0][10] < 0.9, "the data would not tell one list from all"


def test_the_recalls_are_the_same_for_any_number_of_ranks_and_for_a_truth_of_ones_own(folder, tmp_path):
    own = curve(folder, "l2")
    assert list(points(own)) == [f"nprobe {nprobe}" for nprobe in (1, 2, 4, 8, LISTS)]
    for ranks in (2, 3):
        other = curve(folder, "l2", np=ranks)
        assert points(other) == points(own) and other["curves"][0]["ranks"] == ranks
    support.search(["--base", folder / "base.h5", "--queries", folder / "base.h5", "-k", K + 3, "-o",
                    tmp_path / "truth.h5", "-q"])
    told = curve(folder, "l2", "--truth", tmp_path / "truth.h5")
    assert points(told) == points(own) and told["truth"] == str(tmp_path / "truth.h5")


def test_the_table_and_the_plot_show_the_curve_and_its_peers(folder, tmp_path):
    peer = curve(folder, "l2", "--nprobe", "1,2")
    peer["curves"] = [dict(peer["curves"][0], name=f"peer {i} <&>", version="9.9", build_seconds=None) for i in (1, 2)]
    (tmp_path / "peer.json").write_text(json.dumps(peer))
    more = ["--nprobe", "1,4", "--peers", tmp_path / "peer.json"]
    result = support.run(line(folder, "l2", *more, "-o", tmp_path / "page.html"), np=2)
    assert result.code == 0, result
    rows = [row.split() for row in result.stdout.splitlines() if re.match(r" +\d+ ", row)]
    wanted, _ = recalls(folder, "l2", 4)
    assert [row[0] for row in rows] == ["1", "4"]
    assert [float(share) for share in rows[1][3:6]] == pytest.approx(list(wanted.values()), abs=1e-6)
    page = (tmp_path / "page.html").read_text()
    root = xml.etree.ElementTree.fromstring(page)
    text = " ".join(root.itertext())
    assert "peer 1 <&> 9.9" in text and "peer 2 <&>" in text and f"mpishards ivf{LISTS}" in text
    assert len(root.findall(".//{http://www.w3.org/2000/svg}circle")) == 6 + 3, "six points and three in the legend"
    assert support.run(line(folder, "l2", *more, "-o", tmp_path / "plot.svg", "-q")).code == 0
    assert xml.etree.ElementTree.parse(tmp_path / "plot.svg").getroot().tag.endswith("svg")

    refused = support.run(line(folder, "l2", "-o", tmp_path / "page.html"))
    assert refused.code == CANNOT_CREATE and "--overwrite" in refused.stderr and (tmp_path / "page.html").read_text() == page
    assert support.run(line(folder, "l2", "--nprobe", 1, "-o", tmp_path / "page.html", "--overwrite", "-q")).code == 0
    assert "peer" not in (tmp_path / "page.html").read_text()


def rendered(svg):
    return subprocess.run(["rsvg-convert", "-z", "2", "-f", "png"], input=svg.encode(), capture_output=True, check=True).stdout


def test_a_png_is_the_drawing_at_twice_its_size(folder, tmp_path, monkeypatch):
    seen = tmp_path / "seen.svg"  # what the renderer got: times, and so the drawing, differ from run to run
    renderer = tmp_path / "rsvg-convert"
    renderer.write_text(f'#!/bin/sh\ncat > "{seen}"\nexec "{shutil.which("rsvg-convert")}" "$@" < "{seen}"\n')
    renderer.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        assert support.run(line(folder, "l2", "--nprobe", "1,4", "-o", tmp_path / "plot.png", "-q")).code == 0
    svg = seen.read_text()
    image = (tmp_path / "plot.png").read_bytes()
    drawing = xml.etree.ElementTree.fromstring(svg)
    assert struct.unpack(">II", image[16:24]) == (2 * int(drawing.get("width")), 2 * int(drawing.get("height")))
    assert image == rendered(svg)
    assert len(image) > len(rendered(re.sub(r"<text.*?</text>", "", svg))) + 10000, "there is a font"


def test_without_a_renderer_a_png_is_refused_before_the_sweep(folder, tmp_path, monkeypatch):
    alone = tmp_path / "alone.sh"
    alone.write_text(f'#!/bin/sh\nPATH=/nowhere exec "{support.PROGRAM}" "$@"\n')
    alone.chmod(0o755)
    monkeypatch.setattr(support, "PROGRAM", alone)
    result = support.run(line(folder, "l2", "--nprobe", 1, "-o", tmp_path / "plot.png"), np=2)
    assert result.code == UNAVAILABLE and "librsvg2-bin" in result.stderr and "recall" not in result.stdout, result
    assert not (tmp_path / "plot.png").exists()


def test_a_renderer_that_fails_is_noticed_before_the_sweep(folder, tmp_path, monkeypatch):
    for words in ("exit 3", "exit 0", "echo nonsense"):
        renderer = tmp_path / "rsvg-convert"
        renderer.write_text(f"#!/bin/sh\n{words}\n")
        renderer.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        result = support.run(line(folder, "l2", "--nprobe", 1, "-o", tmp_path / "plot.png"))
        assert result.code == UNAVAILABLE and "rsvg-convert, which failed" in result.stderr, result
        assert "recall" not in result.stdout and not (tmp_path / "plot.png").exists()


@pytest.mark.parametrize("code, words, more", [
    (USAGE, "outside 1 to 12", ["--nprobe", "1,13"]),
    (USAGE, ".png", ["-o", "{tmp}/plot.jpg"]),
    (USAGE, "no index directory", ["--base", "{folder}/base.h5"]),
    (USAGE, "give a truth with as many", ["--truth", "{folder}/short.h5"]),
    (DATA, "answers 30 queries", ["--truth", "{folder}/few.h5"]),
    (DATA, "truth of other vectors", ["--truth", "{folder}/others.h5"]),
    (MISSING, "none.json", ["--peers", "{tmp}/none.json", "--json"]),
    (CONFIG, "more ranks or more --memory", ["--memory", "100KiB"]),
])
def test_what_can_not_be_swept_is_refused(folder, truths, tmp_path, code, words, more):
    more = [word.format(tmp=tmp_path, folder=folder) for word in more]
    base = [] if "--base" in more else ["--base", folder / "l2"]
    result = support.run(["eval", "--curve", *base, "--queries", folder / "base.h5", "-k", K, "--threads", 1, *more])
    assert result.code == code and words in result.stderr and result.stderr.count("\n") == 1, result
    assert not list(tmp_path.glob("p*")), "something was written"


def test_peers_that_answer_another_question_are_refused(folder, tmp_path):
    document = curve(folder, "ip", "--nprobe", 1)
    (tmp_path / "peer.json").write_text(json.dumps(document))
    result = support.run(line(folder, "l2", "--peers", tmp_path / "peer.json", "-o", tmp_path / "plot.svg"))
    assert result.code == DATA and "peer.json is about 2000 x 13, ip" in result.stderr, result
    assert not (tmp_path / "plot.svg").exists()


def test_a_damaged_index_is_named(folder, tmp_path):
    shutil.copytree(folder / "l2", tmp_path / "index")
    with h5py.File(tmp_path / "index" / "shard-00001.h5", "r+") as file:
        file["train"][5, 3] += 1
    result = support.run(["eval", "--curve", "--base", tmp_path / "index", "--queries", folder / "base.h5"], np=2)
    assert result.code == DATA and "shard-00001.h5 is damaged" in result.stderr, result

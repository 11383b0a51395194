"""docs/monitoring: rules and dashboard are sound, and every metric that they name is one that the server has."""

import http.client
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
import served
import support

FOLDER = support.ROOT / "docs" / "monitoring"
NAME = re.compile(r"\b(?:mpishards|milvus|process)_[a-z][a-z_]*[a-z]\b")


@pytest.fixture(scope="module")
def promtool():
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("no promtool: install the package prometheus")

    def run(*arguments, stdin=None):
        return subprocess.run([program, *map(str, arguments)], cwd=FOLDER, input=stdin, text=True, capture_output=True,
                              timeout=60, check=False)
    return run


@pytest.fixture(scope="module")
def exposition(tmp_path_factory):
    """/metrics of a server that has answered and refused something."""
    folder = tmp_path_factory.mktemp("server")
    base = np.random.default_rng(3).normal(size=(50, 4)).astype(np.float32)
    file = support.write_h5(folder / "data.h5", train=base)
    with served.Server(folder, [f"points={file}:/train"], more=["--http", "127.0.0.1:0"]) as server:
        connection = http.client.HTTPConnection(server.discovery.read_text().splitlines()[1], timeout=30)

        def ask(method, path, body=None):
            connection.request(method, path, body)
            return connection.getresponse().read().decode()

        good = {"collectionName": "points", "data": [[0, 0, 0, 0]], "limit": 3}
        ask("POST", "/v2/vectordb/entities/search", json.dumps(good))
        ask("POST", "/v2/vectordb/entities/search", json.dumps({**good, "collectionName": "others"}))
        ask("POST", "/v2/vectordb/entities/query", json.dumps({"collectionName": "points", "filter": "id < 3"}))
        text = ask("GET", "/metrics")
        connection.close()
    return text


@pytest.fixture(scope="module")
def names(exposition):
    """Every name that a query may use."""
    found = set()
    for line in exposition.splitlines():
        if line.startswith("# TYPE "):
            name, kind = line.split()[2:]
            found |= {name + suffix for suffix in ("_bucket", "_sum", "_count")} if kind == "histogram" else {name}
    # Its series begins with the first request that is refused for want of room.
    return found | {"mpishards_rejected_total"}


def dashboard_expressions():
    dashboard = json.loads((FOLDER / "grafana-dashboard.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    return expressions + [entry["expr"] for entry in dashboard["annotations"]["list"]]


def test_rules_are_sound_and_fire_when_they_should(promtool):
    checked = promtool("check", "rules", "alerts.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    tested = promtool("test", "rules", "alerts_test.yml")
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_the_scrape_configuration_is_sound(promtool):
    checked = promtool("check", "config", "--syntax-only", "prometheus.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_dashboard_expressions_are_promql(promtool, tmp_path):
    rules = [{"record": f"panel:{number}:test",
              "expr": expression.replace("$__rate_interval", "5m").replace("$instance", ".*")}
             for number, expression in enumerate(dashboard_expressions())]
    assert len(rules) > 20
    path = tmp_path / "rules.yml"  # JSON is YAML
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    checked = promtool("check", "rules", path)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_panels_have_room_of_their_own():
    panels = json.loads((FOLDER / "grafana-dashboard.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                 for y in range(place["y"], place["y"] + place["h"])}
        assert place["x"] + place["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("source", ["grafana-dashboard.json", "alerts.yml", "README.md"])
def test_every_metric_that_is_named_is_there(source, names):
    text = "\n".join(dashboard_expressions()) if source.endswith(".json") else (FOLDER / source).read_text()
    bases = {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}
    named = set(NAME.findall(text))
    assert len(named) > 5
    assert not named - names - bases, f"not in /metrics: {sorted(named - names - bases)}"


def test_every_metric_is_explained(names):
    text = (FOLDER / "README.md").read_text()
    bases = {re.sub(r"_(bucket|sum|count)$", "", name) for name in names if name.startswith("mpishards_")}
    missing = [name for name in sorted(bases) if name not in text]
    assert not missing, missing


def test_our_own_names_follow_the_conventions(promtool, exposition):
    own = [line for line in exposition.splitlines() if re.match(r"(# (HELP|TYPE) )?(mpishards|process)_", line)]
    checked = promtool("check", "metrics", stdin="\n".join(own) + "\n")
    assert checked.returncode == 0, checked.stdout + checked.stderr

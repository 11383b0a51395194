"""The command line as a person and a script meet it: help, typos, who wins, nothing touched, output that parses."""

import contextlib
import json
import os
import pty
import re
import subprocess

import numpy as np
import pytest
import support

USAGE, MISSING, UNAVAILABLE, CONFIG = 64, 66, 69, 78
COMMANDS = ["search", "graph", "range", "join", "build", "serve", "ping", "query", "eval", "merge", "info", "convert",
            "plan", "doctor", "bench", "version"]
DIM, ROWS, QUERIES = 8, 60, 7


@pytest.fixture(scope="module")
def known():
    """The commands that this program lists."""
    listed = support.run(["--help"])
    assert listed.code == 0, listed
    return set(re.findall(r"^  (\w+)  ", listed.stdout, re.MULTILINE))


@pytest.fixture
def command(known):
    """command(name) skips the test where the program has no such command."""

    def require(name):
        if name not in known:
            pytest.skip(f"this program has no {name}")
        return name

    return require


@pytest.fixture
def work(tmp_path):
    random = np.random.default_rng(5)
    support.write_h5(tmp_path / "v.h5", train=random.random((ROWS, DIM), dtype=np.float32),
                     test=random.random((QUERIES, DIM), dtype=np.float32))
    return tmp_path


def search_line(work, *more, output="out.h5"):
    return ["search", "--base", work / "v.h5", "--queries", work / "v.h5", "-o", work / output, *more]


def assert_says(result, code, *words):
    assert result.code == code, result
    lines = support.complaints(result)
    assert len(lines) == 1, result
    for word in words:
        assert word in lines[0], f"{word!r} is not in: {lines[0]}"


# --- help

@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_of_every_command_has_an_example(command, name, flag):
    result = support.run([command(name), flag])
    assert result.code == 0 and not result.stderr, result
    example = result.stdout.split("Example:")[1]
    assert f"mpishards {name}" in example
    assert f"mpishards {name}" in result.stdout.split("Usage:")[1].split("Example:")[0]


@pytest.mark.parametrize("name", ["search", "plan"])
def test_help_command_is_the_same_as_the_flag(command, name):
    assert support.run(["help", command(name)]).stdout == support.run([name, "--help"]).stdout != ""


def test_help_is_printed_once_by_several_ranks():
    result = support.run(["search", "--help"], np=3)
    assert result.code == 0 and result.stdout.count("Usage:") == 1, result


def test_all_listed_commands_are_tested(known):
    assert known <= set(COMMANDS) | {"serve"}


def test_without_a_command_usage_goes_to_stderr():
    result = support.run([])
    assert result.code == USAGE and "Usage: mpishards COMMAND" in result.stderr and not result.stdout, result


# --- typos

@pytest.mark.parametrize("ranks", [None, 2])
@pytest.mark.parametrize("typed, meant", [("--quries", "--queries"), ("--merg", "--merge"), ("--metrc", "--metric"),
                                          ("--overwrit", "--overwrite"), ("--query", "--queries")])
def test_typo_in_a_flag(work, ranks, typed, meant):
    assert_says(support.run(search_line(work, f"{typed}=x"), np=ranks), USAGE, typed, f"did you mean {meant}?")


@pytest.mark.parametrize("ranks", [None, 2])
def test_typo_in_a_letter(work, ranks):
    assert_says(support.run(search_line(work, "-K", 5), np=ranks), USAGE, "unknown option -K", "did you mean -k?")


def test_glob_that_the_shell_expanded(work):
    line = ["search", "--base", work / "a.h5", work / "b.h5", "--queries", work / "v.h5", "-o", work / "out.h5"]
    assert_says(support.run(line), USAGE, "b.h5", "quote the glob or repeat --base")


@pytest.mark.parametrize("typed, meant", [("serach", "search"), ("inf", "info"), ("doctr", "doctor")])
def test_typo_in_a_command(typed, meant):
    assert_says(support.run([typed]), USAGE, typed, f"did you mean {meant}?")


@pytest.mark.parametrize("ranks", [None, 3])
def test_typo_in_a_job_file_names_file_line_and_key(work, ranks):
    job = work / "job.toml"
    job.write_text(f'base = ["{work}/v.h5"]\nqueries = "{work}/v.h5"\nmetrik = "l2"\noutput = "{work}/out.h5"\n')
    assert_says(support.run(["search", "--job", job], np=ranks), CONFIG, "job.toml", "metrik", "did you mean metric?",
                "3")


@pytest.mark.parametrize("typed, names", [(["--metric", "manhattan"], ["l2", "ip", "cosine"]),
                                          (["--merge", "tree"], ["all_to_all", "halving", "reduce", "two_level", "gather"]),
                                          (["--engine", "tpu"], ["auto", "cpu", "cuda"]),
                                          (["--format", "csv"], ["h5", "npy", "ibin"])])
def test_unknown_name_lists_the_known_ones(work, typed, names):
    assert_says(support.run(search_line(work, *typed)), USAGE, typed[1], *names)


@pytest.mark.parametrize("typed", [["--memory", "lots"], ["--batch", "-3"], ["--threads", "many"], ["-k", "3.5"],
                                   ["--queries-range", "5"], ["--part", "3/3"]])
@pytest.mark.parametrize("ranks", [None, 2])
def test_value_that_is_none_names_its_option(work, ranks, typed):
    assert_says(support.run(search_line(work, *typed), np=ranks), USAGE, typed[0].lstrip("-"), typed[1])


@pytest.mark.parametrize("ranks", [None, 3])
@pytest.mark.parametrize("left_out", ["--base", "--queries", "-o"])
def test_what_must_be_given_is_asked_for(work, ranks, left_out):
    line = search_line(work)
    at = line.index(left_out)
    name = {"-o": "output"}.get(left_out, left_out.lstrip("-"))
    assert_says(support.run(line[:at] + line[at + 2:], np=ranks), USAGE, name)


def test_job_file_that_is_missing(work):
    assert_says(support.run(["search", "--job", work / "none.toml"]), MISSING, "none.toml")


def test_job_file_that_is_no_toml(work):
    (work / "job.toml").write_text('base = ["unclosed\n')
    assert_says(support.run(["search", "--job", work / "job.toml"]), CONFIG, "job.toml", "1")


def test_value_of_the_environment_that_is_wrong_names_the_variable(work):
    assert_says(support.run(search_line(work), env={"MPISHARDS_METRIC": "x"}), CONFIG, "MPISHARDS_METRIC", "x")


# --- who wins

@pytest.mark.parametrize("ranks", [None, 2])
@pytest.mark.parametrize("job, environment, flag, wins", [(None, None, None, 10), (3, None, None, 3), (3, 4, None, 4),
                                                          (3, 4, 5, 5), (None, 4, 5, 5), (3, None, 5, 5)])
def test_flag_over_environment_over_job_file_over_default(work, ranks, job, environment, flag, wins):
    (work / "job.toml").write_text(f'base = ["{work}/v.h5"]\nqueries = "{work}/v.h5"\noutput = "{work}/out.h5"\n'
                                   + (f"k = {job}\n" if job else ""))
    line = ["--job", work / "job.toml", "-q", "--report=false", *(["-k", flag] if flag else [])]
    support.search(line, np=ranks, env={"MPISHARDS_K": environment} if environment else {})
    assert support.attributes(work / "out.h5")["k"] == wins


# --- what is printed and touched

@pytest.mark.parametrize("ranks", [None, 3])
@pytest.mark.parametrize("more", [[], ["--json"]])
def test_dry_run_prints_the_plan_and_touches_nothing(work, ranks, more):
    before = support.snapshot(work)
    result = support.search(search_line(work, "--dry-run", *more)[1:], np=ranks)
    assert support.snapshot(work) == before
    if more:
        assert json.loads(result.stdout)["groups"] == 1
    else:
        assert "base resident" in result.stdout and "memory of one rank" in result.stdout


@pytest.mark.parametrize("suffix", ["fbin", "ivecs", "csv"])
def test_output_named_like_a_format_that_results_do_not_have(work, suffix):
    assert_says(support.run(search_line(work, output=f"out.{suffix}")), USAGE, f"out.{suffix}", ".h5", "--format")
    assert support.run(search_line(work, "--format", "h5", output=f"out.{suffix}")).code == 0


def test_base_file_named_twice_is_searched_twice_and_said(work):
    once = support.search(search_line(work, output="once.h5")[1:])
    twice = support.search(search_line(work, "--base", work / "v.h5", "-k", 20, output="twice.h5")[1:])
    assert "more than once" not in once.stderr
    assert twice.stderr.count(f"{work / 'v.h5'}:train is named more than once in --base") == 1, twice
    neighbors, _ = support.read_result(work / "twice.h5")
    expected, _ = support.read_result(work / "once.h5")
    assert (neighbors[:, ::2] == expected).all() and (neighbors[:, 1::2] == expected + ROWS).all()


def test_command_line_in_the_attributes_runs_again_in_a_shell(work):
    folder = work / "it's \"my\" $folder"
    folder.mkdir()
    (folder / "v.h5").write_bytes((work / "v.h5").read_bytes())
    line = ["search", "--base", "v.h5", "--queries", "./v.h5:/test", "-o", folder / "out.h5"]
    assert support.run(line, cwd=folder).code == 0
    attributes = support.attributes(folder / "out.h5")
    assert attributes["working_folder"] == str(folder)
    expected = support.payload(folder / "out.h5")
    (folder / "out.h5").unlink()
    name, rest = attributes["command_line"].split(" ", 1)
    assert name == "mpishards"
    subprocess.run(f"{support.PROGRAM} {rest}", shell=True, check=True, cwd=attributes["working_folder"],
                   env=support.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert support.payload(folder / "out.h5") == expected


@pytest.mark.parametrize("ranks", [None, 2])
def test_quiet_prints_nothing(work, ranks):
    result = support.search(search_line(work, "-q")[1:], np=ranks)
    assert not result.stdout and not result.stderr, result


@pytest.mark.parametrize("ranks", [None, 2])
def test_json_report_parses_and_equals_the_file(work, ranks):
    result = support.search(search_line(work, "--json")[1:], np=ranks)
    assert json.loads(result.stdout) == json.loads((work / "out.h5.report.json").read_text())


def test_report_ends_with_result_ok(work):
    result = support.search(search_line(work)[1:], np=2)
    assert result.stdout.splitlines()[-1] == "RESULT OK", result
    assert (work / "out.h5.report.html").read_text().startswith("<!DOCTYPE html>")


def test_without_report_only_the_result_is_left(work):
    support.search(search_line(work, "--report=false")[1:])
    assert sorted(path.name for path in work.iterdir()) == ["out.h5", "v.h5"]


@pytest.mark.parametrize("ranks", [None, 2])
def test_progress_on_a_terminal_is_a_bar_also_behind_mpirun(work, ranks):
    watched, terminal = pty.openpty()
    process = support.start(search_line(work), np=ranks, stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal)
    os.close(terminal)
    shown = b""
    with contextlib.suppress(OSError):  # the terminal's end, once its last writer is gone
        while part := os.read(watched, 4096):
            shown += part
    os.close(watched)
    assert process.wait(timeout=60) == 0
    assert re.search(rb"\r\[=+\] 100.0 %  \d+ queries/s  ETA 0:00", shown), shown.decode()


def test_progress_that_nobody_watches_is_no_bar(work):
    result = support.search(search_line(work)[1:])
    assert "\r" not in result.stderr and "\x1b" not in result.stderr


# --- the other commands

@pytest.mark.parametrize("name, arguments", [("version", []), ("doctor", []),
                                             ("plan", ["--rows", "1M", "--dim", 64, "--queries", "1k", "--device",
                                                       "h200"])])
def test_json_parses(command, name, arguments):
    result = support.run([command(name), *arguments, "--json"])
    assert result.code == 0, result
    assert isinstance(json.loads(result.stdout), dict)


def test_version_as_a_flag_is_the_command(command):
    assert support.run(["--version"]).stdout == support.run([command("version")]).stdout != ""


def test_info_prints_and_parses(command, work):
    said = support.run([command("info"), work / "v.h5"])
    assert said.code == 0 and f"{ROWS} x {DIM} f32" in said.stdout and "/test" in said.stdout, said
    parsed = json.loads(support.run(["info", work / "v.h5", "--json", "--stats"]).stdout)
    assert "train" in json.dumps(parsed)


def test_doctor_looks_at_all_ranks(command, tmp_path):
    result = support.run([command("doctor"), "--path", tmp_path, "--json"], np=2)
    report = json.loads(result.stdout)
    assert result.code == 0 and report["n_ranks"] == 2, result
    assert {check["level"] for check in report["checks"]} <= {"OK", "WARN"}, report
    assert not list(tmp_path.iterdir())


def test_plan_of_the_milvus_example(command):
    line = [command("plan"), "--rows", "30M", "--dim", 1024, "--dtype", "f32", "--queries", "10k", "-k", 10]
    one = support.run([*line, "--device", "h200"])
    assert one.code == 0 and "114.4 GiB" in one.stdout and re.search(r"ranks?: ?1\b", one.stdout), one
    many = support.run([*line, "--device", "cpu", "--memory", "20GiB", "--flops", "500GFLOP/s", "--isa", "portable", "--json"])
    assert many.code == 0, many
    planned = json.loads(many.stdout)
    assert '"ranks": 6' in json.dumps(planned) or '"n_ranks": 6' in json.dumps(planned), planned


def test_plan_prints_a_job_script(command, tmp_path):
    result = support.run([command("plan"), "--rows", "30M", "--dim", 1024, "--queries", "10k", "--memory", "200GiB",
                          "--flops", "2TFLOP/s", "--sbatch"])
    assert result.code == 0 and result.stdout.startswith("#!"), result
    script = tmp_path / "job.sbatch"
    script.write_text(result.stdout)
    subprocess.run(["bash", "-n", script], check=True)
    assert "#SBATCH --signal=" in result.stdout and "#SBATCH --requeue" in result.stdout


def test_plan_prints_no_job_script_that_this_program_cannot_carry_out(command):
    line = [command("plan"), "--rows", "30M", "--dim", 1024, "--queries", "10k", "--device", "h200", "--sbatch"]
    result = support.run(line)
    if "/cuda" in support.run([command("doctor")]).stdout:
        assert result.code == 0 and "--gpus-per-task=1" in result.stdout and "--engine cuda" in result.stdout, result
    else:
        assert_says(result, UNAVAILABLE, "--device cpu")


def test_bench_has_one_row_for_each_shape(command):
    line = [command("bench"), "kernels", "--rows", "1000,2000", "--dim", 16, "--queries", 20, "-k", 5,
            "--repetitions", 1, "--json"]
    rows = [json.loads(row) for row in support.run(line).stdout.splitlines()]
    assert len(rows) == 2
    merges = support.run(["bench", "merge", "--queries", 50, "-k", 5, "--repetitions", 1, "--json"], np=2)
    assert merges.code == 0, merges
    assert len([json.loads(row) for row in merges.stdout.splitlines()]) >= 4


@pytest.mark.parametrize("name, arguments", [("doctor", ["--nonsense"]), ("bench", ["nonsense"]),
                                             ("bench", ["kernels", "--rows", "0"])])
def test_commands_on_several_ranks_complain_once(command, name, arguments):
    result = support.run([command(name), *arguments], np=2)
    assert result.code == USAGE and len(support.complaints(result)) == 1, result


def test_search_then_eval_by_the_oracle(command, work):
    support.search(search_line(work, "-k", 5)[1:], np=2)
    judged = support.run([command("eval"), work / "out.h5", "--oracle", "all"])
    assert judged.code == 0 and judged.stdout.rstrip().endswith("RESULT OK"), judged


def test_convert_and_search_give_the_same_bytes(command, work):
    for data_set in ("train", "test"):
        done = support.run([command("convert"), f"{work}/v.h5:/{data_set}", work / f"{data_set}.fbin"])
        assert done.code == 0, done
    support.search(search_line(work)[1:])
    support.search(["--base", work / "train.fbin", "--queries", work / "test.fbin", "-o", work / "other.h5"])
    assert support.payload(work / "out.h5") == support.payload(work / "other.h5")

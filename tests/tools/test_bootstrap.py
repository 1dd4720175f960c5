"""The tools themselves, cheaply: what they do when there is nothing to do, and that the gates can fail."""
import os
import pathlib
import re
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]


def run(*command: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, **options)


def test_bootstrap_is_quick_when_all_is_there():
    first = run("tools/bootstrap", "test")
    assert first.returncode == 0, first.stderr
    start = time.monotonic()
    again = run("tools/bootstrap", "test")
    took = time.monotonic() - start
    assert again.stdout == "bootstrap test: nothing to do\n"
    assert took < 30  # 0.1 s alone; the machine may be busy


def test_bootstrap_sees_a_changed_list(tmp_path):
    """Another list of Python packages is noticed: the stamp holds the list's digest."""
    script = (ROOT / "tools/bootstrap").read_text()
    assert 'cd "$(dirname "$0")/.."' in script
    (tmp_path / "tools").mkdir()
    for folder in ("packages", "requirements"):
        (tmp_path / "tools" / folder).symlink_to(ROOT / "tools" / folder)
    (tmp_path / ".deps").mkdir()
    (tmp_path / ".deps/stamp-venv").write_text("of another list\n")
    # Everything up to the command line's own part, then only the question what there is to do.
    functions = script.split("\n[ $# -gt 0 ]")[0].replace('cd "$(dirname "$0")/.."', f"cd '{tmp_path}'")
    done = run("bash", "-c", functions + "\ntodo_of test\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-2:] == ["runtime", "venv"]


def test_bootstrap_refuses_what_it_does_not_know():
    done = run("tools/bootstrap", "everything")
    assert done.returncode == 2 and "usage" in done.stderr


def test_each_gate_finds_its_plant():
    done = run("tools/gates/selftest")
    assert done.returncode == 0, done.stdout
    lines = re.findall(r"^selftest (\w+): (ok|skipped)", done.stdout, re.M)
    assert {name for name, _ in lines} == {"include", "size", "format", "banned", "text", "licences"}


def counts_of(tmp_path: pathlib.Path, step: str, rc: int, log: str) -> str:
    """What tools/test reads out of a step's log: "passed failed skipped"."""
    script = (ROOT / "tools/test").read_text()
    functions = re.search(r"^count_lines.*?^# ---- running", script, re.M | re.S).group()
    path = tmp_path / "log"
    path.write_text(log)
    done = run("bash", "-uc", f'{functions}\ncounts_of "$@"', "-", step, str(rc), str(path),
               env={**os.environ, "LC_ALL": "C"})
    assert done.stderr == ""
    return done.stdout.strip()


CTEST = """      Start  1: unit_base_test_buf
 1/4 Test  #1: unit_base_test_buf ...............   Passed    0.01 sec
 2/4 Test #12: unit_base_test_json ..............***Failed    0.02 sec
 3/4 Test  #3: unit_net_test_tls ................***Skipped   0.00 sec
 4/4 Test  #4: sim_test_fleet ...................***Timeout 120.00 sec
"""


def test_counts_are_read_from_the_logs(tmp_path):
    assert counts_of(tmp_path, "asan", 8, CTEST) == "1 2 1"
    assert counts_of(tmp_path, "asan", 1, "error: no such header\nbuild: failed\n") == "0 1 0"
    assert counts_of(tmp_path, "asan", 124, CTEST.splitlines()[1] + "\n") == "1 1 0"
    assert counts_of(tmp_path, "release", 0, "build: ok\n") == "1 0 0"
    assert counts_of(tmp_path, "python", 1, "==== 1 failed, 12 passed, 3 skipped in 2.00s ====\n") == "12 1 3"
    assert counts_of(tmp_path, "python", 1, "==== 2 passed, 1 error in 0.10s ====\n") == "2 1 0"
    assert counts_of(tmp_path, "python", 137, "tests/e2e/test_a.py ..\n") == "0 1 0"
    assert counts_of(tmp_path, "gates", 1, "gate size: ok\ngate text: failed, 1 found\nselftest size: ok\n") == "2 1 0"

"""The planner against HiGHS, and the command line of `s2m3 plan` from outside.

The MILP (tests/golden/plan/milp.py) takes its costs from an evaluator of its own, so an error would have
to be made twice to go unnoticed.
"""
from __future__ import annotations

import json
import math
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "golden" / "plan"))
import evaluator  # noqa: E402

BINARY = os.environ.get("S2M3", str(ROOT / "build" / "s2m3"))
INSTANCES = 50


def plan(instance: Any, *options: str, code: int = 0) -> dict[str, Any]:
    text = instance if isinstance(instance, str) else json.dumps(instance)
    done = subprocess.run([BINARY, "plan", "--instance", "/dev/stdin", "--json", *options], input=text,
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("seed", range(INSTANCES))
def test_exact_is_the_optimum_of_the_milp(seed: int) -> None:
    milp = pytest.importorskip("milp", reason="highspy is not installed")
    instance = evaluator.random_instance(random.Random(1000 + seed), "latency", modules=9, devices=4)
    best = milp.solve(instance)
    if math.isinf(best):
        assert plan(instance, "--method", "exact", code=1)["error"]["code"] == "nofit"
        return
    answer = plan(instance, "--method", "exact")
    assert answer["certified"]
    assert answer["value"] == pytest.approx(best, rel=1e-6)  # HiGHS' own tolerance
    assert evaluator.value(instance, answer["placement"]) == pytest.approx(answer["value"], rel=1e-9)


@pytest.mark.parametrize("objective", ["latency", "burst", "load"])
@pytest.mark.parametrize("replicas", [False, True])
def test_values_are_those_of_the_other_evaluator(objective: str, replicas: bool) -> None:
    for seed in range(25):
        instance = evaluator.random_instance(random.Random(seed), objective, modules=5, devices=3, replicas=replicas)
        done = subprocess.run([BINARY, "plan", "--instance", "/dev/stdin", "--json", "--method", "local"],
                              input=json.dumps(instance), capture_output=True, text=True, timeout=60, check=False)
        answer = json.loads(done.stdout)
        if done.returncode == 0:
            assert evaluator.value(instance, answer["placement"]) == pytest.approx(answer["value"], rel=1e-9)
            assert sum(q.get("weight", 1) * r["latency_ms"] for q, r in zip(instance["requests"], answer["requests"])) == \
                pytest.approx(answer["value"], rel=1e-9)


def test_exact_with_replicas_is_the_best_of_all_sets() -> None:
    for seed in range(24):
        objective = ("latency", "burst", "load")[seed % 3]
        instance = evaluator.random_instance(random.Random(seed), objective, modules=3, devices=3, replicas=True)
        best = evaluator.best(instance)
        if math.isinf(best):
            assert plan(instance, "--method", "exact", code=1)["error"]["code"] == "nofit"
        else:
            assert plan(instance, "--method", "exact")["value"] == pytest.approx(best, rel=1e-9)


GOOD = {"devices": [{"name": "a", "memory_bytes": 10}], "modules": [{"name": "v", "memory_bytes": 5, "run_ms": {"a": 2}}],
        "models": [{"name": "m", "encoders": ["v"]}], "requests": [{"model": "m", "source": "a"}]}


def test_errors_say_code_and_place() -> None:
    assert plan(GOOD)["value"] == 2
    assert "colour" in plan({**GOOD, "colour": 1}, code=1)["error"]["message"]
    assert plan("{", code=1)["error"]["code"] == "badinstance"
    short = {**GOOD, "devices": [{"name": "a", "memory_bytes": 3}]}
    error = plan(short, code=1)["error"]
    assert error["code"] == "nofit" and "'v'" in error["message"] and "2 bytes short" in error["message"]
    assert plan(short, "--method", "greedy-fastest", code=1)["error"]["code"] == "notfound"


def test_usage_errors_are_two() -> None:
    for options in ([], ["--instance"], ["--instance", "x", "--method", "magic"], ["--instance", "x", "--seed", "-1"], ["x"]):
        done = subprocess.run([BINARY, "plan", *options], capture_output=True, text=True, timeout=10, check=False)
        assert done.returncode == 2 and "usage" in done.stderr, options


def test_same_input_same_plan() -> None:
    instance = evaluator.random_instance(random.Random(3), "burst", modules=7, devices=4, replicas=True)
    options = ("--method", "local", "--seed", "9", "--limit-evals", "2000", "--explain")
    one, two = plan(instance, *options), plan(instance, *options)
    one.pop("elapsed_ms"), two.pop("elapsed_ms")
    assert one == two


def test_completion_offers_every_option() -> None:
    def text(*words: str) -> str:
        return subprocess.run([BINARY, *words], capture_output=True, text=True, timeout=10, check=True).stdout

    row = next(line for line in text("completion").splitlines() if line.strip().startswith("plan)"))
    assert set(re.findall(r"--[a-z-]+", row)) == set(re.findall(r"^ +(--[a-z-]+)", text("plan", "--help"), re.M)) | {"--help"}


def test_long_names_are_cut_between_characters() -> None:
    for name in ("x" + "é" * 120, "xx" + "日本" * 50):
        error = plan({**GOOD, "modules": [{"name": name, "memory_bytes": -1}]}, code=1)["error"]
        assert name[:15] in error["message"] and "memory_bytes" in error["message"]


def test_people_see_memory_times_and_paths() -> None:
    done = subprocess.run([BINARY, "plan", "--instance", "/dev/stdin", "--explain"], input=json.dumps(GOOD), capture_output=True, text=True,
                          timeout=10, check=True)
    assert "latency: 2 ms" in done.stdout and "proven" in done.stdout
    assert "m: a -> v on a (ran 2 ms) -> answer" in done.stdout and "USED MB" in done.stdout


def test_what_if_shows_both() -> None:
    wish = {**GOOD, "default_link": {"latency_ms": 0.1, "mbit": 1000}}
    both = plan(wish, "--what-if", "add-device name=b memory=1K like=a")
    assert both["before"]["value"] == both["after"]["value"] == 2
    assert both["what_if"]["headroom_bytes"] == {"before": 5, "after": 1029}
    assert plan(wish, "--what-if", "remove-device a", code=1)["error"]["code"] == "badinstance"


def test_roi(tmp_path: Path) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text("months: 10\npower_per_kwh: 0.5\nrequests_per_month: 1000\ndevices: [{name: a, price: 100, watts: 20}]\n"
                      "cloud: {price_per_request: 0.05, gflops: 1, latency_ms: 10, mbit: 8}\n")
    instance = {**GOOD, "modules": [{"name": "v", "memory_bytes": 5, "gflop": 0.001, "run_ms": {"a": 2}}]}
    roi = plan(instance, "--roi", str(prices))["roi"]
    power = 0.020 * 730.5 * 0.5
    assert roi["edge"]["cost_per_month"] == pytest.approx(10 + power)
    assert roi["cloud"]["cost_per_month"] == pytest.approx(50)
    assert roi["cloud"]["value_ms"] == pytest.approx(10 + 1 + 10)
    assert roi["break_even_months"] == pytest.approx(100 / (50 - power))
    prices.write_text("devices: []\n")
    assert "power_per_kwh" in plan(instance, "--roi", str(prices), code=1)["error"]["message"]

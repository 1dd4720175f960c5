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


METHODS = ("exact", "auto", "local", "best-greedy", "greedy-fastest", "greedy-earliest")


def check_answer(instance: evaluator.Instance, answer: dict[str, Any], best: float) -> None:
    """Everything in an answer, routes and rounding included, from its placement alone."""
    f = evaluator.Fleet(instance)
    placement = answer["placement"]
    assert list(placement) and set(placement) == set(f.modules)
    found = evaluator.routed(f, placement)
    assert found is not None and len(found) == len(answer["requests"])
    for q, (t, route), mine in zip(instance.get("requests", []), found, answer["requests"]):
        assert (mine["model"], mine["source"], mine["route"]) == (q["model"], q["source"], route)
        assert mine["latency_ms"] == pytest.approx(t, rel=1e-9)
    assert answer["value"] == pytest.approx(evaluator.value(instance, placement, f), rel=1e-9)
    assert answer["device_memory_bytes"] == {d: sum(f.modules[m]["memory_bytes"] for m, at in placement.items() if d in at) for d in f.devices}
    assert answer["value"] >= best * (1 - 1e-9)
    assert answer["bound"] is None or answer["bound"] <= best * (1 + 1e-9)
    assert not answer["certified"] or answer["value"] == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize("replicas", [False, True])
@pytest.mark.parametrize("objective", ["latency", "burst", "load"])
def test_every_method_on_sparse_instances(objective: str, replicas: bool) -> None:
    for seed in range(300 if os.environ.get("S2M3_FULL") else 5):
        rng = random.Random(f"{objective} {replicas} {seed}")
        instance = evaluator.sparse(rng, evaluator.random_instance(rng, objective, modules=3 if replicas else 4, devices=3, replicas=replicas))
        best = evaluator.best(instance)
        f = evaluator.Fleet(instance)
        for method in METHODS:
            done = subprocess.run([BINARY, "plan", "--instance", "/dev/stdin", "--json", "--method", method, "--limit-ms", "60000"], input=json.dumps(instance),
                                  capture_output=True, text=True, timeout=60, check=False)
            answer = json.loads(done.stdout)
            greedy = evaluator.baseline(f, method) if method.startswith("greedy") else None
            if "error" in answer:
                assert done.returncode == 1 and answer["error"]["message"]
                assert answer["error"]["code"] == "notfound" or math.isinf(best)
                assert method not in ("exact", "auto") or answer["error"]["code"] == "nofit"
                assert greedy is None or math.isinf(evaluator.value(instance, greedy))
                continue
            check_answer(instance, answer, best)
            assert method != "exact" or answer["certified"]
            assert not method.startswith("greedy") or answer["placement"] == greedy


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


def changed(path: list[Any], value: Any) -> str:
    o: Any = json.loads(json.dumps(FULL))
    at = o
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return json.dumps(o)


FULL: dict[str, Any] = {
    "devices": [{"name": "a", "memory_bytes": 10, "gflops": 1.0}, {"name": "b", "memory_bytes": 10, "gflops": 2.0}],
    "links": [{"a": "a", "b": "b", "latency_ms": 1, "mbit": 10}],
    "modules": [{"name": "v", "memory_bytes": 5, "gflop": 1}, {"name": "t", "memory_bytes": 2, "run_ms": {"a": 1, "b": None}}],
    "models": [{"name": "m", "calls": [{"id": "x", "module": "v", "from": ["source"]}, {"id": "y", "module": "t", "from": ["x"]}]},
               {"name": "n", "encoders": ["v"], "head": "t"}],
    "requests": [{"model": "m", "source": "a", "input_bytes": {"x": 3}, "runs": {"y": 2}}]}

# path, bad value, what the message has to name
BAD: list[tuple[list[Any], Any, str]] = [
    (["devices"], [], "devices"), (["modules"], None, "modules"), (["models"], {}, "models"), (["links"], [1], "links"), (["objective"], "fast", "objective"),
    (["replicas"], 1, "replicas"), (["default_link"], {"latency_ms": 1}, "mbit"), (["default_link"], {"latency_ms": -1, "mbit": 1}, "latency_ms"),
    (["devices", 0, "memory_bytes"], 2**53 + 2, "memory_bytes"), (["devices", 0, "memory_bytes"], 1.5, "whole"), (["devices", 0, "lanes"], 1025, "lanes"),
    (["devices", 0, "lanes"], True, "lanes"), (["devices", 0, "gflops"], 0, "gflops"), (["devices", 1, "name"], "a", "'a'"), (["devices", 0, "colour"], 1, "colour"),
    (["links", 0, "b"], "a", "'a'"), (["links", 0, "mbit"], "fast", "mbit"), (["links"], FULL["links"] + [{"a": "b", "b": "a", "latency_ms": 1, "mbit": 1}], "links[1]"),
    (["modules", 0, "output_bytes"], -1, "output_bytes"), (["modules", 1, "run_ms"], {"z": 1}, "'z'"), (["modules", 1, "run_ms"], {"a": 0}, "run_ms of 'a'"),
    (["models", 0, "encoders"], ["v"], "both"), (["models", 1, "encoders"], ["v", "v"], "'v'"), (["models", 0, "calls"], [], "'m'"),
    (["models", 0, "calls", 0, "from"], ["y"], "'y'"), (["models", 0, "calls", 1, "from"], ["source"], "'x'"), (["models", 0, "calls", 1, "from"], ["x", "x"], "'x'"),
    (["models", 0, "calls", 1, "id"], "x", "'x'"), (["requests", 0, "model"], "z", "'z'"), (["requests", 0, "weight"], -1, "weight"),
    (["requests", 0, "input_bytes"], {"z": 1}, "'z'"), (["requests", 0, "runs"], {"y": 0}, "runs of 'y'"), (["requests", 0, "runs"], {"y": 1.5}, "runs of 'y'")]


def test_bad_instances_are_refused() -> None:
    texts = [(changed(path, value), names) for path, value, names in BAD]
    text = json.dumps(FULL)
    texts += [("", "JSON"), ("[]", "object"), (text[:-1], "JSON"), (text + "x", "JSON"), (text.replace('"gflop": 1', '"gflop": NaN'), "JSON"),
              (text.replace('"gflop": 1', '"gflop": 1e999'), "JSON"), ("[" * 100000, "JSON")]
    assert plan(text, "--method", "exact")["certified"]
    for bad, names in texts:
        done = subprocess.run([BINARY, "plan", "--instance", "/dev/stdin", "--json"], input=bad, capture_output=True, text=True, timeout=60, check=False)
        error = json.loads(done.stdout)["error"]
        assert (done.returncode, done.stderr, error["code"]) == (1, "", "badinstance"), bad[:300]
        assert names in error["message"], (names, error["message"])


def test_usage_errors_are_two() -> None:
    for options in (["--instance"], ["--instance", "x", "--method", "magic"], ["--instance", "x", "--seed", "-1"], ["x"]):
        done = subprocess.run([BINARY, "plan", *options], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 2 and "usage" in done.stderr, options


def test_names_and_numbers_are_said_as_they_stand() -> None:
    for options in ((), ("--json",)):
        done = subprocess.run([BINARY, "plan", "--instance", "/dev/stdin", *options], input=json.dumps({**GOOD, "a\n\x1b[31m": 1}), capture_output=True, text=True,
                              timeout=60, check=False)
        text = done.stderr if not options else json.loads(done.stdout)["error"]["message"]
        assert done.returncode == 1 and "'a??[31m'" in text and "\x1b" not in text
    assert str(2**53 + 1) in plan({**GOOD, "devices": [{"name": "a", "memory_bytes": 2**53 + 1}]}, code=1)["error"]["message"]
    assert "no request of a model 'z'" in plan(GOOD, "--what-if", "rate model=z x2", code=1)["error"]["message"]
    assert "rate_per_s" in plan(GOOD, "--what-if", "rate model=m x2", code=1)["error"]["message"]
    rated = {**GOOD, "requests": [{**q, "rate_per_s": 0.1} for q in GOOD["requests"]]}
    assert "'latency' does not depend on rates" in plan(rated, "--what-if", "rate model=m x2")["what_if"]["note"]
    assert "note" not in plan({**rated, "objective": "load"}, "--what-if", "rate model=m x2")["what_if"]
    done = subprocess.run([BINARY, "plan", "--instance", "/dev/null", "--unpin", "v"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "--unpin" in done.stderr


@pytest.mark.parametrize("objective", ["latency", "burst", "load"])
def test_a_sum_beyond_the_largest_number_is_that_number(objective: str) -> None:
    wish = {**GOOD, "objective": objective, "requests": [{"model": "m", "source": "a", "weight": 1e308}, {"model": "m", "source": "a", "weight": 1e308}]}
    for method in METHODS:
        answer = plan(wish, "--method", method)
        assert answer["value"] == sys.float_info.max and answer["placement"] == {"v": ["a"]}


def test_the_last_byte_of_the_largest_device_counts() -> None:
    wish = {**GOOD, "devices": [{"name": "a", "memory_bytes": 2**53}], "modules": [{"name": "v", "memory_bytes": 2**53 - 1, "run_ms": {"a": 1}},
                                                                                  {"name": "w", "memory_bytes": 1, "run_ms": {"a": 1}}]}
    two = {**wish, "modules": [{**wish["modules"][0], "memory_bytes": 2**53}, wish["modules"][1]]}
    for method in METHODS:
        assert plan(wish, "--method", method)["device_memory_bytes"] == {"a": 2**53}
        assert plan(two, "--method", method, code=1)["error"]["code"] == ("notfound" if method.startswith("greedy") else "nofit")


def test_nofit_says_what_would_help() -> None:
    """Each change that is offered makes room, and as many bytes as are said are asked for."""
    offered = 0
    for seed in range(40):
        instance = evaluator.random_instance(random.Random(seed), "latency", modules=6, devices=3)
        for d in instance["devices"]:
            d["memory_bytes"] = int(d["memory_bytes"] * 0.4)
        done = subprocess.run([BINARY, "plan", "--instance", "/dev/stdin", "--json"], input=json.dumps(instance), capture_output=True, text=True, timeout=60, check=False)
        message = json.loads(done.stdout).get("error", {}).get("message", "")
        more, less = re.search(r"with (\d+) bytes more on '(.+?)'", message), re.search(r"without the model '(.+?)'", message)
        if more:
            wish = json.loads(json.dumps(instance))
            next(d for d in wish["devices"] if d["name"] == more[2])["memory_bytes"] += int(more[1])
            assert_room(wish)
        if less:
            gone = next(m for m in instance["models"] if m["name"] == less[1])
            kept = [m for m in instance["models"] if m is not gone]
            unused = modules_of(gone).difference(*(modules_of(m) for m in kept))
            assert_room({**instance, "models": kept, "modules": [m for m in instance["modules"] if m["name"] not in unused],
                         "requests": [q for q in instance["requests"] if q["model"] != less[1]]})
        offered += bool(more) + bool(less)
    assert offered > 20
    short = {**GOOD, "devices": [{"name": "a", "memory_bytes": 8}], "modules": [{"name": n, "memory_bytes": 5, "run_ms": {"a": 1}} for n in "vw"],
             "models": [{"name": "m", "encoders": ["v"]}, {"name": "n", "encoders": ["v", "w"]}]}
    assert plan(short, code=1)["error"]["message"].endswith("there would be room with 2 bytes more on 'a', or without the model 'n'")


def test_redundancy_packs_where_memory_allows() -> None:
    """b has room for v and t together only if s is not there: taking the smallest first would put it there."""
    sizes = {"v": 6, "t": 5, "s": 4}
    tight = {"devices": [{"name": "a", "memory_bytes": 15}, {"name": "b", "memory_bytes": 11}, {"name": "c", "memory_bytes": 4}],
             "default_link": {"latency_ms": 1, "mbit": 100}, "modules": [{"name": n, "memory_bytes": b, "run_ms": {"a": 1, "b": 2, "c": 9}} for n, b in sizes.items()],
             "models": [{"name": "m", "encoders": ["v", "t"], "head": "s"}], "requests": [{"model": "m", "source": "a"}]}
    for change, short in ({}, 0), ({"c": 3}, 1), ({"b": 10, "a": 16}, 1):
        for d in tight["devices"]:
            d["memory_bytes"] = change.get(d["name"], d["memory_bytes"])
        answer = plan(tight, "--redundancy", "1")
        assert [n for n in sizes if len(answer["placement"][n]) < 2] == answer["unprotected"] and len(answer["unprotected"]) == short, (change, answer)
        assert all(used <= d["memory_bytes"] for used, d in zip(answer["device_memory_bytes"].values(), tight["devices"]))


def modules_of(model: dict[str, Any]) -> set[str]:
    return {c["module"] for c in model.get("calls", [])} | set(model.get("encoders", [])) | ({model["head"]} if model.get("head") else set())


def assert_room(instance: dict[str, Any]) -> None:
    done = subprocess.run([BINARY, "plan", "--instance", "/dev/stdin", "--json"], input=json.dumps(instance), capture_output=True, text=True, timeout=60, check=False)
    assert " short" not in json.loads(done.stdout).get("error", {}).get("message", ""), done.stdout


def test_what_is_proven_was_not_stopped() -> None:
    for seed in range(12):
        instance = evaluator.random_instance(random.Random(seed), "latency", modules=6, devices=3)
        for limit in (1, 2, 5, 20):
            done = subprocess.run([BINARY, "plan", "--instance", "/dev/stdin", "--json", "--method", "exact", "--limit-evals", str(limit)], input=json.dumps(instance),
                                  capture_output=True, text=True, timeout=60, check=False)
            answer = json.loads(done.stdout)
            assert "error" in answer or answer["certified"] != ("stopped" in answer)


def test_a_limit_of_evaluations_holds_and_no_clock_strikes() -> None:
    for seed, objective in enumerate(("latency", "burst", "load") * 2):
        instance = evaluator.random_instance(random.Random(seed), objective, modules=12, devices=5)
        for method, limit in ((m, n) for m in ("auto", "exact", "local") for n in (1, 2, 300)):
            wish = ("--method", method, "--limit-evals", str(limit))
            done = [subprocess.run([BINARY, "plan", "--instance", "/dev/stdin", "--json", *wish], input=json.dumps(instance), capture_output=True, text=True,
                                   timeout=60, check=False) for _ in range(2)]
            one, two = ({k: v for k, v in json.loads(d.stdout).items() if k != "elapsed_ms"} for d in done)
            assert one == two and one.get("evaluations", 0) <= limit + 100, (wish, one)


def test_same_input_same_plan() -> None:
    instance = evaluator.random_instance(random.Random(3), "burst", modules=7, devices=4, replicas=True)
    options = ("--method", "local", "--seed", "9", "--limit-evals", "2000", "--explain")
    one, two = plan(instance, *options), plan(instance, *options)
    one.pop("elapsed_ms"), two.pop("elapsed_ms")
    assert one == two


def test_completion_offers_every_option() -> None:
    def text(*words: str) -> str:
        return subprocess.run([BINARY, *words], capture_output=True, text=True, timeout=60, check=True).stdout

    row = next(line for line in text("completion").splitlines() if line.strip().startswith("plan)"))
    assert set(re.findall(r"--[a-z-]+", row)) == set(re.findall(r"^ +(--[a-z-]+)", text("plan", "--help"), re.M)) | {"--help"}


def test_long_names_are_cut_between_characters() -> None:
    for name in ("x" + "é" * 120, "xx" + "日本" * 50):
        error = plan({**GOOD, "modules": [{"name": name, "memory_bytes": -1}]}, code=1)["error"]
        assert name[:15] in error["message"] and "memory_bytes" in error["message"]


def test_people_see_memory_times_and_paths() -> None:
    done = subprocess.run([BINARY, "plan", "--instance", "/dev/stdin", "--explain", "--method", "exact"], input=json.dumps(GOOD), capture_output=True, text=True,
                          timeout=60, check=True)
    assert "latency: 2 ms" in done.stdout and "proven" in done.stdout
    assert "m: a -> v on a (ran 2 ms) -> answer" in done.stdout and "USED MB" in done.stdout


def test_what_if_shows_both() -> None:
    wish = {**GOOD, "default_link": {"latency_ms": 0.1, "mbit": 1000}}
    both = plan(wish, "--what-if", "add-device name=b memory=1K like=a")
    assert both["before"]["value"] == both["after"]["value"] == 2
    assert both["what_if"]["headroom_bytes"] == {"before": 5, "after": 1029}
    assert plan(wish, "--what-if", "remove-device a", code=1)["error"]["code"] == "badinstance"
    assert both["what_if"]["moves"] == []
    moved = plan(wish, "--what-if", "add-device name=b memory=1K like=a", "--what-if", "remove-device a to=b")
    assert moved["what_if"]["moves"] == [{"module": "v", "before": ["a"], "after": ["b"]}]
    done = subprocess.run([BINARY, "plan", "--instance", "/dev/stdin", "--what-if", "add-device name=b memory=1K like=a", "--what-if", "remove-device a to=b"],
                          input=json.dumps(wish), capture_output=True, text=True, timeout=60, check=True)
    assert "BEFORE" in done.stdout and "what would move:\nv: a -> b\n" in done.stdout
    done = subprocess.run([BINARY, "plan", "--instance", "/dev/stdin", "--explain", "--what-if", "add-device name=b memory=1K like=a", "--what-if",
                           "remove-device a to=b"], input=json.dumps(wish), capture_output=True, text=True, timeout=60, check=True)
    assert "m: b -> v on b (ran 2 ms) -> answer" in done.stdout and "the only device" in done.stdout
    error = plan({**wish, "devices": [*wish["devices"], {"name": "b", "memory_bytes": 1}]}, "--what-if", "remove-device a to=b", code=1)["error"]
    assert error["code"] == "nofit" and error["message"].startswith("after the change: ")


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
    assert "'v' has no gflop" in plan(GOOD, "--roi", str(prices), code=1)["error"]["message"]
    text = prices.read_text()
    wish = ("--roi", str(prices), "--what-if", "add-device name=b memory=1K like=a")
    assert "'b'" in plan(instance, *wish, code=1)["error"]["message"]
    prices.write_text(text.replace("watts: 20}", "watts: 20}, {name: b, price: 50, watts: 0}"))
    assert plan(instance, *wish)["after"]["roi"]["edge"]["cost_per_month"] == pytest.approx(15 + power)
    for wrong, right in (("month:", "months:"), ("gflop:", "gflops:"), ("watt:", "watts:")):
        prices.write_text(text.replace(right, wrong))
        assert f"'{wrong[:-1]}'" in plan(instance, "--roi", str(prices), code=1)["error"]["message"]
    prices.write_text("devices: []\n")
    assert "power_per_kwh" in plan(instance, "--roi", str(prices), code=1)["error"]["message"]

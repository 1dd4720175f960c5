"""Modules move: a fast device comes and goes, one is drained, one is told where to be.  Nobody who asks notices."""
from __future__ import annotations

import json

from conftest import BINARY, Device, Fleet, ask, best, model_folders, run, until
from test_failures import Load, small_cases

CLIENTS = 4
FOLDERS = [f for f in model_folders() if f.name in ("garment-caption", "garment-vqa")]  # they share a tower
CASES = [c for c in small_cases() if c["model"] in {f.name for f in FOLDERS}]


def add_models(fleet: Fleet) -> None:
    """Until every gateway has the table with them: a push may be late on a busy machine."""
    fleet.add(*FOLDERS)
    for device in fleet.devices:
        for case in CASES:
            until(lambda: ask(device, case).status == 200, 30, f"{case['model']} at {device.name}")


def moves(fleet: Fleet) -> list[dict]:
    return fleet.get("/s2m3/v1/plan")["moves"]


def held(fleet: Fleet, name: str) -> list[str]:
    """Names of the modules that shall be on a device."""
    modules = fleet.get("/s2m3/v1/modules")["modules"]
    return [m["name"] for m in modules if any(d["device"] == name and d["desired"] for d in m["devices"])]


def serves(fleet: Fleet, name: str) -> bool:
    """All that shall be on the device is there."""
    modules = fleet.get("/s2m3/v1/modules")["modules"]
    rows = [d for m in modules for d in m["devices"] if d["device"] == name and d["desired"]]
    return bool(rows) and all(d["state"] == "ready" for d in rows)


def runs_on(fleet: Fleet, device: Device) -> int:
    modules = fleet.get("/s2m3/v1/devices")["devices"]
    return sum(len(d["modules"]) for d in modules if d["name"] == device.name)


def uses(device: Device, name: str) -> bool:
    return any(name in ask(device, case, fresh=True).headers["S2M3-Devices"] for case in CASES)


def assert_unnoticed(load: Load) -> None:
    assert load.wrong == 0 and not load.hung and not load.errors, (load.wrong, load.hung, load.errors)


def test_a_fast_device_comes_and_goes_under_load(fleet: Fleet) -> None:
    """Issue 5, must-show 7."""
    fleet.up("--emulate", "speed=0.1", name="slow-1")
    fleet.join("slow-2", "--emulate", "speed=0.1")
    add_models(fleet)
    load = Load(list(fleet.devices), CASES, CLIENTS)
    try:
        until(lambda: load.right > 30, 60, "answers")
        fast = fleet.join("fast")
        until(lambda: serves(fleet, "fast"), 60, "modules on the fast device")
        until(lambda: any("fast" in m["to"] and m["done_ms"] for m in moves(fleet)), 30, "a move to be noted")
        at = load.right
        until(lambda: load.right > at + 30, 60, "answers with the fast device")
        until(lambda: uses(fleet.devices[0], "fast"), 60, "requests to go to the fast device")
        assert "fast" in run(BINARY, "status", "--url", fleet.devices[0].public_url).stdout

        run(BINARY, "leave", "fast", "--url", fleet.devices[0].public_url)
        fleet.devices.remove(fast)
        assert fast.process.wait(60) == 0, fast.log()
        at = load.right
        until(lambda: load.right > at + 30, 60, "answers without the fast device")
    finally:
        load.end()
    assert_unnoticed(load)
    assert [d["name"] for d in fleet.get("/s2m3/v1/devices")["devices"]] == ["slow-1", "slow-2"]
    assert any("device fast leaves" in m["cause"] and "fast" in m["from"] for m in moves(fleet))
    assert not uses(fleet.devices[0], "fast")


def test_a_drained_device_holds_nothing_and_still_answers(fleet: Fleet) -> None:
    one = fleet.up(name="one")
    two = fleet.join("two", "--emulate", "speed=0.1")
    add_models(fleet)
    url = one.public_url
    load = Load([one, two], CASES, CLIENTS)
    try:
        until(lambda: load.right > 20, 60, "answers")
        run(BINARY, "drain", "one", "--url", url)
        assert held(fleet, "one") == [] and runs_on(fleet, one) == 0
        refused = run(BINARY, "drain", "two", "--url", url, code=1)  # nobody else is there
        assert "two" in refused.stderr, refused.stderr
        refused = run(BINARY, "leave", "one", "--url", url, code=1)
        assert "coordinator" in refused.stderr, refused.stderr
        at = load.right
        until(lambda: load.right > at + 20, 60, "answers by way of the drained device")
        run(BINARY, "drain", "one", "--off", "--url", url)
        until(lambda: serves(fleet, "one"), 60, "the faster device to be used again")
    finally:
        load.end()
    assert_unnoticed(load)


def test_a_pin_is_kept_to(fleet: Fleet) -> None:
    one = fleet.up(name="one")
    fleet.join("two", "--emulate", "speed=0.1")
    fleet.add(*FOLDERS)
    url = one.public_url
    body = fleet.get("/s2m3/v1/plan")
    times = {m["name"]: m["run_ms"]["one"] for m in body["instance"]["modules"]}
    module = max((name for name, where in body["placement"].items() if where == ["one"]), key=times.get)
    run(BINARY, "plan", "--url", url, "--pin", f"{module}=two", "--apply")
    assert fleet.get("/s2m3/v1/plan")["placement"][module] == ["two"]
    assert fleet.get("/s2m3/v1/plan")["pins"] == {module: ["two"]}
    until(lambda: fleet.settled(), 60, "the move")
    for case in CASES:
        answer = ask(one, case, fresh=True)
        assert answer.status == 200 and best(answer.json()) == case["reference"], answer.body
    refused = run(BINARY, "plan", "--url", url, "--pin", f"{module}=three", "--apply", code=1)
    assert "three" in refused.stderr
    assert fleet.get("/s2m3/v1/plan")["pins"] == {module: ["two"]}
    run(BINARY, "plan", "--url", url, "--unpin", module, "--apply")

    def back() -> bool:
        """What is hardly asked for may not pay for a move."""
        assert all(ask(one, case, fresh=True).status == 200 for case in CASES)
        return fleet.get("/s2m3/v1/plan")["placement"][module][0] == "one"

    until(back, 120, "the module to be where it is fast")


def test_the_plan_of_a_running_fleet(fleet: Fleet) -> None:
    one = fleet.up(name="one")
    fleet.join("two", "--emulate", "speed=0.2")
    fleet.add(*FOLDERS)
    for case in CASES:
        assert ask(one, case).status == 200
    shown = run(BINARY, "plan", "--url", one.public_url, "--explain").stdout
    assert "load: " in shown and "one" in shown, shown
    until(lambda: json.loads(run(BINARY, "plan", "--url", one.public_url, "--json").stdout)["placement"] ==
          fleet.get("/s2m3/v1/plan")["placement"], 60, "one placement in both")
    changed = json.loads(run(BINARY, "plan", "--url", one.public_url, "--json", "--what-if",
                             "add-device name=nuc2 memory=8G like=one mbit=940").stdout)
    what = changed["what_if"]
    assert what["headroom_bytes"]["after"] > what["headroom_bytes"]["before"]
    assert what["tasks"] and all(t["after_ms"] <= t["before_ms"] * 1.5 for t in what["tasks"])
    slower = json.loads(run(BINARY, "plan", "--url", one.public_url, "--json", "--what-if", "remove-device two",
                            "--what-if", "rate model=garment-caption x5").stdout)["what_if"]
    assert slower["headroom_bytes"]["after"] < slower["headroom_bytes"]["before"]
    run(BINARY, "plan", "--url", one.public_url, "--what-if", "remove-device nobody", code=1)


def test_what_a_fleet_can_not_bear_is_said(fleet: Fleet) -> None:
    """Answers from the cache count as asked for, so one slow device is soon asked for more than it could run."""
    one = fleet.up("--emulate", "speed=0.005", name="one")
    fleet.add(FOLDERS[0])
    picture = next(c for c in CASES if c["model"] == FOLDERS[0].name) | {"task": "feature-extraction"}
    calm = json.loads(run(BINARY, "plan", "--url", one.public_url, "--json").stdout)
    assert calm["objective"] == "load" and "overloaded" not in calm

    def asked() -> float:
        """Of the device's time; it falls to 2, which two devices bear, no sooner than in half a minute."""
        assert all(ask(one, picture).status == 200 for _ in range(50))
        body = fleet.get("/s2m3/v1/plan")
        encoder, = (m for m in body["instance"]["modules"] if m["name"].startswith("image_encoder"))
        return sum(r["per_s"] for r in body["rates"]) * encoder["run_ms"]["one"] / 1000

    until(lambda: asked() > 6, 120, "more to be asked for than the device bears")
    assert "overloaded:" in run(BINARY, "plan", "--url", one.public_url).stdout
    plan = json.loads(run(BINARY, "plan", "--url", one.public_url, "--json").stdout)
    assert plan["overloaded"] is True and plan["objective"] == "latency" and plan["method"] == "as-is"
    assert plan["placement"] == fleet.get("/s2m3/v1/plan")["placement"]
    assert all(r["latency_ms"] > 0 for r in plan["requests"])
    more = ("plan", "--url", one.public_url, "--what-if", "add-device name=two memory=1G like=one mbit=940")
    assert "overloaded:" in run(BINARY, *more).stdout
    assert json.loads(run(BINARY, *more, "--json").stdout)["what_if"]["overloaded"] is True

"""`up --redundancy 1`: one of three devices dies under load, and no request and no module is lost."""
from __future__ import annotations

import json

from conftest import BINARY, Fleet, run, until
from test_failures import Load
from test_moves import CASES, FOLDERS, assert_unnoticed

CLIENTS = 6


def places(fleet: Fleet) -> dict[str, list[str]]:
    return fleet.get("/s2m3/v1/plan")["placement"]


def spare(fleet: Fleet) -> bool:
    """Every module runs on two living devices."""
    modules = fleet.get("/s2m3/v1/modules")["modules"]
    return all(sum(d["alive"] and d["desired"] and d["state"] == "ready" for d in m["devices"]) >= 2 for m in modules)


def test_one_of_three_dies(fleet: Fleet) -> None:
    one = fleet.up("--redundancy", "1", name="one")
    two = fleet.join("two")
    three = fleet.join("three", "--memory", "4M")  # too small for most of what one and two hold
    fleet.add(*FOLDERS)
    until(lambda: spare(fleet), 60, "two places of each module")
    assert "not protected" not in run(BINARY, "plan", "--url", one.public_url).stdout
    load = Load([one, three], CASES, CLIENTS)
    try:
        until(lambda: load.right > 60, 60, "answers")
        before = places(fleet)
        assert all(len(where) >= 2 for where in before.values()), before
        two.kill()
        until(lambda: fleet.get("/s2m3/v1/status")["devices_alive"] == 2, 20, "the death to be noticed")
        at = load.right
        until(lambda: load.right > at + 60, 60, "answers without it")
    finally:
        load.end()
    assert_unnoticed(load)
    after = places(fleet)
    assert set(after) == set(before) and all(after.values()), after

    # What has no second place now is named.
    plan = json.loads(run(BINARY, "plan", "--url", one.public_url, "--json").stdout)
    alone = {name for name, where in plan["placement"].items() if len(where) == 1}
    assert set(plan["unprotected"]) == alone, plan
    encoder, = (name for name in alone if name.startswith("image_encoder "))
    shown = run(BINARY, "plan", "--url", one.public_url).stdout
    assert f"not protected, no room: {encoder} (1 place)" in shown, shown

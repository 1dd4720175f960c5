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


def lives(fleet: Fleet, name: str) -> bool:
    return next(d["alive"] for d in fleet.get("/s2m3/v1/devices")["devices"] if d["name"] == name)


def doubled(fleet: Fleet) -> bool:
    return all(len(where) >= 2 for where in places(fleet).values())


def says_what_is_alone(url: str) -> bool:
    """What has no second place is named.  Which modules these are, measured times decide, and they may move between
    the two answers; until the plan after a loss is made they are those that happen to be left alone."""
    plan = json.loads(run(BINARY, "plan", "--url", url, "--json").stdout)
    if plan.get("placing"):
        return False
    alone = {name for name, where in plan["placement"].items() if len(where) == 1}
    assert set(plan["unprotected"]) == alone, plan
    shown = run(BINARY, "plan", "--url", url).stdout
    return bool(alone) and all(f"not protected, no room: {name} (1 place)" in shown for name in alone)


def test_one_of_three_dies(fleet: Fleet) -> None:
    one = fleet.up("--redundancy", "1", name="one")
    two = fleet.join("two")
    three = fleet.join("three", "--memory", "4M")  # the four modules take 9 MB
    fleet.add(*FOLDERS)
    until(lambda: spare(fleet), 60, "two places of each module")
    until(lambda: "not protected" not in run(BINARY, "plan", "--url", one.public_url).stdout, 60, "all to be protected")
    load = Load([one, three], CASES, CLIENTS)
    try:
        until(lambda: load.right > 60, 60, "answers")
        until(lambda: doubled(fleet), 60, "two places under load")
        before = set(places(fleet))
        two.kill()
        until(lambda: not lives(fleet, "two"), 60, "the death to be noticed")
        at = load.right
        until(lambda: load.right > at + 60, 60, "answers without it")
    finally:
        load.end()
    assert_unnoticed(load)
    until(lambda: set(places(fleet)) == before and all(places(fleet).values()), 60, "a place of each module")
    until(lambda: says_what_is_alone(one.public_url), 60, "what is alone to be named")

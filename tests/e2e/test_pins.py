"""`--pin` of `up` and `add`: modules are where they were told to be, after a restart too, and what can't be is said."""
from __future__ import annotations

from conftest import BINARY, Fleet, ask, run, until
from test_moves import CASES, FOLDERS

FOLDER, CASE = FOLDERS[0], CASES[0]


def plan(fleet: Fleet) -> dict:
    return fleet.get("/s2m3/v1/plan")


def test_a_pin_of_up_waits_for_its_module_and_its_device(fleet: Fleet) -> None:
    one = fleet.up("--pin", "image_encoder=slow", "--pin", "nothing=slow", name="one")
    fleet.add(FOLDER)
    assert set(plan(fleet)["waiting_pins"]) == {"image_encoder", "nothing"}
    assert "pin that waits: image_encoder=slow" in run(BINARY, "plan", "--url", one.public_url).stdout
    fleet.join("slow", "--emulate", "speed=0.1")
    until(lambda: plan(fleet)["pins"], 60, "the pin to hold")
    module, = plan(fleet)["pins"]
    assert module.startswith("image_encoder ") and set(plan(fleet)["waiting_pins"]) == {"nothing"}
    until(lambda: plan(fleet)["placement"][module] == ["slow"], 60, "the move")
    until(fleet.settled, 60, "modules to be ready")
    assert ask(one, CASE).status == 200

    one.kill()  # it is in the state: not said again
    fleet.devices.remove(one)
    fleet.devices.insert(0, fleet.up("--listen", "127.0.0.1:0", "--peer-listen", one.peer_url[len("http://"):],
                                     name="one"))
    fleet.devices.pop()
    one = fleet.devices[0]
    assert set(plan(fleet)["waiting_pins"]) >= {"nothing"}
    until(lambda: plan(fleet)["pins"] == {module: ["slow"]}, 60, "the pin after a restart")
    assert plan(fleet)["placement"][module] == ["slow"]
    run(BINARY, "plan", "--url", one.public_url, "--unpin", "image_encoder", "--apply")
    assert plan(fleet)["pins"] == {} and plan(fleet)["decision"].startswith("unpinned: "), plan(fleet)["decision"]


def test_a_pin_of_add(fleet: Fleet) -> None:
    one = fleet.up(name="one")
    fleet.join("slow", "--emulate", "speed=0.1")
    add = (BINARY, "add", str(FOLDER), "--url", one.public_url)
    wrong = run(*add, "--pin", "image_encoder=three", code=1)
    assert "three" in wrong.stderr, wrong.stderr
    wrong = run(*add, "--pin", "tail=slow", code=1)
    assert "tail" in wrong.stderr and "image_encoder" in wrong.stderr, wrong.stderr
    assert "MODULE=DEVICE" in run(*add, "--pin", "image_encoder", code=2).stderr
    assert fleet.get("/s2m3/v1/models")["models"] == [] and plan(fleet)["pins"] == {}
    run(*add, "--pin", "image_encoder=slow")
    module, = plan(fleet)["pins"]
    assert plan(fleet)["placement"][module] == ["slow"]
    until(fleet.settled, 60, "modules to be ready")
    assert ask(one, CASE).status == 200

    # Of a model that shares the module: nothing of the pin stays when it can't be added.
    other = (BINARY, "add", str(FOLDERS[1]), "--url", one.public_url)
    run(*other, "--pin", f"{module.split()[1]}=one", "--pin", "tail=one", code=1)
    assert plan(fleet)["pins"] == {module: ["slow"]} and plan(fleet)["placement"][module] == ["slow"]
    run(*other, "--pin", f"{module.split()[1]}=one")
    assert plan(fleet)["pins"] == {module: ["one"]} and plan(fleet)["placement"][module] == ["one"]
    assert "MODULE=DEVICE" in run(BINARY, "up", "--pin", "=x", code=2).stderr

"""Whole models over a fleet: cut into modules that are found, cut further and made whole again while requests run,
and whole in the registry wherever the coordinator dies."""
from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Iterator

import onnx
import onnx.numpy_helper
import pytest

from conftest import ASAN, BINARY, HELD_OUT, MODELS, Device, Fleet, ask, best, call, cases, run, until

CLASS = "image-classification"
SEARCH = "zero-shot-image-classification"
VQA = "visual-question-answering"
STEPS = ["read", "written", "checked", "entered", "staged", "served", "committed"]
MERGE_STEPS = STEPS
if not os.environ.get("S2M3_FULL"):
    STEPS, MERGE_STEPS = STEPS[1::2] + STEPS[-1:], []


def rows_of(*tasks: str) -> list[dict]:
    return [c for c in cases() if c["task"] in tasks]


def folder_of(task: str) -> Path:
    return MODELS / rows_of(task)[0]["model"]


def modules_of(fleet: Fleet, name: str) -> list[str]:
    models = {m["name"]: m for m in fleet.get("/s2m3/v1/models")["models"]}
    return [m["digest"] for m in models[name]["modules"]] if name in models else []


class Load:
    """Clients that ask in a loop until the end, each answer beside the reference of the unsplit model."""

    def __init__(self, device: Device, rows: list[dict], clients: int) -> None:
        self.device, self.rows, self.faults, self.right = device, rows, [], 0
        self.stop, self.lock = threading.Event(), threading.Lock()
        self.threads = [threading.Thread(target=self._ask, args=(i,)) for i in range(clients)]
        for thread in self.threads:
            thread.start()

    def _ask(self, at: int) -> None:
        while not self.stop.is_set():
            case = self.rows[at % len(self.rows)]
            at += len(self.threads)
            answer = ask(self.device, case, fresh=True)
            right = answer.status == 200 and best(answer.json()) == case["reference"]
            with self.lock:
                self.right += right
                if not right:
                    self.faults.append((case["id"], answer.status, answer.body[:200]))

    def end(self) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive()
        assert not self.faults, self.faults[:3]


def test_models_come_and_go_under_load(fleet: Fleet) -> None:
    """A later model splits an earlier one further; the last one to go leaves it whole again."""
    fleet.up(name="one")
    second = fleet.join("two")
    name = folder_of(CLASS).name
    fleet.add(folder_of(CLASS))
    alone = modules_of(fleet, name)
    assert len(alone) == 1
    load = Load(second, rows_of(CLASS), 3)
    try:
        fleet.add(folder_of(SEARCH))
        apart = modules_of(fleet, name)
        assert len(apart) == 2 and not set(alone) & set(apart)
        assert set(apart) & set(modules_of(fleet, folder_of(SEARCH).name))
        other = Load(second, rows_of(SEARCH), 2)
        fleet.add(folder_of(VQA))
        run(BINARY, "remove", folder_of(VQA).name, "--url", fleet.devices[0].public_url)
        other.end()
        run(BINARY, "remove", folder_of(SEARCH).name, "--url", fleet.devices[0].public_url)
        assert modules_of(fleet, name) == alone
        seen = load.right
        until(lambda: load.right > seen + 20, 60, "answers of the model that is whole again")
    finally:
        load.end()
    assert [m["digest"] for m in fleet.get("/s2m3/v1/modules")["modules"]] == alone


def test_the_registry_is_whole_wherever_the_coordinator_dies(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """kill -9 at steps of an `add` that splits another model: before the commit all is as it was, after it all is
    done, and the devices answer all along."""
    coordinator = fleet.up("--no-node", "--peer-listen", "127.0.0.1:0", name="coordinator", binary=ASAN)
    address = coordinator.peer_url.removeprefix("http://")
    node = fleet.join("node")
    fleet.add(folder_of(CLASS))
    first, second = folder_of(CLASS).name, folder_of(SEARCH).name
    alone = modules_of(fleet, first)
    load = Load(node, rows_of(CLASS), 2)
    try:
        for at in STEPS:
            coordinator.stop()
            monkeypatch.setenv("S2M3_FAULT", at)
            coordinator = again(fleet, address)
            monkeypatch.delenv("S2M3_FAULT")
            done = subprocess.run([BINARY, "add", str(folder_of(SEARCH)), "--url", coordinator.public_url],
                                  capture_output=True, timeout=120)
            assert done.returncode == 1 and coordinator.process.wait(60) == -signal.SIGKILL, (at, done)
            coordinator = again(fleet, address)
            assert (modules_of(fleet, first) == alone) == (at != "committed"), at
            assert (modules_of(fleet, second) == []) == (at != "committed"), at
        until(lambda: fleet.settled(), 60, "modules")
        case = rows_of(SEARCH)[0]
        until(lambda: ask(node, case).status == 200, 20, "the table with the model")
        assert best(ask(node, case, fresh=True).json()) == case["reference"]
        for at in MERGE_STEPS:
            coordinator.stop()
            monkeypatch.setenv("S2M3_FAULT", at)
            coordinator = again(fleet, address)
            monkeypatch.delenv("S2M3_FAULT")
            until(lambda: fleet.settled(), 60, "modules")
            done = subprocess.run([BINARY, "remove", second, "--url", coordinator.public_url], capture_output=True, timeout=120)
            assert done.returncode == 1 and coordinator.process.wait(60) == -signal.SIGKILL, (at, done)
            coordinator = again(fleet, address)
            assert modules_of(fleet, second) == []  # gone; whether the other is whole again by now is another matter
            assert (modules_of(fleet, first) == alone) == (at == "committed"), at
            fleet.add(folder_of(SEARCH))
            assert modules_of(fleet, first) != alone and modules_of(fleet, second)
        run(BINARY, "remove", second, "--url", coordinator.public_url)
        assert modules_of(fleet, first) == alone
    finally:
        load.end()


def again(fleet: Fleet, address: str) -> Device:
    """The coordinator on its old address, with the device back."""
    fleet.devices.pop(0)
    made = fleet.up("--no-node", "--peer-listen", address, name="coordinator", binary=ASAN)
    fleet.devices.insert(0, fleet.devices.pop())
    until(lambda: fleet.get("/s2m3/v1/status")["devices_alive"] == 1, 20, "the device")
    return made


def test_an_added_model_is_known_to_every_gateway(fleet: Fleet) -> None:
    """As soon as `add` answers, whichever living gateway is asked first."""
    fleet.up("--no-node", "--peer-listen", "127.0.0.1:0", name="coordinator")
    for name in ("one", "two"):
        fleet.join(name)
    case = rows_of(CLASS)[0]
    for i in range(20):
        run(BINARY, "add", str(folder_of(CLASS)), "--name", f"copy-{i}", "--url", fleet.devices[0].public_url)
        with ThreadPoolExecutor(3) as pool:
            answers = list(pool.map(lambda d: ask(d, case | {"model": f"copy-{i}"}), fleet.devices))
        assert [a.status for a in answers] == [200] * 3, (i, [a.body for a in answers])


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One device with three whole models of one vision tower."""
    made = Fleet(tmp_path_factory.mktemp("family"))
    try:
        made.up()
        made.add(folder_of(CLASS), folder_of(SEARCH), folder_of(VQA))
        yield made
    finally:
        for device in made.devices:
            device.stop()


def tower_of(fleet: Fleet) -> str:
    shared = [set(modules_of(fleet, folder_of(task).name)) for task in (CLASS, SEARCH, VQA)]
    return (shared[0] & shared[1] & shared[2]).pop()


def test_a_shared_tower_runs_once(family: Fleet) -> None:
    """Several whole models, one picture, all at once and afterwards: the tower that they share runs once for it."""
    device, tower = family.devices[0], tower_of(family)

    def runs() -> int:
        module = next(m for m in family.get("/s2m3/v1/modules")["modules"] if m["digest"] == tower)
        return sum(d["runs"] for d in module["devices"])

    before = runs()
    rows = [rows_of(task)[0] for task in (CLASS, SEARCH, VQA)]
    picture = {"image": rows[0]["image"]}
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda case: ask(device, case | picture), rows * 4))
    answers += [ask(device, case | picture) for case in rows]
    assert all(a.status == 200 for a in answers)
    until(lambda: runs() > before, 20, "a heartbeat with the run")
    assert runs() == before + 1
    ask(device, rows[0] | {"image": rows_of(CLASS)[1]["image"]})
    until(lambda: runs() == before + 2, 20, "a run for another picture")


def test_another_answer_is_seen(family: Fleet) -> None:
    """The check itself sees what differs, and nothing where nothing does."""
    device, tower = family.devices[0], tower_of(family)
    ports = call(f"{device.peer_url}/v2/models/{tower}").json()
    picture = {"name": "pixel_values", "dtype": "float32", "shape": [1, 3, 28, 28]}
    first = ports["outputs"][0]["name"]

    def check(output: str, inputs: list[dict]) -> dict:
        question = {"inputs": inputs, "calls": [{"module": tower, "inputs": [{"port": "pixel_values", "input": 0}]}],
                    "references": [{"module": tower, "inputs": [{"port": "pixel_values", "input": len(inputs) - 1}],
                                    "outputs": [{"name": output, "call": 0, "output": output}]}]}
        answer = call(f"{device.peer_url}/s2m3/v1/check", json.dumps(question).encode(), "application/json")
        assert answer.status == 200, answer.body
        return answer.json()["outputs"][0]

    assert check(first, [picture]) == {"name": first, "equal": True, "difference": 0.0}
    other = check(first, [picture, picture])  # another picture: each input has a seed of its own
    assert not other["equal"] and other["difference"] > 1e-3


def retuned(folder: Path, to: Path) -> Path:
    """The model with another last matrix in its text tower, as fine-tuning leaves it."""
    shutil.copytree(folder, to)
    path = to / "onnx" / "model.onnx"
    model = onnx.load(path)
    made_by = {o: n for n in model.graph.node for o in n.output}
    tensors = {t.name: t for t in model.graph.initializer}
    node = made_by["text_embeds"]
    while not any(t in tensors and len(tensors[t].dims) == 2 for t in node.input):
        node = next(made_by[i] for i in node.input if i in made_by)
    last = next(tensors[t] for t in node.input if t in tensors and len(tensors[t].dims) == 2)
    values = onnx.numpy_helper.to_array(last)
    last.CopyFrom(onnx.numpy_helper.from_array(values[::-1].copy(), last.name))
    onnx.save(model, path)
    return to


def test_part_of_a_tower_is_shared(family: Fleet, tmp_path: Path) -> None:
    """A fine-tuned model shares all but the last layers; for each label there are two calls then, one behind the
    other."""
    device, original = family.devices[0], folder_of(SEARCH)
    tuned = retuned(original, tmp_path / "tuned")
    before = modules_of(family, original.name)
    family.add(tuned)
    both = set(modules_of(family, "tuned")) & set(modules_of(family, original.name))
    assert len(both) == 2 and modules_of(family, original.name) != before
    assert len(modules_of(family, "tuned")) == len(modules_of(family, original.name)) == 3
    for case in rows_of(SEARCH)[:3]:
        assert best(ask(device, case, fresh=True).json()) == case["reference"]
        command = [BINARY, "run", SEARCH, "--model", str(tuned), "--image", str(HELD_OUT / case["image"]), "--json"]
        alone = json.loads(run(*command, *[w for label in case["labels"] for w in ("--label", label)]).stdout)
        got = ask(device, case | {"model": "tuned"}).json()
        assert [(a["label"], round(a["score"], 8)) for a in got] == [
            (a["label"], round(a["score"], 8)) for a in alone["answer"]]

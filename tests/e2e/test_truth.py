"""A figure that is wrong is noticed by what requests take, measured again, and put right."""
from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from conftest import BINARY, Fleet, ask, model_folders, run, until
from test_failures import small_cases

FOLDER = next(f for f in model_folders() if f.name == "garment-vqa")
CASE = next(c for c in small_cases() if c["model"] == FOLDER.name)
TOO_FAST = 0.0005  # of what runs really take, or took on a busy machine: far more than the coordinator makes up for by itself
LONG_AGO = 1  # ms since 1970: figures that are new are not measured again


def change_figures(folder: Path) -> None:
    """What was measured, as if it had been another machine, long ago."""
    for name in ("node.db", "state.db"):
        with sqlite3.connect(folder / "data" / name) as db:
            for key, value in db.execute("SELECT key, value FROM rows WHERE kind = 'profile'").fetchall():
                row = json.loads(value)
                row["run_ms"] *= TOO_FAST
                if "wall_ms" in row:
                    row["wall_ms"] = LONG_AGO
                db.execute("UPDATE rows SET value = ? WHERE kind = 'profile' AND key = ?", (json.dumps(row), key))


def odd_figures(folder: Path, device: str) -> None:
    """The device, which never had the modules, is said to be far slower than the other one."""
    with sqlite3.connect(folder / "data" / "state.db") as db:
        for key, value in db.execute("SELECT key, value FROM rows WHERE kind = 'profile'").fetchall():
            row = json.loads(value)
            row.update(device=device, wall_ms=LONG_AGO, run_ms=row["run_ms"] * 100)
            db.execute("INSERT INTO rows VALUES ('profile', ?, ?)", (f"{key.split()[0]} {device}", json.dumps(row)))


def times_on(fleet: Fleet, name: str) -> dict[str, float]:
    """By the name in the plan, which ends with the digest's first digits."""
    return {m["name"].split()[-1]: m["run_ms"].get(name, 0) for m in fleet.get("/s2m3/v1/plan")["instance"]["modules"]}


def run_times(fleet: Fleet) -> dict[str, float]:
    return {m["digest"]: d["run_ms"] for m in fleet.get("/s2m3/v1/modules")["modules"] for d in m["devices"] if d["desired"]}


def test_a_wrong_figure_is_measured_again(fleet: Fleet) -> None:
    device = fleet.up()
    fleet.add(FOLDER)
    real = run_times(fleet)
    assert len(real) >= 2 and all(ms > 0 for ms in real.values())
    device.stop()
    fleet.devices.clear()
    change_figures(device.folder)
    device = fleet.up()
    until(lambda: ask(device, CASE).status == 200, 30, "answers")
    heaviest = max(real, key=lambda m: real[m])
    assert run_times(fleet)[heaviest] < 2 * TOO_FAST * real[heaviest]

    def asked_until_right() -> bool:
        assert ask(device, CASE, fresh=True).status == 200
        return run_times(fleet)[heaviest] > 4 * TOO_FAST * real[heaviest]

    until(asked_until_right, 200, "its time to be measured again")
    until(lambda: ask(device, CASE, fresh=True).status == 200 and fleet.get("/s2m3/v1/plan")["predictions"], 100,
          "a comparison")
    row = fleet.get("/s2m3/v1/plan")["predictions"][0]
    assert (row["model"], row["device"]) == (FOLDER.name, device.name)
    assert row["predicted_ms"] > 0 and row["measured_ms"] > 0 and row["answers"] >= 10
    assert "predicted and measured" in run(BINARY, "plan", "--url", device.public_url).stdout


def test_what_is_around_the_runs_is_measured(fleet: Fleet) -> None:
    """Runs of tens of ms on an emulated device: what else a request takes is far less, and it is said apart."""
    device = fleet.up("--emulate", "speed=0.02")
    fleet.add(FOLDER)
    latencies: list[float] = []

    def asked() -> list[dict]:
        answer = ask(device, CASE, fresh=True)
        assert answer.status == 200
        latencies.append(float(answer.headers["S2M3-Latency-Ms"]))
        return fleet.get("/s2m3/v1/plan")["around"] if len(latencies) > 9 else []

    until(asked, 60, "a figure")
    row, = asked()
    assert (row["model"], row["task"]) == (FOLDER.name, CASE["task"])
    assert 0 < row["ms"] < min(latencies) / 2, (row, latencies)
    assert "AROUND" in run(BINARY, "plan", "--url", device.public_url).stdout
    shown = json.loads(run(BINARY, "plan", "--url", device.public_url, "--json").stdout)
    assert [r["model"] for r in shown["around"]] == [FOLDER.name]


def test_a_figure_unlike_those_of_others_is_measured_again(fleet: Fleet) -> None:
    first = fleet.up()
    fleet.add(FOLDER)
    real = run_times(fleet)
    heaviest = max(real, key=lambda m: real[m])
    short = heaviest[:8]
    second = fleet.join("second")
    until(lambda: fleet.get("/s2m3/v1/status")["devices_alive"] == 2, 30, "two devices")
    device_id = next(d["id"] for d in fleet.get("/s2m3/v1/devices")["devices"] if d["name"] == second.name)
    first.stop()
    odd_figures(first.folder, device_id)
    fleet.devices[0] = fleet.up("--peer-listen", first.peer_url.removeprefix("http://"))
    fleet.devices.pop()
    until(lambda: times_on(fleet, second.name)[short] > 20 * real[heaviest], 30, "the figures")
    until(lambda: times_on(fleet, second.name)[short] < 20 * real[heaviest], 200, "it to be measured")

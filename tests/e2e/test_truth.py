"""A figure that is wrong is noticed by what requests take, measured again, and put right."""
from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from conftest import BINARY, Fleet, ask, model_folders, run, until
from test_failures import small_cases

FOLDER = next(f for f in model_folders() if f.name == "garment-vqa")
CASE = next(c for c in small_cases() if c["model"] == FOLDER.name)
TOO_FAST = 0.02  # of what runs really take: more than the coordinator makes up for by itself
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
    assert run_times(fleet)[heaviest] < 0.1 * real[heaviest]

    def asked_until_right() -> bool:
        assert ask(device, CASE, fresh=True).status == 200
        return run_times(fleet)[heaviest] > 0.3 * real[heaviest]

    until(asked_until_right, 60, "its time to be measured again")
    until(lambda: ask(device, CASE, fresh=True).status == 200 and fleet.get("/s2m3/v1/plan")["predictions"], 60,
          "a comparison")
    row = fleet.get("/s2m3/v1/plan")["predictions"][0]
    assert (row["model"], row["device"]) == (FOLDER.name, device.name)
    assert row["predicted_ms"] > 0 and row["measured_ms"] > 0 and row["answers"] >= 10
    assert "predicted and measured" in run(BINARY, "plan", "--url", device.public_url).stdout

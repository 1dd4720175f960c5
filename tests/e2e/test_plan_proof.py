"""The planner against enumeration on thousands of random instances, in pieces that are kept.

Each piece is a range of seeds, run by the unit test of the methods (S2M3_SEEDS), which fails when `exact`
is not the least value or a bound is above it.  What a piece found is written to build/reports/plan-proof, in
a folder named by the sources it depends on: stopped, `make test-full` goes on with the next piece; once all
pieces are there and nothing has changed, it only adds them up.
"""
from __future__ import annotations

import hashlib
import os
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("S2M3", str(ROOT / "build" / "release" / "s2m3"))).resolve()
PIECE = 125  # seeds
FEASIBLE = 2000  # instances of each objective
SEEDS_MAX = 8000
LOCAL = {"latency": 0.99, "burst": 0.98, "load": 0.99}  # share that has to be optimal

Tally = dict[tuple[str, str], list[float]]  # objective, method: feasible, optimal, sum of gaps, worst gap


def sources() -> str:
    digest = hashlib.sha256()
    for path in sorted([*ROOT.glob("src/plan/*.[ch]"), *ROOT.glob("tests/unit/plan/*.[ch]")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def program(name: str) -> Path:
    path = BINARY.parent / name
    if not path.exists():
        subprocess.run([str(ROOT / "tools" / "build"), "-j2", "release", path.name], check=True, timeout=900, stdout=subprocess.DEVNULL)
        path = ROOT / "build" / "release" / path.name
    return path


def piece(run: Path, folder: Path, first: int) -> str:
    kept = folder / f"{first:05}.txt"
    if not kept.exists():
        done = subprocess.run([str(run)], env={**os.environ, "S2M3_SEEDS": f"{first}:{first + PIECE}"}, capture_output=True, text=True,
                              timeout=600, check=False)
        assert done.returncode == 0, f"seeds from {first}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        part = kept.with_suffix(".part")
        part.write_text("".join(line + "\n" for line in done.stdout.splitlines() if line.startswith(("tally ", "graphs "))))
        part.rename(kept)
    return kept.read_text()


def add(text: str, tally: Tally, graphs: dict[str, list[int]]) -> None:
    for line in text.splitlines():
        kind, objective, *rest = line.split()
        if kind == "graphs":
            graphs[objective] = [a + int(b) for a, b in zip(graphs[objective], rest)]
        else:
            feasible, optimal, gaps, worst = map(float, rest[1:])
            before = tally[objective, rest[0]]
            tally[objective, rest[0]] = [before[0] + feasible, before[1] + optimal, before[2] + gaps, max(before[3], worst)]


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_methods_against_enumeration() -> None:
    folder, run = ROOT / "build" / "reports" / "plan-proof" / sources(), program("unit_plan_test_methods")
    folder.mkdir(parents=True, exist_ok=True)
    tally: Tally = defaultdict(lambda: [0.0] * 4)
    graphs: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    first = 100000  # none of the seeds of the quick test
    while first < 100000 + SEEDS_MAX and any(tally[o, "exact"][0] < FEASIBLE for o in LOCAL):
        add(piece(run, folder, first), tally, graphs)
        first += PIECE
    for (objective, method), (feasible, optimal, gaps, worst) in sorted(tally.items()):
        print(f"{objective} {method}: {optimal:.0f} of {feasible:.0f} optimal, mean gap {100 * gaps / feasible:.4f} %, worst {100 * worst:.2f} %")
    for objective, share in LOCAL.items():
        feasible, optimal, gaps, _ = tally[objective, "local"]
        assert tally[objective, "exact"][0] == tally[objective, "exact"][1] >= FEASIBLE
        assert optimal >= share * feasible and gaps <= 0.001 * feasible
        assert graphs[objective][0] >= feasible / 3 and graphs[objective][1] >= feasible / 5


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_bounds_against_enumeration() -> None:
    done = subprocess.run([str(program("unit_plan_test_dual"))], env={**os.environ, "S2M3_FULL": "1"}, capture_output=True, text=True, timeout=1800,
                          check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]

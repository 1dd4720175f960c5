"""Splits exported models with `s2m3 inspect --write` and checks bytes and bits.

Usage: check_split.py PROGRAM FOLDER [--sets NAME...] [--levels LEVEL...] [--no-run]

FOLDER is the output of exports.py.  For each set: the bytes that sharing saves are within 3 % of
what the construction makes shareable (traps: not above), and each model run piece by piece gives
the bits of the whole model at the same optimisation level.  Exit 1 if anything differs.
"""
from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime as ort

LEVELS = {"off": ort.GraphOptimizationLevel.ORT_DISABLE_ALL, "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
          "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED, "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL}
TOLERANCE = 0.03


def session(path: Path, level: str) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = LEVELS[level]
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def aligned(value: np.ndarray) -> np.ndarray:
    """A copy at a multiple of 64 bytes, as the runtime itself allocates: some of its sums (Eigen's) take
    another order, and so have other bits, when a tensor stands elsewhere."""
    room = np.empty(value.nbytes + 64, np.uint8)
    start = -room.ctypes.data % 64
    copy = room[start:start + value.nbytes].view(value.dtype).reshape(value.shape)
    copy[...] = value
    return copy


def make_input(port, batch: int, rng: np.random.Generator, length: int = 7) -> np.ndarray:
    dims = [d if isinstance(d, int) else (batch if i == 0 else length) for i, d in enumerate(port.shape)]
    if len(dims) == 4:  # pictures of any size, as optimum exports them
        dims[1:] = [d if isinstance(d, int) else otherwise for d, otherwise in zip(port.shape[1:], (3, 32, 32))]
    if "int64" in port.type:
        if "mask" in port.name:
            mask = np.ones(dims, np.int64)
            mask[-1:, -2:] = 0
            return mask
        high = 2 if "type" in port.name else 390
        return rng.integers(0, min(high, 40), dims, dtype=np.int64)
    return rng.standard_normal(dims).astype(np.float16 if "float16" in port.type else np.float32)


def run_pieces(model: dict, modules: Path, inputs: dict[str, np.ndarray], level: str, cache: dict) -> dict:
    results: list[dict[str, np.ndarray]] = []
    for call in model["calls"]:
        key = (call["module"], level)
        if key not in cache:
            cache[key] = session(modules / call["module"] / "module.onnx", level)
        piece = cache[key]
        given = [inputs[i["input"]] if "input" in i else results[i["call"]][i["output"]] for i in call["inputs"]]
        names = [f"in{i}" for i in range(len(given))]
        outputs = piece.run(None, {n: aligned(v) for n, v in zip(names, given)})
        results.append({o.name: v for o, v in zip(piece.get_outputs(), outputs)})
    return {o["name"]: inputs[o["input"]] if "input" in o else results[o["call"]][o["output"]]
            for o in model["outputs"]}


def compare(model: dict, path: Path, modules: Path, levels: list[str], cache: dict, tolerance: float,
            length: int = 7, batches: tuple[int, ...] = (1, 3)) -> list[str]:
    faults = []
    for level in levels:
        whole = session(path, level)
        for batch in batches:
            rng = np.random.default_rng(batch)
            inputs = {p.name: aligned(make_input(p, batch, rng, length)) for p in whole.get_inputs()}
            want = whole.run(None, inputs)
            got = run_pieces(model, modules, inputs, level, cache)
            for port, value in zip(whole.get_outputs(), want):
                other = got[port.name]
                if value.shape != other.shape or value.tobytes() != other.tobytes():
                    worst = float(np.abs(value - other).max()) if value.shape == other.shape else np.inf
                    if worst <= tolerance:
                        continue
                    faults.append(f"{path.parent.name} {port.name} at {level}, batch {batch}: differs by {worst:g}")
    return faults


def check_set(program: str, folder: Path, one: dict, levels: list[str], run: bool) -> list[str]:
    paths = [folder / name / "model.onnx" for name in one["models"]]
    with tempfile.TemporaryDirectory() as scratch:
        command = [program, "inspect", "--json", "--min-share", "0", "--write", scratch, *map(str, paths)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        if done.returncode:
            return [f"inspect failed: {done.stderr.strip()[:300]}"]
        report = json.loads(done.stdout)
        saved = report["unshared_bytes"] - report["shared_bytes"]
        want, faults = one["shareable"], []
        if want > 0 and abs(saved - want) > TOLERANCE * want and not one.get("open"):
            faults.append(f"saves {saved}, should save {want}")
        if "at_most" in one and saved > one["at_most"] * (1 + TOLERANCE):
            faults.append(f"saves {saved}, may save at most {one['at_most']}")
        cache: dict = {}
        equal = f"within {one['tolerance']}" if "tolerance" in one else "bits equal"
        for model, path in zip(report["models"], paths):
            if run:
                here = [v for v in levels if v in one.get("levels", LEVELS)]
                faults += compare(model, path, Path(scratch), here, cache, one.get("tolerance", 0), one.get("length", 7),
                                  one.get("batches", (1, 3)))
        print(f"{one['name']:28} saves {saved:9} of {want:9}, {len(report['modules'])} modules, "
              f"{[len(m['calls']) for m in report['models']]} calls{'' if faults else ', ' + equal}", flush=True)
        return faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sets", nargs="*", default=[])
    parser.add_argument("--levels", nargs="*", default=list(LEVELS), choices=list(LEVELS))
    parser.add_argument("--no-run", action="store_true")
    options = parser.parse_args()
    faults = 0
    for one in json.loads((options.folder / "sets.json").read_text()):
        if options.sets and one["name"] not in options.sets:
            continue
        for fault in check_set(options.program, options.folder, one, options.levels, not options.no_run):
            faults += 1
            print(f"  FAULT {one['name']}: {fault}", flush=True)
    print(f"{faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

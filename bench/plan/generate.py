#!/usr/bin/env python3
"""Makes the published set of 95 placement instances: bench/plan/95/NN.json, always the same ones.

Modules are those that the split-and-share paper speaks of (parameters x 4 bytes, GFLOP at batch 1 by
their public configurations), devices are kinds of machines that people own, with the speed that small
models reach on them rather than what is printed on the box, and a cloud behind a slow link.

    bench/plan/generate.py [FOLDER]
    bench/plan/generate.py --middle FOLDER

--middle makes 60 random instances of 20 modules on 8 devices in each objective, which are not kept in
the tree: `bench_plan_set --gap FOLDER` shows how close `auto` comes to its own bound on them.

The certified optima beside them (optima.json) are written by `bench_plan_set --write`.
"""
from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

SEED = 95
COUNT = 95
MIDDLE = 60

# name: MB, GFLOP of one run, bytes of the output
MODULES = {
    "clip-rn50-vision": (153, 12.22, 4096), "clip-rn50-text": (255, 5.96, 4096),
    "clip-rn101-vision": (225, 19.54, 2048), "clip-b32-vision": (351, 8.82, 2048),
    "clip-b16-vision": (345, 35.13, 2048), "clip-512-text": (254, 5.96, 2048),
    "clip-rn50x4-vision": (349, 42.56, 2560), "clip-640-text": (365, 9.27, 2560),
    "clip-l14-vision": (1216, 162.03, 3072), "clip-l14-336-vision": (1217, 381.92, 3072), "clip-768-text": (495, 13.30, 3072),
    "imagebind-vision": (2531, 335.0, 4096), "imagebind-text": (1416, 47.1, 4096), "imagebind-audio": (345, 122.8, 4096),
    "vit-b16": (346, 35.13, 605184), "gpt2-decoder": (611, 10.1, 100),
    "llava-vision": (1214, 382.0, 1179648), "tinyllama": (2213, 1310.0, 100), "phi3-mini": (7667, 4835.0, 100),
    "classifier": (1, 0.001, 4000), "cosine": (0, 0.0001, 400),
}
PIXELS, SOUND, WORDS = 150528, 313344, 308

# name: encoders, head, input bytes, runs
MODELS: dict[str, tuple[list[str], str, dict[str, int], dict[str, int]]] = {
    "retrieval-rn50": (["clip-rn50-vision", "clip-rn50-text"], "cosine", {"clip-rn50-vision": PIXELS, "clip-rn50-text": WORDS}, {}),
    "retrieval-b16": (["clip-b16-vision", "clip-512-text"], "cosine", {"clip-b16-vision": PIXELS, "clip-512-text": WORDS}, {}),
    "retrieval-b32": (["clip-b32-vision", "clip-512-text"], "cosine", {"clip-b32-vision": PIXELS, "clip-512-text": WORDS}, {}),
    "retrieval-rn50x4": (["clip-rn50x4-vision", "clip-640-text"], "cosine", {"clip-rn50x4-vision": 248832, "clip-640-text": WORDS}, {}),
    "retrieval-l14": (["clip-l14-vision", "clip-768-text"], "cosine", {"clip-l14-vision": PIXELS, "clip-768-text": WORDS}, {}),
    "zero-shot-b16": (["clip-b16-vision", "clip-512-text"], "cosine", {"clip-b16-vision": PIXELS, "clip-512-text": 101 * WORDS}, {"clip-512-text": 101}),
    "vqa-encoders": (["clip-b16-vision", "clip-512-text"], "classifier", {"clip-b16-vision": PIXELS, "clip-512-text": WORDS}, {}),
    "vqa-l14-336": (["clip-l14-336-vision", "clip-768-text"], "classifier", {"clip-l14-336-vision": 338688, "clip-768-text": WORDS}, {}),
    "align-imagebind": (["imagebind-vision", "imagebind-text", "imagebind-audio"], "cosine",
                        {"imagebind-vision": PIXELS, "imagebind-text": WORDS, "imagebind-audio": SOUND}, {}),
    "align-b16-audio": (["clip-b16-vision", "clip-512-text", "imagebind-audio"], "cosine",
                        {"clip-b16-vision": PIXELS, "clip-512-text": WORDS, "imagebind-audio": SOUND}, {}),
    "caption": (["vit-b16"], "gpt2-decoder", {"vit-b16": PIXELS}, {}),
    "llava-tiny": (["llava-vision"], "tinyllama", {"llava-vision": 338688}, {}),
    "llava-phi3": (["llava-vision"], "phi3-mini", {"llava-vision": 338688}, {}),
    "classify-b16": (["clip-b16-vision"], "classifier", {"clip-b16-vision": PIXELS}, {}),
}

# name: memory MB, lanes, GFLOP/s of one run
DEVICES = {"jetson-nano": (2500, 1, 90.0), "pi5": (3500, 1, 28.0), "pi4": (1500, 1, 9.0), "nuc": (7000, 2, 160.0), "laptop": (6000, 2, 320.0),
           "desktop": (9000, 2, 900.0), "cloud": (60000, 4, 9000.0)}


def fleet(rng: random.Random) -> list[str]:
    names = rng.sample(["jetson-nano", "jetson-nano-2", "pi5", "pi5-2", "pi4", "nuc", "laptop", "desktop"], rng.randint(2, 4))
    return sorted(names) + (["cloud"] if rng.random() < 0.6 else [])


def device(name: str, squeeze: float) -> dict[str, Any]:
    mb, lanes, gflops = DEVICES[name.removesuffix("-2")]
    return {"name": name, "memory_bytes": int(mb * 1e6 * (1 if name == "cloud" else squeeze)), "lanes": lanes, "gflops": gflops}


def build(rng: random.Random, number: int) -> dict[str, Any]:
    names = fleet(rng)
    tasks = rng.sample(sorted(MODELS), rng.randint(1, 4))
    modules = sorted({m for t in tasks for m in MODELS[t][0] + [MODELS[t][1]]})
    squeeze = rng.choice([0.4, 0.6, 1.0])
    out: dict[str, Any] = {
        "name": f"{number:02}", "objective": ("latency", "latency", "latency", "burst", "load")[number % 5],
        "devices": [device(n, squeeze) for n in names],
        "default_link": {"latency_ms": rng.choice([0.4, 1.0, 3.0]), "mbit": rng.choice([50.0, 100.0, 940.0])}, "links": [],
        "modules": [{"name": m, "memory_bytes": MODULES[m][0] * 10**6, "gflop": MODULES[m][1], "output_bytes": MODULES[m][2]} for m in modules],
        "models": [{"name": t, "encoders": MODELS[t][0], "head": MODELS[t][1]} for t in tasks],
        "requests": [],
    }
    if "cloud" in names:
        speed = {"latency_ms": rng.choice([15.0, 40.0, 80.0]), "mbit": rng.choice([8.0, 20.0, 50.0])}
        out["links"] = [{"a": n, "b": "cloud", **speed} for n in names if n != "cloud"]
    edge = [n for n in names if n != "cloud"]
    for t in tasks:
        for _ in range(rng.randint(1, 2)):
            out["requests"].append({"model": t, "source": rng.choice(edge), "weight": rng.choice([1.0, 1.0, 2.0, 0.5]),
                                    "rate_per_s": rng.choice([0.005, 0.02, 0.05]), "input_bytes": MODELS[t][2], "runs": MODELS[t][3], "answer_bytes": 200})
    return out


def fits(o: dict[str, Any]) -> bool:
    """First-fit by size, and no device so loaded that nothing could work: keeps the set solvable."""
    left = sorted((d["memory_bytes"] for d in o["devices"]), reverse=True)
    for m in sorted((m["memory_bytes"] for m in o["modules"]), reverse=True):
        i = next((i for i, room in enumerate(left) if room >= m), None)
        if i is None:
            return False
        left[i] -= m
    fastest = max(d["gflops"] for d in o["devices"])
    work = sum(q["rate_per_s"] * q["runs"].get(m, 1) * MODULES[m][1] for q in o["requests"]
               for m in MODELS[q["model"]][0] + [MODELS[q["model"]][1]])
    return o["objective"] != "load" or work < 0.5 * fastest


def middle_model(rng: random.Random, name: str, modules: list[str]) -> dict[str, Any]:
    """Encoders and a head, or a chain with side inputs."""
    chosen = rng.sample(modules, rng.randint(2, 5))
    if rng.random() < 0.6:
        return {"name": name, "encoders": chosen[:-1], "head": chosen[-1]}
    calls: list[dict[str, Any]] = []
    for i, module in enumerate(chosen[:-1]):
        calls.append({"id": f"c{i}", "module": module, "from": ["source"] if i == 0 or rng.random() < 0.4 else [f"c{i - 1}"]})
    fed = {x for c in calls for x in c["from"]}
    calls.append({"id": "last", "module": chosen[-1], "from": [c["id"] for c in calls if c["id"] not in fed]})
    return {"name": name, "calls": calls}


def middle(number: int, objective: str) -> dict[str, Any]:
    """20 modules of all sizes on 8 devices of all kinds that have 1.1 to 2.5 times the memory needed."""
    rng = random.Random(number)
    modules = [{"name": f"m{i}", "memory_bytes": rng.choice([150, 250, 345, 495, 1216, 2200]) * 10**6, "gflop": rng.choice([6, 9, 13, 35, 160, 380, 1300]),
                "output_bytes": rng.choice([2048, 4096, 600000, 1179648])} for i in range(20)]
    names, shares = [f"d{i}" for i in range(8)], [rng.uniform(0.3, 2) for _ in range(8)]
    room = rng.uniform(1.1, 2.5) * sum(m["memory_bytes"] for m in modules) / sum(shares)
    devices = [{"name": n, "memory_bytes": int(room * x), "lanes": rng.choice([1, 1, 2, 4]), "gflops": rng.choice([5, 12, 30, 100, 400, 1500])}
               for n, x in zip(names, shares)]
    links = [{"a": a, "b": b, "latency_ms": round(rng.uniform(0.2, 20), 2), "mbit": rng.choice([50, 100, 300, 940])}
             for i, a in enumerate(names) for b in names[:i]]
    models = [middle_model(rng, f"k{i}", [m["name"] for m in modules]) for i in range(rng.randint(6, 12))]
    requests = []
    for _ in range(rng.randint(8, 16)):
        model = rng.choice(models)
        first = [c["id"] for c in model["calls"] if "source" in c["from"]] if "calls" in model else model["encoders"]
        requests.append({"model": model["name"], "source": rng.choice(names), "weight": round(rng.uniform(0.5, 3), 1), "rate_per_s": round(rng.uniform(0.001, 0.05), 4),
                         "input_bytes": {c: rng.choice([300, 150000, 313344]) for c in first}, "answer_bytes": 200})
    return {"name": f"{objective} {number}", "objective": objective, "devices": devices, "links": links, "modules": modules, "models": models, "requests": requests}


def write_middle(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for objective in ("latency", "burst", "load"):
        for number in range(MIDDLE):
            (folder / f"{objective}-{number:02}.json").write_text(json.dumps(middle(number, objective), separators=(",", ":")) + "\n")


def main() -> None:
    if sys.argv[1:2] == ["--middle"]:
        write_middle(Path(sys.argv[2]))
        return
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "95")
    folder.mkdir(parents=True, exist_ok=True)
    rng, number = random.Random(SEED), 0
    while number < COUNT:
        o = build(rng, number + 1)
        if fits(o):
            number += 1
            (folder / f"{number:02}.json").write_text(json.dumps(o, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()

"""What a placement is worth, written a second time and for reading, not for speed.

Shares nothing with src/plan: tests compare the two.  `value(instance, placement)` follows the text of
the instance format step by step; `best(instance)` tries every placement; `random_instance(rng)` makes
small instances with all that the format knows.
"""
from __future__ import annotations

import itertools
import math
import random
from typing import Any, Iterator, Optional

INF = math.inf
Instance = dict[str, Any]
Placement = dict[str, list[str]]


class Model:
    """The calls of a model in either form."""

    def __init__(self, o: dict[str, Any]) -> None:
        if "calls" in o:
            self.calls = o["calls"]
            self.at_source = o.get("answer_at_source", False)
        else:
            encoders, head = o["encoders"], o.get("head")
            self.calls = [{"id": e, "module": e, "from": ["source"]} for e in encoders]
            if head is not None:
                self.calls.append({"id": head, "module": head, "from": list(encoders) or ["source"]})
            self.at_source = head is None or o.get("answer_at_source", False)
        fed = {f for c in self.calls for f in c["from"]}
        self.ends = [c for c in self.calls if c["id"] not in fed]
        self.modules = list(dict.fromkeys(c["module"] for c in self.calls))


class Fleet:
    """Lookup of everything in an instance."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.devices = {d["name"]: d for d in instance["devices"]}
        self.modules = {m["name"]: m for m in instance["modules"]}
        self.models = {m["name"]: Model(m) for m in instance["models"]}
        self.links = {frozenset((l["a"], l["b"])): l for l in instance.get("links", [])}

    def tau(self, a: str, b: str, size: float) -> float:
        if a == b:
            return 0.0
        link = self.links.get(frozenset((a, b)), self.instance.get("default_link"))
        return INF if link is None else link["latency_ms"] + 8 * size / (link["mbit"] * 1000)

    def run_ms(self, module: str, device: str) -> float:
        m = self.modules[module]
        given = m.get("run_ms", {})
        if device in given:
            return INF if given[device] is None else given[device]
        gflops = self.devices[device].get("gflops")
        return INF if gflops is None or m.get("gflop") is None else m["gflop"] / gflops * 1000

    def lanes(self, device: str) -> int:
        return self.devices[device].get("lanes", 1)


def one_request(f: Fleet, q: dict[str, Any], route: dict[str, str], free: dict[str, list[float]],
                stretch: Optional[dict[str, float]] = None) -> float:
    """T_q; `free` holds the time from which each lane is free, and is changed."""
    model = f.models[q["model"]]
    finish: dict[str, float] = {}
    waiting = list(model.calls)

    def ready(c: dict[str, Any]) -> float:
        here, at = route[c["module"]], 0.0
        for p in c["from"]:
            if p == "source":
                at = max(at, f.tau(q["source"], here, q.get("input_bytes", {}).get(c["id"], 0)))
            else:
                before = next(x for x in model.calls if x["id"] == p)
                size = f.modules[before["module"]].get("output_bytes", 0)
                at = max(at, finish[p] + f.tau(route[before["module"]], here, size))
        return at

    while waiting:
        able = [c for c in waiting if all(p == "source" or p in finish for p in c["from"])]
        c = min(able, key=lambda x: (ready(x), model.calls.index(x)))
        device = route[c["module"]]
        run = f.run_ms(c["module"], device)
        if stretch:
            run /= 1 - stretch[device]
        lanes = free[device]
        lane = lanes.index(min(lanes))
        start = max(ready(c), lanes[lane])
        finish[c["id"]] = start + q.get("runs", {}).get(c["id"], 1) * run
        if not math.isfinite(finish[c["id"]]):
            return INF
        lanes[lane] = finish[c["id"]]
        waiting.remove(c)
    if model.at_source:
        return max(finish[c["id"]] + f.tau(route[c["module"]], q["source"], f.modules[c["module"]].get("output_bytes", 0))
                   for c in model.ends)
    last = model.calls[-1]
    return finish[last["id"]] + f.tau(route[last["module"]], q["source"], q.get("answer_bytes", 0))


def no_load(f: Fleet) -> dict[str, list[float]]:
    return {d: [0.0] * f.lanes(d) for d in f.devices}


def routes(f: Fleet, q: dict[str, Any], placement: Placement) -> Iterator[dict[str, str]]:
    modules = f.models[q["model"]].modules
    order = list(f.devices)
    for devices in itertools.product(*(sorted(placement[m], key=order.index) for m in modules)):
        yield dict(zip(modules, devices))


def first_least(candidates: list[tuple[float, dict[str, str]]]) -> tuple[float, Optional[dict[str, str]]]:
    least = min(t for t, _ in candidates)
    if not math.isfinite(least):
        return INF, None
    return next(c for c in candidates if c[0] <= (1 + 1e-9) * least)


def shares(f: Fleet, q: dict[str, Any], route: dict[str, str]) -> dict[str, float]:
    out: dict[str, float] = {}
    for c in f.models[q["model"]].calls:
        d = route[c["module"]]
        runs = q.get("runs", {}).get(c["id"], 1)
        out[d] = out.get(d, 0.0) + q.get("rate_per_s", 0) * runs * f.run_ms(c["module"], d) / (1000 * f.lanes(d))
    return out


Routed = list[tuple[float, dict[str, str]]]  # by request: time and route


def under_load(f: Fleet, requests: list[dict[str, Any]], placement: Placement) -> Optional[Routed]:
    rho = {d: 0.0 for d in f.devices}
    chosen = []
    for q in requests:
        candidates = []
        for route in routes(f, q, placement):
            if any(not math.isfinite(f.run_ms(m, d)) for m, d in route.items()):
                continue
            mine = shares(f, q, route)
            now = {d: rho[d] + mine.get(d, 0.0) for d in rho}
            if all(now[d] < 0.95 for d in route.values()):
                candidates.append((one_request(f, q, route, no_load(f), now), route))
        _, route = first_least(candidates) if candidates else (INF, None)
        if route is None:
            return None
        for d, x in shares(f, q, route).items():
            rho[d] += x
        chosen.append(route)
    return [(one_request(f, q, r, no_load(f), rho), r) for q, r in zip(requests, chosen)]


def routed(f: Fleet, placement: Placement) -> Optional[Routed]:
    """None when a request has no route."""
    requests = f.instance.get("requests", [])
    objective = f.instance.get("objective", "latency")
    if objective == "load":
        return under_load(f, requests, placement)
    out: Routed = []
    lanes = no_load(f)
    for q in requests:
        candidates = []
        for route in routes(f, q, placement):
            free = {d: list(x) for d, x in lanes.items()} if objective == "burst" else no_load(f)
            candidates.append((one_request(f, q, route, free), route))
        t, route = first_least(candidates)
        if route is None:
            return None
        if objective == "burst":
            one_request(f, q, route, lanes)
        out.append((t, route))
    return out


def feasible_memory(f: Fleet, placement: Placement) -> bool:
    used = {d: 0 for d in f.devices}
    for m, devices in placement.items():
        for d in devices:
            used[d] += f.modules[m]["memory_bytes"]
            if not math.isfinite(f.run_ms(m, d)):
                return False
    return all(used[d] <= f.devices[d]["memory_bytes"] for d in used)


def value(instance: Instance, placement: Placement, fleet: Optional[Fleet] = None) -> float:
    """INF when the placement is not feasible."""
    f = fleet or Fleet(instance)
    if not feasible_memory(f, placement):
        return INF
    found = routed(f, placement)
    if found is None:
        return INF
    return sum(q.get("weight", 1) * t for q, (t, _) in zip(instance.get("requests", []), found))


def placements(f: Fleet) -> Iterator[Placement]:
    devices = list(f.devices)
    sets = [[d] for d in devices]
    if f.instance.get("replicas"):
        sets = [list(c) for n in range(1, len(devices) + 1) for c in itertools.combinations(devices, n)]
    for choice in itertools.product(sets, repeat=len(f.modules)):
        yield dict(zip(f.modules, choice))


def best(instance: Instance) -> float:
    """The least value over all placements; INF when none is feasible."""
    f = Fleet(instance)
    return min(value(instance, p, f) for p in placements(f))


def baseline(f: Fleet, kind: str) -> Optional[Placement]:
    """greedy-fastest and greedy-earliest; None when a module finds no room."""
    def gflop(m: str) -> float:
        if "gflop" in f.modules[m]:
            return f.modules[m]["gflop"]
        known = [t for t in (f.run_ms(m, d) for d in f.devices) if math.isfinite(t)]
        return sum(known) / len(known) if known else 0.0

    demand = {m: 0.0 for m in f.modules}
    work = {m: 0.0 for m in f.modules}
    for q in f.instance.get("requests", []):
        for c in f.models[q["model"]].calls:
            times = q.get("weight", 1) * q.get("runs", {}).get(c["id"], 1)
            demand[c["module"]] += times
            work[c["module"]] += times * gflop(c["module"])
    room = {d: x["memory_bytes"] for d, x in f.devices.items()}
    busy = {d: 0.0 for d in f.devices}
    out: Placement = {}
    for m in sorted(f.modules, key=lambda x: -work[x]):
        able = [d for d in f.devices if math.isfinite(f.run_ms(m, d)) and f.modules[m]["memory_bytes"] <= room[d]]
        if not able:
            return None
        d = min(able, key=lambda x: (busy[x] if kind == "greedy-earliest" else 0.0) + (demand[m] if kind == "greedy-earliest" else 1.0) * f.run_ms(m, x))
        out[m] = [d]
        room[d] -= f.modules[m]["memory_bytes"]
        busy[d] += demand[m] * f.run_ms(m, d)
    return out


# ---- random instances -----------------------------------------------------------------------------


def random_calls(rng: random.Random, modules: list[str], twice: bool, deep: bool) -> list[dict[str, Any]]:
    names = list(modules) + ([rng.choice(modules)] if twice else [])
    calls: list[dict[str, Any]] = []
    for i, m in enumerate(names[:-1]):
        earlier = [c["id"] for c in calls]
        froms = ["source"]
        if deep and earlier and rng.random() < 0.7:
            froms = rng.sample(earlier, min(len(earlier), rng.randint(1, 2)))
            if rng.random() < 0.3:
                froms.append("source")
        calls.append({"id": f"c{i}", "module": m, "from": froms})
    fed = {x for c in calls for x in c["from"]}
    ends = [c["id"] for c in calls if c["id"] not in fed]
    calls.append({"id": "last", "module": names[-1], "from": ends or ["source"]})
    return calls


def random_model(rng: random.Random, name: str, modules: list[str]) -> dict[str, Any]:
    chosen = rng.sample(modules, rng.randint(1, min(4, len(modules))))
    kind = rng.random()
    if kind < 0.35:
        head = chosen.pop() if len(chosen) > 1 and rng.random() < 0.7 else None
        return {"name": name, "encoders": chosen, "head": head}
    model: dict[str, Any] = {"name": name, "calls": random_calls(rng, chosen, rng.random() < 0.3, kind < 0.75)}
    if rng.random() < 0.2:
        model["answer_at_source"] = True
    return model


def random_request(rng: random.Random, models: list[dict[str, Any]], devices: list[str], scale: float) -> dict[str, Any]:
    model = rng.choice(models)
    calls = Model(model).calls
    return {
        "model": model["name"], "source": rng.choice(devices), "weight": round(rng.uniform(0.2, 3), 2),
        "rate_per_s": round(rng.uniform(0, 2) * scale, 3),
        "input_bytes": {c["id"]: rng.choice([300, 20000, 150000, 600000]) for c in calls if "source" in c["from"]},
        "runs": {c["id"]: rng.choice([2, 5, 20]) for c in calls if rng.random() < 0.15},
        "answer_bytes": rng.choice([0, 200, 5000]),
    }


def random_instance(rng: random.Random, objective: str, modules: int = 7, devices: int = 4, replicas: bool = False) -> Instance:
    n = rng.randint(2, devices)
    k = rng.randint(2, modules)
    names = [f"d{i}" for i in range(n)]
    same = rng.random() < 0.2  # devices that are alike
    speed = [rng.choice([5, 20, 100, 400]) for _ in names]
    sizes = [rng.randint(10, 500) * 1000000 for _ in range(k)]
    room = sum(sizes) * rng.uniform(0.4, 1.2)
    out: Instance = {
        "name": "random", "objective": objective, "replicas": replicas,
        "devices": [{"name": d, "memory_bytes": int(room if same else room * rng.uniform(0.4, 1.6)),
                     "lanes": 1 if same else rng.choice([1, 1, 1, 2, 3]), "gflops": float(speed[0 if same else i])}
                    for i, d in enumerate(names)],
        "links": [], "modules": [], "models": [], "requests": [],
    }
    if rng.random() < 0.9:
        out["default_link"] = {"latency_ms": round(rng.uniform(0.2, 5), 2), "mbit": rng.choice([50.0, 100.0, 1000.0])}
    for a, b in itertools.combinations(names, 2):
        if not same and rng.random() < 0.5:
            out["links"].append({"a": a, "b": b, "latency_ms": round(rng.uniform(0.1, 40), 2), "mbit": rng.choice([20.0, 100.0, 940.0])})
    for i in range(k):
        m: dict[str, Any] = {"name": f"m{i}", "memory_bytes": sizes[i], "gflop": round(rng.uniform(0.1, 40), 3),
                             "output_bytes": rng.choice([0, 2048, 100000, 1200000])}
        if rng.random() < 0.3:
            m["run_ms"] = {d: (None if rng.random() < 0.15 else round(rng.uniform(1, 900), 2)) for d in names if rng.random() < 0.6}
        out["modules"].append(m)
    every = [m["name"] for m in out["modules"]]
    out["models"] = [random_model(rng, f"model{i}", every) for i in range(rng.randint(1, 5))]
    scale = rng.choice([0.1, 0.5, 2.0])
    out["requests"] = [random_request(rng, out["models"], names, scale) for _ in range(rng.randint(1, 6))]
    return out


OPTIONAL = {"devices": ["lanes", "gflops"], "modules": ["gflop", "output_bytes", "run_ms"],
            "requests": ["weight", "rate_per_s", "input_bytes", "runs", "answer_bytes"]}


def sparse(rng: random.Random, o: Instance) -> Instance:
    """With fields left out, zeros, devices and modules that are alike, times that tie."""
    for key in ("name", "links", "requests", "default_link"):
        if rng.random() < 0.15:
            o.pop(key, None)
    if not o["replicas"]:
        del o["replicas"]
    for kind, fields in OPTIONAL.items():
        for x in o.get(kind, []):
            for field in fields:
                if rng.random() < 0.12:
                    x.pop(field, None)
    if rng.random() < 0.4:
        for m in o["modules"]:
            m["gflop"] = float(rng.choice([0, 1, 1, 2]))
            m["memory_bytes"] = rng.choice([0, 1, 2]) * 100000000
            m.pop("run_ms", None)
        for d in o["devices"]:
            d.update(gflops=10.0, memory_bytes=300000000)
    for q in o.get("requests", []):
        if rng.random() < 0.1:
            q["weight"] = 0
    return o

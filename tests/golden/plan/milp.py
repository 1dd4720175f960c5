"""The placement problem for objective `latency`, one place per module, as a MILP solved by HiGHS.

x[m, d] = 1: module m is on device d.  z[q, y] = 1: request q runs on the joint assignment y of its
modules; its cost weight * T_q(y) comes from evaluator.py, not from src/plan.  For each request the z sum
to one, and for each of its modules and each device those with y(m) = d sum to x[m, d].
"""
from __future__ import annotations

import itertools
import math

import highspy
import numpy as np

import evaluator


def solve(instance: evaluator.Instance, relaxed: bool = False) -> float:
    """The least value; INF when nothing is feasible.  relaxed: that of the linear relaxation."""
    f = evaluator.Fleet(instance)
    h = highspy.Highs()
    h.setOptionValue("output_flag", False)
    h.setOptionValue("mip_rel_gap", 0.0)
    h.setOptionValue("mip_abs_gap", 0.0)
    kind = highspy.HighsVarType.kContinuous if relaxed else highspy.HighsVarType.kInteger
    columns = 0
    x: dict[tuple[str, str], int] = {}

    def column(cost: float) -> int:
        nonlocal columns
        h.addVar(0.0, 1.0)
        h.changeColCost(columns, cost)
        columns += 1
        return columns - 1

    def row(low: float, high: float, terms: list[tuple[int, float]]) -> None:
        index = np.array([i for i, _ in terms], dtype=np.int32)
        value = np.array([v for _, v in terms], dtype=np.double)
        h.addRow(low, high, len(terms), index, value)

    for m in f.modules:
        for d in f.devices:
            if math.isfinite(f.run_ms(m, d)):
                x[m, d] = column(0.0)
                h.changeColIntegrality(x[m, d], kind)
        terms = [(x[m, d], 1.0) for d in f.devices if (m, d) in x]
        if not terms:
            return evaluator.INF
        row(1.0, 1.0, terms)
    for d, device in f.devices.items():
        terms = [(x[m, d], f.modules[m]["memory_bytes"] / 1e6) for m in f.modules if (m, d) in x]
        if terms:
            row(-highspy.kHighsInf, device["memory_bytes"] / 1e6, terms)
    for q in instance.get("requests", []):
        modules = f.models[q["model"]].modules
        z: dict[tuple[str, ...], int] = {}
        for y in itertools.product(*([d for d in f.devices if (m, d) in x] for m in modules)):
            t = evaluator.one_request(f, q, dict(zip(modules, y)), evaluator.no_load(f))
            if math.isfinite(t):
                z[y] = column(q.get("weight", 1) * t)
        if not z:
            return evaluator.INF
        row(1.0, 1.0, [(i, 1.0) for i in z.values()])
        for k, m in enumerate(modules):
            for d in f.devices:
                if (m, d) in x:
                    row(0.0, 0.0, [(i, 1.0) for y, i in z.items() if y[k] == d] + [(x[m, d], -1.0)])
    h.run()
    if h.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        return evaluator.INF
    return h.getInfo().objective_function_value

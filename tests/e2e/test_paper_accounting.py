"""The published memory figures, as `s2m3 inspect` counts them: models of one weight for each module, in the
published sizes at a thousandth.

RN50 CLIP: the larger of its two encoders is 50.3 % of the sum, the text tower counted without its token
embedding; with it, and the larger device against the whole, 37.6 % are saved.  Four tasks on one ViT-B/16, one
text tower and one audio encoder: 61.5 % are saved by sharing, and 62.0 % with full text towers.
"""
from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

BINARY = os.environ.get("S2M3", str(Path(__file__).resolve().parents[2] / "build" / "s2m3"))
OUT = 4
RN50, TEXT_RN50, FULL_RN50 = 38.32, 37.83, 63.69  # millions of parameters; the text tower without and with its embedding
SHORT = {"vit-b16": 86.0, "text": 38.0, "audio": 85.0}
FULL = {"vit-b16": 86.19, "text": 63.43, "audio": 86.2}
INPUTS = {"image": "pixel_values", "text": "text_states", "audio": "input_features"}


def model(folder: Path, name: str, towers: dict[str, tuple[str, float]]) -> Path:
    """Each tower is (its name, which is its seed; millions of parameters): a product with one weight."""
    nodes, inits, inputs, ends = [], [], [], []
    for kind, (tower, millions) in towers.items():
        rows = round(millions * 1000 / OUT)
        seed = sum(map(ord, tower))
        weight = np.random.default_rng(seed).standard_normal((rows, OUT)).astype(np.float32)
        inits.append(numpy_helper.from_array(weight, f"{kind}_w"))
        inputs.append(helper.make_tensor_value_info(INPUTS[kind], TensorProto.FLOAT, ["batch", rows]))
        nodes += [helper.make_node("MatMul", [INPUTS[kind], f"{kind}_w"], [f"{kind}_y"]),
                  helper.make_node("Tanh", [f"{kind}_y"], [f"{kind}_z"])]
        ends.append(f"{kind}_z")
    nodes.append(helper.make_node("Sum", ends, ["sum"]) if len(ends) > 1 else helper.make_node("Relu", ends, ["sum"]))
    nodes.append(helper.make_node("Softmax" if name == "classify" else "Sigmoid", ["sum"], ["y"]))
    graph = helper.make_graph(nodes, name, inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", OUT])], inits)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 8
    path = folder / f"{name}.onnx"
    onnx.save(made, path)
    return path


def inspect(paths: list[Path]) -> dict:
    done = subprocess.run([BINARY, "inspect", "--json", "--min-share", "0", *map(str, paths)], capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("text,larger,saved", [(TEXT_RN50, 0.503, None), (FULL_RN50, None, 0.376)])
def test_one_task_on_two_devices(tmp_path: Path, text: float, larger: float | None, saved: float | None) -> None:
    report = inspect([model(tmp_path, "clip", {"image": ("rn50", RN50), "text": ("text", text)})])
    sizes = [m["weight_bytes"] for m in report["modules"] if m["role"] == "encoder"]
    assert len(sizes) == 2
    part = max(sizes) / sum(sizes)
    if larger is not None:
        assert round(part, 3) == larger
    if saved is not None:
        assert round(1 - part, 3) == saved


@pytest.mark.parametrize("sizes,saved", [(SHORT, 0.615), (FULL, 0.620)])
def test_four_tasks_share(tmp_path: Path, sizes: dict[str, float], saved: float) -> None:
    vit, words, audio = ((name, sizes[name]) for name in ("vit-b16", "text", "audio"))
    paths = [model(tmp_path, "retrieval", {"image": vit, "text": words}), model(tmp_path, "vqa", {"image": vit, "text": words}),
             model(tmp_path, "align", {"image": vit, "text": words, "audio": audio}), model(tmp_path, "classify", {"image": vit})]
    report = inspect(paths)
    assert round(report["saving"], 3) == saved
    assert sorted(len(m["models"]) for m in report["modules"] if m["weight_bytes"] > 1000) == [1, 3, 4]

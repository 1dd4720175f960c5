"""What a device takes: never more than it said, and working memory goes back when it rests."""
from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
import pytest
from onnx import TensorProto, helper, numpy_helper

from conftest import HELD_OUT, Device, Fleet, call, until

SIDE, SCALES, WIDTH = 32, 10, 341
WORKING = SCALES * 3 * SIDE * SIDE * WIDTH * 4  # bytes that are in use together in a run: 42 MB
SLACK = 4 << 20  # stacks, sockets, the tensors of calls
REST_S = 90  # it takes one; a busy machine may take its time


def constant(name: str, values) -> TensorProto:
    return numpy_helper.from_array(numpy.asarray(values), name)


def make_wide(folder: Path) -> Path:
    """Small weights and much to hold while it runs: the picture times ten rows, all summed up."""
    seed = numpy.random.default_rng(3)
    rows = [constant(f"row{i}", seed.normal(0, 1, (1, 1, WIDTH)).astype(numpy.float32)) for i in range(SCALES)]
    nodes = [helper.make_node("Reshape", ["pixel_values", "flat"], ["x"])]
    nodes += [helper.make_node("Mul", ["x", f"row{i}"], [f"y{i}"]) for i in range(SCALES)]
    nodes += [helper.make_node("Sum", [f"y{i}" for i in range(SCALES)], ["s"]),
              helper.make_node("ReduceMean", ["s"], ["m"], axes=[2], keepdims=0),
              helper.make_node("MatMul", ["m", "w"], ["logits"])]
    weights = [*rows, constant("flat", numpy.array([0, 3 * SIDE * SIDE, 1])),
               constant("w", seed.normal(0, 1, (3 * SIDE * SIDE, 4)).astype(numpy.float32))]
    graph = helper.make_graph(
        nodes, "wide", [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 4])], weights)
    (folder / "onnx").mkdir(parents=True)
    (folder / "onnx" / "model.onnx").write_bytes(helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())
    (folder / "config.json").write_text(json.dumps({"id2label": {str(i): f"class {i}" for i in range(4)}}))
    (folder / "preprocessor_config.json").write_text(json.dumps({
        "do_resize": True, "size": {"height": SIDE, "width": SIDE}, "do_rescale": True, "do_normalize": False,
        "image_processor_type": "ViTImageProcessor"}))
    return folder


def status(pid: int, field: str) -> int:
    """VmHWM, RssAnon ... of a process, in bytes."""
    rows = dict(r.split(":", 1) for r in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(rows[field].split()[0]) * 1024


def anonymous(device: Device) -> int:
    return sum(status(pid, "RssAnon") for pid in [device.process.pid, *device.children()])


def classify(device: Device) -> bytes:
    picture = (HELD_OUT / "images" / "000.png").read_bytes()
    answer = call(f"{device.public_url}/pipeline/image-classification/wide", picture, "image/png", Cache_Control="no-store")
    assert answer.status == 200, answer.body
    return answer.body


@pytest.mark.parametrize("options", [["--lanes", "2"], ["--in-process"]], ids=["runner", "in-process"])
def test_working_memory_goes_back(fleet: Fleet, tmp_path: Path, options: list[str]) -> None:
    device = fleet.up(*options)
    fleet.add(make_wide(tmp_path / "wide"))
    runner = (device.children() or [device.process.pid])[0]
    before, first = anonymous(device), classify(device)
    assert all(classify(device) == first for _ in range(5))
    assert status(runner, "VmHWM") > before + WORKING / 2, "the model is not as wide as it should be"
    until(lambda: anonymous(device) < before + WORKING / 4, REST_S, "working memory to go back")
    assert classify(device) == first  # and the lanes go on


def test_no_more_than_promised(fleet: Fleet, tmp_path: Path) -> None:
    """What its modules are said to take and the runtime's own, on two lanes at once; and not much less."""
    device = fleet.up("--lanes", "2")
    fleet.add(make_wide(tmp_path / "wide"))
    until(lambda: len(device.children()) == 1, 60, "the runner alone")
    (runner,) = device.children()
    said = sum(m["memory_bytes"] for m in fleet.get("/s2m3/v1/modules")["modules"])
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: classify(device), range(12)))
    base = fleet.get("/s2m3/v1/devices")["devices"][0]["base_bytes"]
    peak = status(runner, "VmHWM")
    assert peak <= base + said + SLACK, (peak, base, said)
    # On each lane half as much again for gaps; a measurement beside other work may have as large gaps itself.
    assert base > 0 and said <= 2 * WORKING * 3, (base, said)

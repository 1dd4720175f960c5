"""Models made for the purpose: one that no device could hold whole, and two whose split costs bits."""
from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from conftest import BINARY, HELD_OUT, MODELS, Fleet, call, read64, run

WIDTH = 1024
PICTURE = 3 * 28 * 28


def weights(seed: int, *shape: int) -> numpy.ndarray:
    return (numpy.random.default_rng(seed).normal(size=shape) / numpy.sqrt(shape[0])).astype(numpy.float32)


def save(folder: Path, nodes: list, inputs: list, outputs: list, tensors: dict[str, numpy.ndarray]) -> Path:
    """A folder with model.onnx, labels, and the demonstration's side files."""
    (folder / "onnx").mkdir(parents=True)
    graph = helper.make_graph([helper.make_node(op, i, o, **a) for op, i, o, a in nodes], "made", inputs, outputs,
                              [numpy_helper.from_array(v, n) for n, v in tensors.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, folder / "onnx" / "model.onnx")
    classes = outputs[0].type.tensor_type.shape.dim[1].dim_value
    (folder / "config.json").write_text(json.dumps({"id2label": {str(i): f"c{i}" for i in range(classes)}}))
    for name in ("preprocessor_config.json", "tokenizer.json"):
        shutil.copy(MODELS / "garment-vqa" / name, folder / name)
    return folder


def value(name: str, *shape, kind: int = TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, list(shape))


PIXELS = value("pixel_values", "batch", 3, 28, 28)
FLAT = {"flat": numpy.array([-1, PICTURE], numpy.int64)}


def questions(folder: Path) -> Path:
    """Picture and text, two towers of 9.6 and 8.2 MB and a head of 4.2 MB."""
    nodes = [("Reshape", ["pixel_values", "flat"], ["x"], {}), ("MatMul", ["x", "w"], ["y"], {}),
             ("Relu", ["y"], ["seen"], {}),
             ("Gather", ["table", "input_ids"], ["words"], {}), ("ReduceMean", ["words"], ["mean"], {"axes": [1], "keepdims": 0}),
             ("MatMul", ["mean", "t"], ["u"], {}), ("Relu", ["u"], ["said"], {}),
             ("Concat", ["seen", "said"], ["both"], {"axis": 1}), ("MatMul", ["both", "h"], ["z"], {}),
             ("Relu", ["z"], ["hidden"], {}), ("MatMul", ["hidden", "last"], ["logits"], {})]
    tensors = {**FLAT, "w": weights(1, PICTURE, WIDTH), "table": weights(2, 1000, WIDTH), "t": weights(5, WIDTH, WIDTH),
               "h": weights(3, 2 * WIDTH, 512), "last": weights(4, 512, 5)}
    inputs = [PIXELS, value("input_ids", "batch", "sequence", kind=TensorProto.INT64)]
    return save(folder, nodes, inputs, [value("logits", "batch", 5)], tensors)


def classes(folder: Path, seed: int, classes: int) -> Path:
    """A large product that all of these share, with an addition of their own behind it: in one piece the runtime
    makes one operator of the two, whose last bits are others."""
    nodes = [("Reshape", ["pixel_values", "flat"], ["x"], {}), ("MatMul", ["x", "w"], ["y"], {}),
             ("Add", ["y", "b"], ["a"], {}), ("Relu", ["a"], ["r"], {}), ("MatMul", ["r", "h"], ["logits"], {})]
    tensors = {**FLAT, "w": weights(1, PICTURE, WIDTH), "b": weights(seed, WIDTH), "h": weights(seed + 1, WIDTH, classes)}
    return save(folder, nodes, [PIXELS], [value("logits", "batch", classes)], tensors)


def model_of(fleet: Fleet, name: str) -> dict:
    return next(m for m in fleet.get("/s2m3/v1/models")["models"] if m["name"] == name)


def test_a_model_larger_than_every_device(fleet: Fleet, tmp_path: Path) -> None:
    """It is checked cut by cut, and served."""
    fleet.up("--memory", "18M", name="one")
    fleet.join("two", "--memory", "18M")
    folder = questions(tmp_path / "large")
    assert (folder / "onnx" / "model.onnx").stat().st_size > 20e6
    fleet.add(folder)
    model = model_of(fleet, "large")
    assert model["checked"] == "pairwise" and len(model["modules"]) == 3
    places = {d["device"] for m in fleet.get("/s2m3/v1/modules")["modules"] for d in m["devices"] if d["desired"]}
    assert places == {"one", "two"}
    picture = HELD_OUT / "images" / "000.png"
    body = json.dumps({"inputs": {"image": read64(picture), "question": "is it a bag ?"}}).encode()
    got = call(f"{fleet.devices[1].public_url}/pipeline/visual-question-answering/large", body, "application/json")
    assert got.status == 200, got.body
    alone = run(BINARY, "run", "visual-question-answering", "--model", str(folder), "--image", str(picture),
                "--text", "is it a bag ?", "--json").stdout
    assert [(a["answer"], round(a["score"], 8)) for a in got.json()] == [
        (a["answer"], round(a["score"], 8)) for a in json.loads(alone)["answer"]]


def test_a_split_that_costs_bits_is_refused_or_tolerated(fleet: Fleet, tmp_path: Path) -> None:
    device = fleet.up()
    first, second = classes(tmp_path / "first", 10, 4), classes(tmp_path / "second", 20, 6)
    fleet.add(first)
    plain = json.loads(run(BINARY, "add", str(second), "--url", device.public_url, "--json").stdout)
    assert "--tolerance" in plain["note"] and plain["moved"] == []
    assert not {m["digest"] for m in model_of(fleet, "first")["modules"]} & {m["digest"] for m in plain["modules"]}

    passes = plain["note"].split("--tolerance ")[1].split()[0]
    run(BINARY, "remove", "second", "--url", device.public_url)
    shared = json.loads(run(BINARY, "add", str(second), "--url", device.public_url, "--json", "--tolerance", passes).stdout)
    assert shared["note"] == "" and shared["moved"] == ["first"]
    assert any(m["shared_with"] == ["first"] for m in shared["modules"])
    assert 0 < model_of(fleet, "second")["difference"] <= float(passes)
    assert "within" in run(BINARY, "models", "--url", device.public_url).stdout


def test_a_head_in_a_file_of_its_own(fleet: Fleet, tmp_path: Path) -> None:
    """What it takes comes from other files: it is called a head, in the fleet and in a trace."""
    device = fleet.up()
    whole = onnx.load(questions(tmp_path / "parts") / "onnx" / "model.onnx")
    parts = {"vision_model": (["pixel_values"], ["image_embeds"], {"seen": "image_embeds"}, 3),
             "text_model": (["input_ids"], ["text_embeds"], {"said": "text_embeds"}, 7),
             "classifier": (["image_embeds", "text_embeds"], ["logits"], {"seen": "image_embeds", "said": "text_embeds"}, 11)}
    at = 0
    for name, (inputs, outputs, names, end) in parts.items():
        nodes, at = [n for n in whole.graph.node][at:end], end
        for node in nodes:
            node.input[:] = [names.get(i, i) for i in node.input]
            node.output[:] = [names.get(o, o) for o in node.output]
        ports = {"pixel_values": PIXELS, "input_ids": value("input_ids", "batch", "sequence", kind=TensorProto.INT64),
                 "logits": value("logits", "batch", 5), "image_embeds": value("image_embeds", "batch", WIDTH),
                 "text_embeds": value("text_embeds", "batch", WIDTH)}
        used = {i for n in nodes for i in n.input}
        graph = helper.make_graph(nodes, name, [ports[i] for i in inputs], [ports[o] for o in outputs],
                                  [t for t in whole.graph.initializer if t.name in used])
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
                  tmp_path / "parts" / "onnx" / f"{name}.onnx")
    (tmp_path / "parts" / "onnx" / "model.onnx").unlink()
    fleet.add(tmp_path / "parts")
    assert [m["name"] for m in model_of(fleet, "parts")["modules"]] == ["image_encoder", "text_encoder", "parts_head"]
    said = run(BINARY, "run", "visual-question-answering", "--model", "parts", "--image", str(HELD_OUT / "images" / "000.png"),
               "--text", "is it a bag ?", "--trace", "--url", device.public_url).stdout
    assert "parts_head" in said and "tensor" not in said


@pytest.mark.full
def test_more_models_of_one_tower_than_are_compared(fleet: Fleet, tmp_path: Path) -> None:
    """Each is compared with the 63 nearest only; they consist of the one tower and a head each all the same."""
    device, count = fleet.up(), 68
    tower = {**FLAT, "w": weights(1, PICTURE, 150)}
    nodes = [("Reshape", ["pixel_values", "flat"], ["x"], {}), ("MatMul", ["x", "w"], ["y"], {}), ("Relu", ["y"], ["r"], {}),
             ("MatMul", ["r", "h"], ["logits"], {})]
    for i in range(count):
        folder = save(tmp_path / f"m{i}", nodes, [PIXELS], [value("logits", "batch", 4)], tower | {"h": weights(10 + i, 150, 4)})
        added = json.loads(run(BINARY, "add", str(folder), "--url", device.public_url, "--json").stdout)
        assert added["note"] == "" and added["moved"] == (["m0"] if i == 1 else [])
        assert len(added["uncompared"]) == max(0, i - 63)
    used = [{m["digest"] for m in model_of(fleet, f"m{i}")["modules"]} for i in range(count)]
    assert len(set.intersection(*used)) == 1 and len(set.union(*used)) == count + 1
    run(BINARY, "remove", "m0", "--url", device.public_url)
    assert {m["digest"] for m in model_of(fleet, "m1")["modules"]} == used[1]
    picture = read64(HELD_OUT / "images" / "000.png")
    for name in (f"m{count - 1}", "m1"):
        got = call(f"{device.public_url}/pipeline/image-classification/{name}", json.dumps({"inputs": picture}).encode(), "application/json")
        said = run(BINARY, "run", "image-classification", "--model", str(tmp_path / name), "--image", str(HELD_OUT / "images" / "000.png"),
                   "--json").stdout
        assert [a["label"] for a in got.json()] == [a["label"] for a in json.loads(said)["answer"]]

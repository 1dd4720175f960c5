"""Models with external data, as people have them: one file, several, in folders below, in Hugging Face's cache."""
from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Callable, Iterator

import numpy
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.external_data_helper import set_external_data

from conftest import ASAN, BINARY, HELD_OUT, MODELS, Fleet, ask, best, call, cases, run, until
from test_split_made import PIXELS, questions, value

SEARCH = "zero-shot-image-classification"
CLASS = "image-classification"
CAPTION = "image-to-text"
Namer = Callable[[int], str]


def rows_of(task: str) -> list[dict]:
    return [c for c in cases() if c["task"] == task]


def externalise(folder: Path, name: Namer, least: int = 64) -> None:
    """Moves the constants of all .onnx files to the files of data that name() says, each at the next multiple of 64."""
    number = 0
    for path in sorted((folder / "onnx").glob("*.onnx")):
        model = onnx.load(path)
        for tensor in model.graph.initializer:
            if len(tensor.raw_data) < least:
                continue
            location = name(number)
            number += 1
            file = path.parent / location
            file.parent.mkdir(parents=True, exist_ok=True)
            with open(file, "ab") as f:
                f.write(bytes(-f.tell() % 64))
                set_external_data(tensor, location, f.tell(), len(tensor.raw_data))
                f.write(tensor.raw_data)
            tensor.ClearField("raw_data")
        assert number
        path.write_bytes(model.SerializeToString())
        onnx.checker.check_model(str(path))


def cached(folder: Path, cache: Path) -> Path:
    """The folder as Hugging Face's cache has it: content in blobs/, links to it in a snapshot."""
    blobs, snapshot = cache / "models--some--model" / "blobs", cache / "models--some--model" / "snapshots" / "0123abcd"
    blobs.mkdir(parents=True)
    for file in (p for p in sorted(folder.rglob("*")) if p.is_file()):
        blob = blobs / hashlib.sha256(file.read_bytes()).hexdigest()
        shutil.copy(file, blob)
        link = snapshot / file.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        up = "../" * (len(file.relative_to(folder).parts) + 1)
        link.symlink_to(up + "blobs/" + blob.name)
    return snapshot


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two devices, and a coordinator with address sanitizer, with the models of two tasks as they are delivered."""
    made = Fleet(tmp_path_factory.mktemp("external"))
    try:
        made.up("--no-node", "--peer-listen", "127.0.0.1:0", name="coordinator", binary=ASAN)
        made.join("node")
        made.add(*(MODELS / rows_of(task)[0]["model"] for task in (SEARCH, CAPTION)))
        yield made
    finally:
        for device in reversed(made.devices):
            device.stop()


def modules_of(fleet: Fleet, name: str) -> list[str]:
    return [m["digest"] for row in fleet.get("/s2m3/v1/models")["models"] if row["name"] == name for m in row["modules"]]


def answers(fleet: Fleet, case: dict) -> None:
    device = fleet.devices[1]
    until(lambda: ask(device, case).status == 200, 20, "the table with the model")
    assert best(ask(device, case, fresh=True).json()) == case["reference"]


@pytest.mark.parametrize("task,name", [
    (SEARCH, lambda i: "model.onnx_data"),
    (SEARCH, lambda i: f"weights-{i % 5}.bin"),
    (CAPTION, lambda i: f"data/part {i % 3}/w.bin"),
])
def test_same_weights_in_other_files(family: Fleet, tmp_path: Path, task: str, name: Namer) -> None:
    """It consists of the very modules of the model that holds its weights itself, and answers the same; from a
    folder, and from the cache."""
    case = rows_of(task)[0]
    folder = tmp_path / "moved"
    shutil.copytree(MODELS / case["model"], folder)
    externalise(folder, name)
    for source in (folder, cached(folder, tmp_path / "hub")):
        run(BINARY, "add", str(source), "--name", "moved", "--url", family.devices[0].public_url)
        got, own = modules_of(family, "moved"), modules_of(family, case["model"])
        assert got and (got == own or task == CAPTION)  # a decoder stays whole: its file is another
        answers(family, case | {"model": "moved"})
        seen = json.loads(run(BINARY, "inspect", str(source), str(MODELS / case["model"]), "--json").stdout)
        assert seen["models"][0]["modules"] == seen["models"][1]["modules"]
        run(BINARY, "remove", "moved", "--url", family.devices[0].public_url)


def test_a_module_that_is_a_whole_file_and_a_run_without_a_fleet(family: Fleet, tmp_path: Path) -> None:
    case = rows_of(CLASS)[0]
    folder = tmp_path / "whole"
    shutil.copytree(MODELS / case["model"], folder)
    externalise(folder, lambda i: f"w{i % 2}.bin")
    snapshot = cached(folder, tmp_path / "hub")
    run(BINARY, "add", str(snapshot), "--name", "whole", "--whole", "--url", family.devices[0].public_url)
    answers(family, case | {"model": "whole"})
    run(BINARY, "remove", "whole", "--url", family.devices[0].public_url)
    for task, name in ((CLASS, "whole"), (CAPTION, "caption")):
        case = rows_of(task)[0]
        if task == CAPTION:  # its decoder runs whole
            shutil.copytree(MODELS / case["model"], tmp_path / name)
            externalise(tmp_path / name, lambda i: "all.bin")
        said = run(BINARY, "run", task, "--model", str(tmp_path / name), "--image", str(HELD_OUT / case["image"]),
                   "--json").stdout
        assert best(json.loads(said)["answer"]) == case["reference"]


def test_weights_take_no_memory_of_the_coordinator(fleet: Fleet, tmp_path: Path) -> None:
    """22 MB of weights in a file beside the graph: its own memory grows by less than a quarter of that."""
    folder = questions(tmp_path / "large")
    externalise(folder, lambda i: "model.onnx_data")
    assert (folder / "onnx" / "model.onnx").stat().st_size < 4000
    coordinator = fleet.up("--no-node", "--peer-listen", "127.0.0.1:0", name="coordinator")
    fleet.join("node")

    def private() -> int:
        lines = Path(f"/proc/{coordinator.process.pid}/smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Anonymous:"))

    before = private()
    run(BINARY, "add", str(folder), "--url", coordinator.public_url)
    assert len(modules_of(fleet, "large")) == 3
    until(lambda: private() - before < 5 << 20, 60, "what reading took to go back")


def broken(folder: Path, how: str) -> str:
    """Makes the model wrong; what the error has to say, each part of it."""
    path = folder / "onnx" / "model.onnx"
    data = path.parent / "model.onnx_data"
    model = onnx.load(path, load_external_data=False)
    moved = [t for t in model.graph.initializer if t.HasField("data_location")]
    first, second = moved[0], next(t for t in moved[1:] if entries(t)["length"] != entries(moved[0])["length"])
    if how == "missing":
        data.unlink()
        return f"{path}|'{first.name}'|'model.onnx_data'|No such file"
    if how == "short":
        size = data.stat().st_size
        with open(data, "r+b") as f:
            f.truncate(size - 1)
        return f"{path}|'{moved[-1].name}'|'model.onnx_data' ({size - 1})|lie outside"
    if how == "overlap":
        place = entries(second)
        move(first, offset=str(int(place["offset"]) + 4))
        path.write_bytes(model.SerializeToString())
        return f"{path}|'{first.name}'|'{second.name}'|overlap in external data 'model.onnx_data'"
    if how == "link":
        data.rename(folder / "elsewhere")
        data.symlink_to(folder / "elsewhere")
        return f"{path}|'{first.name}'|'model.onnx_data': is a link"
    move(first, location=how)
    path.write_bytes(model.SerializeToString())
    return f"{path}|'{first.name}'|'{how}'|within the model's folder"


def move(tensor: onnx.TensorProto, **to: str) -> None:
    for entry in tensor.external_data:
        entry.value = to.get(entry.key, entry.value)


def entries(tensor: onnx.TensorProto) -> dict[str, str]:
    return {e.key: e.value for e in tensor.external_data}


@pytest.mark.parametrize("how", ["missing", "short", "overlap", "link", "../elsewhere", "/etc/passwd", "a/../../elsewhere", "./model.onnx_data"])
def test_broken_data_is_refused(family: Fleet, tmp_path: Path, how: str) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(MODELS / rows_of(SEARCH)[0]["model"], folder)
    externalise(folder, lambda i: "model.onnx_data")
    (folder / "elsewhere").write_bytes(bytes(1 << 20))
    wanted = broken(folder, how)
    said = run(BINARY, "add", str(folder), "--url", family.devices[0].public_url, code=1).stderr
    for part in wanted.split("|"):
        assert part in said, said
    assert modules_of(family, "broken") == []


def test_links_of_a_snapshot_stay_in_its_cache(family: Fleet, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(MODELS / rows_of(SEARCH)[0]["model"], folder)
    externalise(folder, lambda i: "model.onnx_data")
    snapshot = cached(folder, tmp_path / "hub")
    link = snapshot / "onnx" / "model.onnx_data"
    outside = tmp_path / "outside"
    link.resolve().rename(outside)
    link.unlink()
    link.symlink_to(outside)
    said = run(BINARY, "add", str(snapshot), "--name", "x", "--url", family.devices[0].public_url, code=1).stderr
    assert "'model.onnx_data'" in said and f"is a link to {outside}, outside of" in said


def test_the_coordinator_opens_no_file_by_a_name(family: Fleet, tmp_path: Path) -> None:
    """A graph that was uploaded by itself can't make it read its own files."""
    folder = tmp_path / "model"
    shutil.copytree(MODELS / rows_of(SEARCH)[0]["model"], folder)
    externalise(folder, lambda i: "weights.bin")
    url = family.devices[0].public_url + "/s2m3/v1"
    for name in ("/etc/passwd", "weights.bin"):
        model = onnx.load(folder / "onnx" / "model.onnx", load_external_data=False)
        for tensor in model.graph.initializer:
            move(tensor, location=name)
        text = model.SerializeToString()
        digest = hashlib.sha256(text).hexdigest()
        assert call(f"{url}/uploads/{digest}?offset=0&last=1", text, method="PUT").status == 200
        files = [{"path": "onnx/model.onnx", "digest": digest}]
        answer = call(f"{url}/models", json.dumps({"name": "x", "files": files}).encode(), "application/json")
        assert answer.status in (403, 404) and name in answer.json()["error"]


def test_constants_in_branches(tmp_path: Path) -> None:
    """External ones of an If's branches, tied ones and tiny ones: the run gives the runtime's own answer."""
    wide = numpy.arange(2352 * 4, dtype=numpy.float32).reshape(2352, 4) / (1 << 20)
    then = numpy.array([[1, 2, 3, 4]], numpy.float32)
    branch = [helper.make_graph([helper.make_node("Constant", [], [f"c{i}"], value=numpy_helper.from_array(then * i, f"k{i}")),
                                 helper.make_node("Add", ["y", f"c{i}"], [f"o{i}"])], f"b{i}", [], [value(f"o{i}", "batch", 4)])
              for i in (1, 2)]
    nodes = [helper.make_node("Reshape", ["pixel_values", "flat"], ["x"]), helper.make_node("MatMul", ["x", "w"], ["y0"]),
             helper.make_node("MatMul", ["x", "tied"], ["y1"]), helper.make_node("Sub", ["y0", "y1"], ["y2"]),
             helper.make_node("Add", ["y2", "y0"], ["y"]), helper.make_node("ReduceSum", ["y"], ["sum"], keepdims=0),
             helper.make_node("Less", ["sum", "zero"], ["low"]),
             helper.make_node("If", ["low"], ["logits"], then_branch=branch[0], else_branch=branch[1])]
    tensors = [numpy_helper.from_array(a, n) for n, a in (
        ("flat", numpy.array([-1, 2352], numpy.int64)), ("w", wide), ("tied", wide), ("zero", numpy.zeros((), numpy.float32)))]
    graph = helper.make_graph(nodes, "g", [PIXELS], [value("logits", "batch", 4)], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    source = tmp_path / "branches" / "onnx"
    source.mkdir(parents=True)
    (source.parent / "config.json").write_text(json.dumps({"id2label": {str(i): f"c{i}" for i in range(4)}}))
    shutil.copy(MODELS / "garment-class" / "preprocessor_config.json", source.parent)
    onnx.save(model, source / "model.onnx")
    command = [BINARY, "run", CLASS, "--model", str(source.parent), "--image", str(HELD_OUT / "images" / "000.png"), "--json"]
    plain = json.loads(run(*command).stdout)["answer"]

    places: dict[bytes, int] = {}
    data = b""
    constants = [*model.graph.initializer, *(a.t for n in model.graph.node[-1].attribute for a in n.g.node[0].attribute)]
    for tensor in constants:
        raw = tensor.raw_data
        set_external_data(tensor, "w.bin", places.setdefault(raw, len(data)), len(raw))
        data += raw if places[raw] == len(data) else b""
        tensor.ClearField("raw_data")
    (source / "model.onnx").write_bytes(model.SerializeToString())
    (source / "w.bin").write_bytes(data)
    assert json.loads(run(*command).stdout)["answer"] == plain

"""Bad input gets a 4xx with a reason, and the process goes on (the build with address sanitizer)."""
from __future__ import annotations

import json
import os
import random
import socket
from pathlib import Path
from typing import Iterator

import pytest

from conftest import ASAN, BINARY, HELD_OUT, MODELS, Fleet, call, cases, model_folders, read64, run


@pytest.fixture(scope="module")
def hard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    made = Fleet(tmp_path_factory.mktemp("hard"))
    try:
        made.up(binary=ASAN)
        made.add(*model_folders())
        yield made
    finally:
        for device in made.devices:
            assert device.process.poll() is None, device.log()
            assert device.stop() == 0, device.log()


def refused(fleet: Fleet, path: str, body: bytes, kind: str, statuses=range(400, 500)) -> str:
    answer = call(fleet.devices[0].public_url + path, body, kind)
    assert answer.status in statuses, (answer.status, answer.body[:300])
    reason = answer.json()["error"]
    assert len(reason) > 10
    return reason


def model_of(task: str) -> str:
    return next(c["model"] for c in cases() if c["task"] == task)


def test_truncated_and_hostile_images(hard: Fleet) -> None:
    path = "/pipeline/image-classification/" + model_of("image-classification")
    png = (HELD_OUT / next(c["image"] for c in cases() if "image" in c)).read_bytes()
    for size in (0, 1, 8, 20, 33, len(png) // 2, len(png) * 3 // 4):
        refused(hard, path, png[:size], "image/png")
    huge = bytearray(png)
    huge[16:24] = (200000).to_bytes(4, "big") * 2  # the header's width and height
    refused(hard, path, bytes(huge), "image/png")
    refused(hard, path, b"GIF89a" + bytes(100), "image/gif", [415])
    seed = random.Random(7)
    for _ in range(30):
        broken = bytearray(png)
        for _ in range(8):
            broken[seed.randrange(len(broken))] = seed.randrange(256)
        answer = call(hard.devices[0].public_url + path, bytes(broken), "image/png")
        assert answer.status == 200 or 400 <= answer.status < 500, answer.body


def test_truncated_sounds(hard: Fleet) -> None:
    model = model_of("zero-shot-audio-classification")
    wav = (HELD_OUT / next(c["audio"] for c in cases() if "audio" in c)).read_bytes()
    path = "/pipeline/zero-shot-audio-classification/" + model
    import base64
    for size in (0, 4, 20, 43):
        body = {"inputs": base64.b64encode(wav[:size]).decode(), "parameters": {"candidate_labels": ["a", "b"]}}
        refused(hard, path, json.dumps(body).encode(), "application/json")


def test_broken_json(hard: Fleet) -> None:
    path = "/pipeline/visual-question-answering/" + model_of("visual-question-answering")
    image = read64(HELD_OUT / next(c["image"] for c in cases() if "image" in c))
    bad = [b"", b"{", b"[]", b"null", b'{"inputs": 5}', b'{"inputs": {"image": "!!!", "question": "x"}}',
           json.dumps({"inputs": {"image": image}}).encode(),
           json.dumps({"inputs": {"image": image, "question": 7}}).encode(),
           json.dumps({"inputs": {"image": image, "question": "what"}, "parameters": []}).encode(),
           json.dumps({"inputs": {"image": "http://10.0.0.1/x.png", "question": "what"}}).encode(),
           b"[" * 100000, b'{"inputs": {"image": "' + b"A" * 1000 + b'", "question": "\xff"}}']
    for body in bad:
        refused(hard, path, body, "application/json")
    zero = "/pipeline/zero-shot-image-classification/" + model_of("zero-shot-image-classification")
    for labels in ([], 5, [1], ["x"] * 100001):
        refused(hard, zero, json.dumps({"inputs": image, "parameters": {"candidate_labels": labels}}).encode(),
                "application/json")


def test_unknown_things(hard: Fleet) -> None:
    model = model_of("image-classification")
    assert "nothing" in refused(hard, "/models/nothing", b"{}", "application/json", [404])
    refused(hard, "/pipeline/no-such-task/" + model, b'{"inputs": "x"}', "application/json", [404])
    refused(hard, "/pipeline/image-to-text/" + model, b'{"inputs": "x"}', "application/json", [404])
    refused(hard, "/s2m3/v1/nothing", b"{}", "application/json", [404, 405])
    url = hard.devices[0].public_url
    answer = call(url + "/models/" + model, method="DELETE")
    assert answer.status == 405 and "POST" in answer.headers["Allow"]
    assert call(url + "/healthz").status == 200
    assert call(url + "/healthz", Host="evil.example").status == 403
    assert call(url + "/healthz", Origin="http://evil.example").status == 403


def test_smuggling_and_sizes(hard: Fleet) -> None:
    host, port = hard.devices[0].public_url.removeprefix("http://").split(":")
    model = model_of("image-classification")
    head = f"POST /models/{model} HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
    requests = [head + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
                head + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                head + "Content-Length: -1\r\n\r\n", head + "Content-Length: 99999999999999\r\n\r\n",
                head + "X: " + "y" * 200000 + "\r\n\r\n", "POST / HTTP/1.1\r\n\r\n"]
    for text in requests:
        with socket.create_connection((host, int(port)), timeout=60) as s:
            s.sendall(text.encode())
            s.settimeout(60)
            try:
                line = s.recv(64).split(b"\r\n")[0]
            except ConnectionError:
                continue
            assert line == b"" or line.split()[1].startswith(b"4"), (text[:80], line)


def test_a_body_without_a_length(hard: Fleet) -> None:
    host, port = hard.devices[0].public_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as s:
        s.sendall(f"POST /models/{model_of('image-classification')} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert s.recv(64).split()[1] == b"411"


def test_tensors_for_a_module(hard: Fleet) -> None:
    device = hard.devices[0]
    module = next(m for m in hard.get("/s2m3/v1/modules")["modules"] if len(m["models"]) == 5)
    url = f"{device.peer_url}/v2/models/{module['digest']}/infer"
    port = json.loads(call(f"{device.peer_url}/v2/models/{module['digest']}").body)["inputs"][0]
    for tensor in ({"name": "other", "datatype": "FP32", "shape": [1], "data": [0]},
                   {"name": port["name"], "datatype": "FP32", "shape": [1], "data": [0]},
                   {"name": port["name"], "datatype": "INT64", "shape": [1, 3, 28, 28], "data": [0] * 2352},
                   {"name": port["name"], "datatype": "FP32", "shape": [2**40, 2**40], "data": [0]}):
        answer = call(url, json.dumps({"inputs": [tensor]}).encode(), "application/json")
        assert 400 <= answer.status < 500, answer.body
    for body in (b"S2F1", b"S2F1\xff\xff\xff\x7f", b"S2F1\x02\x00\x00\x00{}", os.urandom(400)):
        for path in ("call", "deliver"):
            answer = call(f"{device.peer_url}/s2m3/v1/{path}", body, "application/x-s2m3-frame")
            assert 400 <= answer.status < 500, answer.body


def copy_model(source: Path, target: Path) -> Path:
    for file in source.rglob("*"):
        if file.is_file():
            to = target / file.relative_to(source)
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes(file.read_bytes())
    return target


def test_hostile_model_files(hard: Fleet, tmp_path: Path) -> None:
    """Broken tokenizers, configurations and graphs are refused with a reason; nothing is half added."""
    url = hard.devices[0].public_url
    source = MODELS / model_of("visual-question-answering")
    breakages = {
        "tokenizer.json": [b"", b"{", b'{"model": {"type": "Nonsense"}}'],
        "preprocessor_config.json": [b"[]", b'{"size": {"height": -1, "width": 99999999}, "do_resize": true}'],
        "config.json": [b"{", b"[1]"],
    }
    graph = next((source / "onnx").glob("*.onnx")).relative_to(source)
    data = (source / graph).read_bytes()
    breakages[str(graph)] = [b"", data[: len(data) // 2], b"\x00" * 1000, os.urandom(2000)]
    for name, contents in breakages.items():
        for number, content in enumerate(contents):
            folder = copy_model(source, tmp_path / f"{name.replace('/', '-')}-{number}")
            (folder / name).write_bytes(content)
            done = run(BINARY, "add", str(folder), "--url", url, code=1)
            assert len(done.stderr) > 20, done.stderr
    names = [m["name"] for m in hard.get("/s2m3/v1/models")["models"]]
    assert sorted(names) == sorted(f.name for f in model_folders())


def test_links_out_of_the_folder(hard: Fleet, tmp_path: Path) -> None:
    folder = copy_model(MODELS / model_of("image-classification"), tmp_path / "linked")
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to("/etc/hostname")
    done = run(BINARY, "add", str(folder), "--url", hard.devices[0].public_url, code=1)
    assert "outside" in done.stderr

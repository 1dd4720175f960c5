"""The answers of a fleet are those of the unsplit models; any gateway gives them."""
from __future__ import annotations

import json

import numpy
import pytest
import tritonclient.http as triton
from huggingface_hub import InferenceClient

from conftest import BINARY, HELD_OUT, MODELS, Fleet, ask, best, call, cases, model_folders, read64, run


def test_every_committed_case_has_the_answer_of_the_unsplit_model(three: Fleet) -> None:
    done = run(BINARY, "eval", "--cases", str(HELD_OUT / "cases.jsonl"), "--url", three.devices[0].public_url,
               "--json")
    result = json.loads(done.stdout)
    assert result["cases"] == len(cases())
    assert result["same"] == result["cases"], result
    assert result["failed"] == 0


def test_any_gateway_answers(three: Fleet) -> None:
    case = cases()[0]
    answers = [ask(device, case) for device in three.devices]
    assert [a.status for a in answers] == [200] * 3
    assert len({a.body for a in answers}) == 1


def test_models_are_shared(three: Fleet) -> None:
    status = three.get("/s2m3/v1/status")
    assert status["models"] == 5
    assert status["memory_shared_bytes"] < 0.7 * status["memory_unshared_bytes"]
    vision = [m for m in three.get("/s2m3/v1/modules")["modules"] if len(m["models"]) == 5]
    assert len(vision) == 1


def test_a_run_without_a_fleet_gives_the_same(three: Fleet) -> None:
    for task in ("image-classification", "visual-question-answering", "image-to-text"):
        case = next(c for c in cases() if c["task"] == task)
        command = [BINARY, "run", task, "--model", str(MODELS / case["model"]), "--image",
                   str(HELD_OUT / case["image"]), "--json"]
        command += ["--text", case["text"]] if "text" in case else []
        assert best(json.loads(run(*command).stdout)["answer"]) == case["reference"]


def test_triton_client_calls_a_module(three: Fleet) -> None:
    module = next(m for m in three.get("/s2m3/v1/modules")["modules"] if len(m["models"]) == 5)
    place = next(d["device"] for d in module["devices"] if d["state"] == "ready")
    device = next(d for d in three.devices if d.name == place)
    client = triton.InferenceServerClient(device.peer_url.removeprefix("http://"))
    assert client.is_server_live() and client.is_model_ready(module["digest"])
    metadata = client.get_model_metadata(module["digest"])
    port = metadata["inputs"][0]
    shape = [1 if d < 0 else d for d in port["shape"]]
    pixels = numpy.linspace(-1, 1, int(numpy.prod(shape)), dtype=numpy.float32).reshape(shape)
    results = []
    for binary in (True, False):
        given = triton.InferInput(port["name"], shape, port["datatype"])
        given.set_data_from_numpy(pixels, binary_data=binary)
        wanted = triton.InferRequestedOutput(metadata["outputs"][0]["name"], binary_data=binary)
        answer = client.infer(module["digest"], [given], outputs=[wanted])
        results.append(answer.as_numpy(metadata["outputs"][0]["name"]))
    assert numpy.allclose(results[0], results[1])
    assert numpy.abs(results[0]).sum() > 0
    with pytest.raises(triton.InferenceServerException):
        client.get_model_metadata("nothing")
    client.close()


def test_huggingface_client(three: Fleet) -> None:
    case = next(c for c in cases() if c["task"] == "image-classification")
    url = f"{three.devices[0].public_url}/pipeline/image-classification/{case['model']}"
    client = InferenceClient(model=url, token="none")
    rows = client.image_classification(str(HELD_OUT / case["image"]))
    assert rows[0].label == case["reference"]
    case = next(c for c in cases() if c["task"] == "image-to-text")
    url = f"{three.devices[0].public_url}/models/{case['model']}"
    answer = call(url, (HELD_OUT / case["image"]).read_bytes(), "image/png")
    assert best(answer.json()) == case["reference"]


def test_retrieval_ranks_the_pictures(three: Fleet) -> None:
    rows = [c for c in cases() if c["task"] == "image-classification"][:6]
    images = [read64(HELD_OUT / c["image"]) for c in rows]
    model = next(c["model"] for c in cases() if c["task"] == "zero-shot-image-classification")
    body = json.dumps({"inputs": {"text": f"a photo of a {rows[0]['truth']}", "images": images}}).encode()
    answer = call(f"{three.devices[0].public_url}/pipeline/text-to-image-retrieval/{model}", body, "application/json")
    assert answer.status == 200, answer.body
    ranked = answer.json()
    assert sorted(r["index"] for r in ranked) == list(range(6))
    assert [r["score"] for r in ranked] == sorted((r["score"] for r in ranked), reverse=True)
    assert rows[ranked[0]["index"]]["truth"] == rows[0]["truth"]


def test_trace_shows_each_call(three: Fleet) -> None:
    case = next(c for c in cases() if c["task"] == "visual-question-answering")
    answer = ask(three.devices[0], case, fresh=True)
    trace = three.get("/s2m3/v1/traces/" + answer.headers["S2M3-Request"])
    assert len(trace["spans"]) == 3
    assert all(s["run_ms"] > 0 and s["device"] for s in trace["spans"])


def test_adding_twice_and_removing(fleet: Fleet) -> None:
    fleet.up()
    folders = model_folders()
    fleet.add(folders[0], folders[1])
    url = fleet.devices[0].public_url
    assert "there is one already" in run(BINARY, "add", str(folders[0]), "--url", url, code=1).stderr
    before = len(fleet.get("/s2m3/v1/modules")["modules"])
    run(BINARY, "remove", folders[0].name, "--url", url)
    after = fleet.get("/s2m3/v1/modules")["modules"]
    assert 0 < len(after) < before
    assert all(m["models"] == [folders[1].name] for m in after)
    assert call(f"{url}/models/{folders[0].name}", b"{}", "application/json").status == 404

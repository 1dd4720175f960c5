"""A model that no code was made for is added with only its side files, and served."""
from __future__ import annotations

import io
import json
import math
from pathlib import Path

import numpy
from PIL import Image

import sixth
from conftest import Fleet, call


def pictures() -> list[bytes]:
    seed = numpy.random.default_rng(3)
    out = []
    for number, (width, height) in enumerate([(31, 24), (20, 57), (64, 64)]):
        array = seed.integers(0, 256, (height, width, 3), dtype=numpy.uint8)
        buffer = io.BytesIO()
        Image.fromarray(array).save(buffer, "PNG" if number else "WEBP", **({} if number else {"lossless": True}))
        out.append(buffer.getvalue())
    return out


def read(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def post(url: str, body: object) -> list:
    answer = call(url, json.dumps(body).encode(), "application/json")
    assert answer.status == 200, answer.body
    return answer.json()


def b64(data: bytes) -> str:
    import base64
    return base64.b64encode(data).decode()


def test_models_that_no_code_was_made_for(fleet: Fleet, tmp_path: Path) -> None:
    search, questions = sixth.make(tmp_path)
    fleet.up(name="one")
    fleet.join("two")
    fleet.add(search, questions)
    url = fleet.devices[1].public_url
    tasks = {m["name"]: m["tasks"] for m in fleet.get("/s2m3/v1/models")["models"]}
    assert "zero-shot-image-classification" in tasks["odd-search"]
    assert "visual-question-answering" in tasks["odd-questions"]

    plain = sixth.Plain(questions)
    for data in pictures():
        for text in sixth.TEXTS:
            rows = post(f"{url}/pipeline/visual-question-answering/odd-questions",
                        {"inputs": {"image": b64(data), "question": text}})
            wanted = plain.answer(read(data), text)
            assert rows[0]["answer"] == sixth.ANSWERS[int(wanted.argmax())]
            assert math.isclose(rows[0]["score"], wanted.max(), rel_tol=1e-5)

    plain = sixth.Plain(search)
    for data in pictures():
        rows = post(f"{url}/pipeline/zero-shot-image-classification/odd-search",
                    {"inputs": b64(data), "parameters": {"candidate_labels": sixth.TEXTS}})
        picture = plain.picture(read(data))[0]
        sentences = [plain.sentence(t)[0] for t in sixth.TEXTS]
        cosines = [float(picture @ s / numpy.linalg.norm(picture) / numpy.linalg.norm(s)) for s in sentences]
        e = numpy.exp((numpy.array(cosines) - max(cosines)) * math.exp(1.5))
        wanted = dict(zip(sixth.TEXTS, e / e.sum()))
        for row in rows:
            assert math.isclose(row["score"], wanted[row["label"]], rel_tol=1e-4)

    vector = post(f"{url}/pipeline/feature-extraction/odd-search", {"inputs": {"text": sixth.TEXTS[4]}})
    assert numpy.allclose(vector, plain.sentence(sixth.TEXTS[4])[0], atol=1e-5)

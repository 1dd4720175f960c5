"""verify.py [--models DIR] - looks over the model folders and the held-out cases.

Checks that each folder has its files and readable sidecars, that inputs and outputs have the
expected names, that parts which are to be shared hold equal weights, that everything together is
within its size, that a whole model gives the bits of its parts run one by one, that the stored
references are what the models answer now, and that the answers are good enough.
Prints the table of sharing; exit 1 and a line for each fault.

Needs what reference.py and whole.py need.
"""
from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx.utils
from onnx import numpy_helper
from tokenizers import Tokenizer

import data
import reference
from reference import HERE, Model, session

TOTAL_MAX = 24 << 20
PAST = [f"past_key_values.{i}.{k}" for i in range(2) for k in ("key", "value")]
IMAGE = ["image_embeds", "last_hidden_state"]
WORDS = ["input_ids", "attention_mask"]
# folder -> file -> (inputs, outputs)
LAYOUT: dict[str, dict[str, tuple[list[str], list[str]]]] = {
    "garment-search": {"model": (["pixel_values", *WORDS],
                                 [*IMAGE, "text_embeds", "logits_per_image_text"])},
    "garment-vqa": {"model": (["pixel_values", *WORDS], [*IMAGE, "text_embeds", "logits"])},
    "garment-voice": {"model": (["pixel_values", *WORDS, "input_values"],
                                [*IMAGE, "text_embeds", "audio_embeds", "logits_per_image_text",
                                 "logits_per_image_audio", "logits_per_text_audio"])},
    "garment-caption": {"encoder_model": (["pixel_values"], IMAGE),
                        "decoder_model_merged": (
                            ["input_ids", "encoder_hidden_states", *PAST],
                            ["logits", *[n.replace("past_key_values", "present") for n in PAST]])},
    "garment-class": {"model": (["pixel_values"], [*IMAGE, "logits"])},
}
# part -> (inputs, outputs, {folder: file} that have it)
PARTS: dict[str, tuple[list[str], list[str], dict[str, str]]] = {
    "vision": (["pixel_values"], IMAGE,
               {n: "encoder_model" if n == "garment-caption" else "model" for n in LAYOUT}),
    "text": (WORDS, ["text_embeds"],
             {n: "model" for n in ("garment-search", "garment-vqa", "garment-voice")}),
    "audio": (["input_values"], ["audio_embeds"], {"garment-voice": "model"}),
    "answers": (["image_embeds", "text_embeds"], ["logits"], {"garment-vqa": "model"}),
    "classes": (["image_embeds"], ["logits"], {"garment-class": "model"}),
    "decoder": (*LAYOUT["garment-caption"]["decoder_model_merged"],
                {"garment-caption": "decoder_model_merged"}),
}
# Least share of right answers among the held-out cases; well above every baseline.
LEAST = {"zero-shot-image-classification": 0.75, "image-classification": 0.75,
         "visual-question-answering": 0.85, "image-to-text": 0.55,
         "zero-shot-audio-classification": 0.8}


class Faults:
    def __init__(self) -> None:
        self.found: list[str] = []

    def check(self, good: bool, what: str) -> None:
        if not good:
            self.found.append(what)


def part_weights(path: Path, inputs: list[str], outputs: list[str]) -> dict[str, int]:
    """SHA-256 -> bytes of the distinct constant tensors of a part: initializers and Constant nodes."""
    model = onnx.load(path)
    graph = onnx.utils.Extractor(model).extract_model(inputs, outputs).graph
    tensors = list(graph.initializer)
    tensors += [a.t for n in graph.node if n.op_type == "Constant" for a in n.attribute
                if a.name == "value"]
    arrays = [numpy_helper.to_array(t) for t in tensors]
    return {hashlib.sha256(f"{a.dtype}{a.shape}".encode() + a.tobytes()).hexdigest(): a.nbytes
            for a in arrays}


def check_folder(folder: Path, files: dict[str, tuple[list[str], list[str]]], faults: Faults
                 ) -> None:
    there = sorted(p.stem for p in (folder / "onnx").glob("*.onnx"))
    faults.check(there == sorted(files), f"{folder.name}: onnx/ has {there}")
    for file, (inputs, outputs) in files.items():
        s = session(folder / "onnx" / f"{file}.onnx")
        got = ([i.name for i in s.get_inputs()], [o.name for o in s.get_outputs()])
        faults.check(got == (inputs, outputs), f"{folder.name}/{file}: ports are {got}")
    for sidecar in folder.glob("*.json"):
        faults.check(isinstance(json.loads(sidecar.read_text()), dict),
                     f"{sidecar}: not an object")
    if (folder / "tokenizer.json").exists():
        check_tokenizer(folder, faults)


def check_tokenizer(folder: Path, faults: Faults) -> None:
    """The tokenizer gives what training used."""
    t = Tokenizer.from_file(str(folder / "tokenizer.json"))
    index = {w: i for i, w in enumerate(data.vocabulary())}
    for text in ["A photo of a T-shirt.", "is it light, grey or dark?", "", "zebra boot " * 20]:
        ids = data.encode([text], index)[0]
        faults.check(t.encode(text).ids == [i for i in ids.tolist() if i != data.PAD],
                     f"{folder.name}: ids of '{text[:30]}' are not those of training")


def check_sharing(models: Path, faults: Faults) -> None:
    """A part has equal weights wherever it is; prints which part is in which models."""
    print("| part | weights, bytes | models |\n|---|---|---|")
    once = apart = 0
    for part, (inputs, outputs, users) in PARTS.items():
        weights = [part_weights(models / name / "onnx" / f"{file}.onnx", inputs, outputs)
                   for name, file in users.items()]
        size = sum(weights[0].values())
        faults.check(all(w == weights[0] for w in weights), f"{part}: not equal in {[*users]}")
        names = ", ".join(n.removeprefix("garment-") for n in users)
        print(f"| {part} | {size} | {names} |")
        once, apart = once + size, apart + size * len(users)
    print(f"\nweights: {apart} bytes in five models, {once} with each part once: "
          f"{1 - once / apart:.1%} saved")


def check_whole(models: Path, name: str, faults: Faults) -> None:
    """The whole at the same optimisation level gives the bits of its parts."""
    rng = np.random.default_rng(5)
    have = {"pixel_values": rng.uniform(-1, 1, (1, 3, 28, 28)).astype(np.float32),
            "input_ids": np.array([[2, 8, 58, 3]], np.int64),
            "attention_mask": np.ones((1, 4), np.int64),
            "input_values": rng.uniform(-1, 1, (1, 32000)).astype(np.float32)}
    model = Model(models / name)
    if "model" not in LAYOUT[name]:
        return
    got = model.run(have)
    for part, (inputs, outputs, users) in PARTS.items():
        if name not in users:
            continue
        run = model.part(inputs, outputs)
        have |= run({n: have[n] for n in inputs})
        for key in outputs:
            faults.check(np.array_equal(got[key], have[key]),
                         f"{name}: whole and {part} differ in {key}")


def check_cases(models: Path, faults: Faults) -> None:
    at = models / "held-out"
    stored = {r["id"]: r["reference"] for r in reference.read_rows(at)}
    rows = reference.fill(at, models)
    for row in rows:
        faults.check(stored[row["id"]] == row["reference"],
                     f"held-out {row['id']}: stored '{stored[row['id']]}', "
                     f"now '{row['reference']}'")
    faults.check(len(rows) == 200, f"held-out: {len(rows)} cases, should be 200")
    result = reference.accuracy(rows)
    faults.check(result.keys() == LEAST.keys(), f"held-out: tasks are {sorted(result)}")
    print()
    for task, (right, count) in result.items():
        print(f"{task}: {right} of {count}")
        faults.check(right / count >= LEAST.get(task, 1), f"{task}: only {right} of {count} right")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=HERE)
    models = parser.parse_args().models
    faults = Faults()
    for name, files in LAYOUT.items():
        check_folder(models / name, files, faults)
        check_whole(models, name, faults)
    check_sharing(models, faults)
    total = sum(p.stat().st_size for name in [*LAYOUT, "held-out"]
                for p in (models / name).rglob("*") if p.is_file())
    faults.check(total <= TOTAL_MAX, f"{total} bytes, more than {TOTAL_MAX}")
    check_cases(models, faults)
    for fault in faults.found:
        print(f"fault: {fault}", file=sys.stderr)
    sys.exit(1 if faults.found else 0)


if __name__ == "__main__":
    main()

"""verify.py [--models DIR] - looks over the model folders and the held-out cases.

Checks that each folder has its files and readable sidecars, that inputs and outputs have the
expected names, that files which are to be shared have equal bytes, that everything together is
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
import onnxruntime as ort
from onnx import numpy_helper
from tokenizers import Tokenizer

import data
import reference
from reference import HERE, Model, session
from whole import whole

TOTAL_MAX = 24 << 20
PAST = [f"past_key_values.{i}.{k}" for i in range(2) for k in ("key", "value")]
VISION = (["pixel_values"], ["image_embeds", "last_hidden_state"])
TEXT = (["input_ids", "attention_mask"], ["text_embeds"])
# folder -> file -> (inputs, outputs)
LAYOUT: dict[str, dict[str, tuple[list[str], list[str]]]] = {
    "garment-search": {"vision_model": VISION, "text_model": TEXT},
    "garment-vqa": {"vision_model": VISION, "text_model": TEXT,
                    "classifier": (["image_embeds", "text_embeds"], ["logits"])},
    "garment-voice": {"vision_model": VISION, "text_model": TEXT,
                      "audio_model": (["input_values"], ["audio_embeds"])},
    "garment-caption": {"encoder_model": VISION,
                        "decoder_model_merged": (
                            ["input_ids", "encoder_hidden_states", *PAST],
                            ["logits", *[n.replace("past_key_values", "present") for n in PAST]])},
    "garment-class": {"vision_model": VISION, "classifier": (["image_embeds"], ["logits"])},
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


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def weight_bytes(path: Path) -> int:
    """Bytes of the distinct constant tensors: initializers and Constant nodes."""
    graph = onnx.load(path).graph
    tensors = list(graph.initializer)
    tensors += [a.t for n in graph.node if n.op_type == "Constant" for a in n.attribute
                if a.name == "value"]
    arrays = [numpy_helper.to_array(t) for t in tensors]
    return sum({(str(a.dtype), a.shape, a.tobytes()): a.nbytes for a in arrays}.values())


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
    """Equal parts have equal bytes; prints which file is in which models."""
    users: dict[str, list[Path]] = {}
    for name, files in LAYOUT.items():
        for file in files:
            path = models / name / "onnx" / f"{file}.onnx"
            users.setdefault(digest(path), []).append(path)
    faults.check(sorted(map(len, users.values())) == [1, 1, 1, 1, 3, 5],
                 "sharing: not one vision file of five, one text file of three, four others")
    print("| file | SHA-256 (first 16) | bytes | weights, bytes | models |\n|---|---|---|---|---|")
    whole_bytes = apart = 0
    for key, paths in users.items():
        size, names = weight_bytes(paths[0]), [p.parts[-3].removeprefix("garment-") for p in paths]
        print(f"| {paths[0].name} | {key[:16]} | {paths[0].stat().st_size} | {size} | "
              f"{', '.join(names)} |")
        whole_bytes, apart = whole_bytes + size, apart + size * len(paths)
    print(f"\nweights: {apart} bytes in five models, {whole_bytes} with each part once: "
          f"{1 - whole_bytes / apart:.1%} saved")


def whole_inputs(name: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    every = {"pixel_values": rng.uniform(-1, 1, (1, 3, 28, 28)).astype(np.float32),
             "input_ids": np.array([[2, 8, 58, 3]], np.int64),
             "attention_mask": np.ones((1, 4), np.int64),
             "input_values": rng.uniform(-1, 1, (1, 32000)).astype(np.float32),
             **{n: np.zeros((1, 4, 0, 32), np.float32) for n in PAST}}
    wanted = {n for inputs, _ in LAYOUT[name].values() for n in inputs}
    return {n: v for n, v in every.items() if n in wanted}


def check_whole(models: Path, name: str, faults: Faults) -> None:
    """The joined model at the same optimisation level gives the bits of its parts."""
    inputs = whole_inputs(name)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    joined = ort.InferenceSession(whole(models / name).SerializeToString(), options,
                                  providers=["CPUExecutionProvider"])
    got = dict(zip([o.name for o in joined.get_outputs()], joined.run(None, inputs)))
    have = dict(inputs)
    for file, (needs, _) in LAYOUT[name].items():
        part = Model(models / name)
        have |= part.run(file, {n: have["last_hidden_state" if n == "encoder_hidden_states" else n]
                                for n in needs})
    for key in got.keys() & have.keys():
        faults.check(np.array_equal(got[key], have[key]),
                     f"{name}: whole and parts differ in {key}")


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

"""reference.py OUT [--models DIR] - fills "reference" in OUT/cases.jsonl.

The reference is what a model answers when nothing is split or distributed: one Python process,
ONNX Runtime with one thread, each file whole in one session, batch 1, inputs made by Pillow, numpy
and the tokenizers package as the sidecars of the model say.  Scores of zero-shot rows are softmax(exp(scale) * cosine) over the
labels put into the template; the first of equal labels wins.

Needs: onnxruntime, numpy, Pillow, tokenizers (requirements.txt); Model.part() also onnx.
"""
from __future__ import annotations

import argparse
import json
import os
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Callable

import numpy as np
import onnx
import onnx.utils
from PIL import Image
from tokenizers import Tokenizer

from speech import read_wav

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime as ort  # noqa: E402  (reads the variable when it is loaded)

HERE = Path(__file__).parent
Row = dict[str, Any]
FILLERS = {"pixel_values": np.zeros((1, 3, 28, 28), np.float32),
           "input_ids": np.ones((1, 1), np.int64), "attention_mask": np.ones((1, 1), np.int64),
           "input_values": np.zeros((1, 32000), np.float32)}


def session(model: Path | bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return ort.InferenceSession(model if isinstance(model, bytes) else str(model), options, providers=["CPUExecutionProvider"])


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


class Model:
    """One model folder: its sidecars, and its ONNX files opened when they are first used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = json.loads((folder / "config.json").read_text())
        self.sessions: dict[str, ort.InferenceSession] = {}

    def run(self, inputs: dict[str, np.ndarray], file: str = "model") -> dict[str, np.ndarray]:
        """All outputs.  An input that is not given is one of silence, black or a single token: what
        does not depend on it is as it would be anyway."""
        if file not in self.sessions:
            self.sessions[file] = session(self.folder / "onnx" / f"{file}.onnx")
        s = self.sessions[file]
        feeds = {i.name: inputs.get(i.name, FILLERS.get(i.name)) for i in s.get_inputs()}
        return dict(zip([o.name for o in s.get_outputs()], s.run(None, feeds)))

    def part(self, inputs: list[str], outputs: list[str], file: str = "model"
             ) -> Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]:
        """Only what lies between some values of a file, for measuring in batches."""
        model = onnx.load(self.folder / "onnx" / f"{file}.onnx")
        cut = onnx.utils.Extractor(model).extract_model(inputs, outputs)
        s = session(cut.SerializeToString())
        return lambda feeds: dict(zip(outputs, s.run(None, feeds)))

    @cached_property
    def processor(self) -> dict[str, Any]:
        return json.loads((self.folder / "preprocessor_config.json").read_text())

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return Tokenizer.from_file(str(self.folder / "tokenizer.json"))

    @cached_property
    def scale(self) -> float:
        return float(np.exp(self.config["logit_scale_init_value"]))

    @cached_property
    def template(self) -> str:
        return json.loads((self.folder / "s2m3.json").read_text())["hypothesis_template"]

    def label(self, logits: np.ndarray) -> str:
        return self.config["id2label"][str(int(logits[0].argmax()))]

    def pixels(self, path: Path) -> np.ndarray:
        """[1,3,h,w] float32"""
        p = self.processor.get("image_processor", self.processor)
        picture = Image.open(path).convert("RGB")
        size = (p["size"]["width"], p["size"]["height"])
        x = np.asarray(picture.resize(size, Image.Resampling(p["resample"])))
        x = (x.astype(np.float64) * p["rescale_factor"]).astype(np.float32)
        x = (x - np.float32(p["image_mean"])) / np.float32(p["image_std"])
        return np.ascontiguousarray(x.transpose(2, 0, 1))[None]

    def samples(self, path: Path) -> np.ndarray:
        """[1,max_length] float32, cut or filled with silence"""
        p = self.processor.get("feature_extractor", self.processor)
        x = read_wav(path)[:p["max_length"]]
        return np.pad(x, (0, p["max_length"] - len(x)), constant_values=p["padding_value"])[None]

    def ids(self, text: str) -> dict[str, np.ndarray]:
        e = self.tokenizer.encode(text)
        return {"input_ids": np.array([e.ids], np.int64),
                "attention_mask": np.array([e.attention_mask], np.int64)}

    def image(self, path: Path) -> np.ndarray:
        return self.run({"pixel_values": self.pixels(path)})["image_embeds"]

    def audio(self, path: Path) -> np.ndarray:
        return self.run({"input_values": self.samples(path)})["audio_embeds"]

    @lru_cache(maxsize=4096)  # noqa: B019  (the models live as long as the program)
    def text(self, text: str) -> np.ndarray:
        return self.run(self.ids(text))["text_embeds"]

    def scores(self, query: np.ndarray, labels: list[str]) -> np.ndarray:
        """[labels] probabilities of a picture's or clip's embedding [1,width]"""
        texts = np.concatenate([self.text(self.template.format(t)) for t in labels])
        return softmax(self.scale * (texts @ query[0]))

    def caption(self, path: Path) -> str:
        g = json.loads((self.folder / "generation_config.json").read_text())
        seen = self.run({"pixel_values": self.pixels(path)}, "encoder_model")["last_hidden_state"]
        c = self.config
        shape = (1, c["num_attention_heads"], 0, seen.shape[2] // c["num_attention_heads"])
        past = {f"past_key_values.{i}.{k}": np.zeros(shape, np.float32)
                for i in range(c["num_hidden_layers"]) for k in ("key", "value")}
        ids, last = [], g["decoder_start_token_id"]
        while len(ids) < g["max_new_tokens"]:
            out = self.run({"input_ids": np.array([[last]], np.int64),
                            "encoder_hidden_states": seen, **past}, "decoder_model_merged")
            last = int(out["logits"][0, -1].argmax())
            if last == g["eos_token_id"]:
                break
            ids.append(last)
            past = {k: out[k.replace("past_key_values", "present")] for k in past}
        return self.tokenizer.decode(ids)


def answer(model: Model, row: Row, at: Path) -> str:
    """The answer of a row; its files are under `at`."""
    task = row["task"]
    if task == "image-to-text":
        return model.caption(at / row["image"])
    if task == "zero-shot-audio-classification":
        scores = model.scores(model.audio(at / row["audio"]), row["labels"])
        return row["labels"][int(scores.argmax())]
    if task == "zero-shot-image-classification":
        scores = model.scores(model.image(at / row["image"]), row["labels"])
        return row["labels"][int(scores.argmax())]
    inputs = {"pixel_values": model.pixels(at / row["image"])}
    if task == "visual-question-answering":
        inputs |= model.ids(row["text"])
    elif task != "image-classification":
        raise ValueError(f"row {row['id']}: task {task} is not one of the five")
    return model.label(model.run(inputs)["logits"])


def read_rows(at: Path) -> list[Row]:
    return [json.loads(line) for line in (at / "cases.jsonl").read_text().splitlines()]


def write_rows(at: Path, rows: list[Row]) -> None:
    text = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)
    part = at / "cases.jsonl.part"
    part.write_text(text)
    part.replace(at / "cases.jsonl")


def fill(at: Path, models: Path) -> list[Row]:
    """The rows of OUT with "reference" filled in."""
    open_models: dict[str, Model] = {}
    rows = read_rows(at)
    for row in rows:
        name = row["model"]
        if name not in open_models:
            open_models[name] = Model(models / name)
        row["reference"] = answer(open_models[name], row, at)
    return rows


def accuracy(rows: list[Row]) -> dict[str, tuple[int, int]]:
    """task -> (right, all), of the reference answers"""
    out: dict[str, tuple[int, int]] = {}
    for row in rows:
        right, count = out.get(row["task"], (0, 0))
        out[row["task"]] = (right + (row["reference"] == row["truth"]), count + 1)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--models", type=Path, default=HERE)
    args = parser.parse_args()
    rows = fill(args.out, args.models)
    write_rows(args.out, rows)
    for task, (right, count) in accuracy(rows).items():
        print(f"{task}: {right} of {count} right ({right / count:.1%})")


if __name__ == "__main__":
    main()

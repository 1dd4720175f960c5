"""Two models that nothing was built for: other widths, picture sizes, tokenizers, output names.

Random weights with a fixed seed; what counts is that a fleet answers as plain Python does.
"""
from __future__ import annotations

import json
from pathlib import Path

import numpy
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

WIDTH = 48
SIDE = 20
ANSWERS = ["red", "green", "blue", "none of these", "cannot tell"]
TEXTS = ["a red square over a blue one", "is there anything green?", "what colour is it", "nothing but noise",
         "Ünïcode, numbers 123 and 4567; and punctuation!"]


def constant(name: str, value: numpy.ndarray) -> TensorProto:
    return numpy_helper.from_array(value.astype(numpy.float32), name)


def save(path: Path, nodes: list, inputs: list, outputs: list, weights: list) -> None:
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))


def info(name: str, kind: int, shape: list) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def make_vision(path: Path, seed: numpy.random.Generator) -> None:
    weights = [constant("c", seed.normal(0, 0.2, (8, 3, 5, 5))), constant("w", seed.normal(0, 0.2, (8, WIDTH)))]
    nodes = [helper.make_node("Conv", ["images", "c"], ["a"], strides=[2, 2]), helper.make_node("Relu", ["a"], ["b"]),
             helper.make_node("GlobalAveragePool", ["b"], ["p"]), helper.make_node("Flatten", ["p"], ["f"]),
             helper.make_node("MatMul", ["f", "w"], ["picture_vector"])]
    save(path, nodes, [info("images", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
         [info("picture_vector", TensorProto.FLOAT, ["n", WIDTH])], weights)


def make_text(path: Path, seed: numpy.random.Generator, vocabulary: int) -> None:
    weights = [constant("e", seed.normal(0, 1, (vocabulary, 32))), constant("w", seed.normal(0, 0.3, (32, WIDTH)))]
    axes = numpy_helper.from_array(numpy.array([1], dtype=numpy.int64), "axis1")
    last = numpy_helper.from_array(numpy.array([2], dtype=numpy.int64), "axis2")
    nodes = [helper.make_node("Gather", ["e", "tokens"], ["t"]),
             helper.make_node("Cast", ["attention_mask"], ["m0"], to=TensorProto.FLOAT),
             helper.make_node("Unsqueeze", ["m0", "axis2"], ["m"]), helper.make_node("Mul", ["t", "m"], ["tm"]),
             helper.make_node("ReduceSum", ["tm", "axis1"], ["s"], keepdims=0), helper.make_node("Tanh", ["s"], ["h"]),
             helper.make_node("MatMul", ["h", "w"], ["sentence_vector"])]
    save(path, nodes, [info("tokens", TensorProto.INT64, ["n", "len"]), info("attention_mask", TensorProto.INT64, ["n", "len"])],
         [info("sentence_vector", TensorProto.FLOAT, ["n", WIDTH])], weights + [axes, last])


def make_head(path: Path, seed: numpy.random.Generator) -> None:
    """Its inputs are named after nothing that the encoders give, and have one shape."""
    weights = [constant("w", seed.normal(0, 0.3, (2 * WIDTH, len(ANSWERS))))]
    nodes = [helper.make_node("Concat", ["image_side", "question_side"], ["c"], axis=1),
             helper.make_node("MatMul", ["c", "w"], ["answer_logits"])]
    save(path, nodes, [info("image_side", TensorProto.FLOAT, ["n", WIDTH]), info("question_side", TensorProto.FLOAT, ["n", WIDTH])],
         [info("answer_logits", TensorProto.FLOAT, ["n", len(ANSWERS)])], weights)


def make_tokenizer(path: Path) -> Tokenizer:
    """WordPiece with [CLS] and [SEP]: nothing like the one of the demonstration."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=120, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    tokenizer.train_from_iterator(TEXTS, trainer)
    cls, sep = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", sep), ("[CLS]", cls))
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.enable_truncation(24)
    tokenizer.save(str(path))
    return tokenizer


def write_sides(folder: Path, config: dict) -> None:
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps({
        "do_resize": True, "size": {"shortest_edge": SIDE + 4}, "resample": 3, "do_center_crop": True,
        "crop_size": {"height": SIDE, "width": SIDE}, "do_rescale": True, "rescale_factor": 1 / 255,
        "do_normalize": True, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3],
        "image_processor_type": "CLIPImageProcessor"}))


def make(folder: Path) -> tuple[Path, Path]:
    """A retrieval model and a question-answering model that share nothing but their making."""
    seed = numpy.random.default_rng(11)
    search, questions = folder / "odd-search", folder / "odd-questions"
    for target in (search, questions):
        target.mkdir(parents=True)
        tokenizer = make_tokenizer(target / "tokenizer.json")
        make_vision(target / "onnx" / "eyes.onnx", seed)
        make_text(target / "onnx" / "reader.onnx", seed, tokenizer.get_vocab_size())
    write_sides(search, {"model_type": "odd", "logit_scale_init_value": 1.5})
    write_sides(questions, {"model_type": "odd", "id2label": {str(i): a for i, a in enumerate(ANSWERS)}})
    make_head(questions / "onnx" / "judge.onnx", seed)
    return search, questions


# ---- the same in plain Python ------------------------------------------------------------------


def pixels(image: Image.Image) -> numpy.ndarray:
    image = image.convert("RGB")
    width, height = image.size
    short = SIDE + 4
    size = (short, int(short * height / width)) if width <= height else (int(short * width / height), short)
    image = image.resize(size, Image.Resampling.BICUBIC)
    left, top = (image.width - SIDE) // 2, (image.height - SIDE) // 2
    array = numpy.asarray(image.crop((left, top, left + SIDE, top + SIDE)))
    array = array.astype(numpy.float32) * numpy.float32(1 / 255)
    array = (array - numpy.array([0.4, 0.5, 0.6], numpy.float32)) / numpy.array([0.2, 0.25, 0.3], numpy.float32)
    return array.transpose(2, 0, 1)[None].astype(numpy.float32)


class Plain:
    """One model of make() without s2m3."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.sessions = {p.stem: onnxruntime.InferenceSession(str(p), options, providers=["CPUExecutionProvider"])
                         for p in (folder / "onnx").glob("*.onnx")}

    def picture(self, image: Image.Image) -> numpy.ndarray:
        return self.sessions["eyes"].run(None, {"images": pixels(image)})[0]

    def sentence(self, text: str) -> numpy.ndarray:
        row = self.tokenizer.encode(text)
        return self.sessions["reader"].run(None, {"tokens": numpy.array([row.ids], dtype=numpy.int64),
                                                  "attention_mask": numpy.array([row.attention_mask], dtype=numpy.int64)})[0]

    def answer(self, image: Image.Image, text: str) -> numpy.ndarray:
        logits = self.sessions["judge"].run(None, {"image_side": self.picture(image), "question_side": self.sentence(text)})[0]
        e = numpy.exp(logits[0].astype(numpy.float64) - logits.max())
        return e / e.sum()

"""Modules with random weights in the shapes of published models, as folders in Hugging Face ONNX layout.

Shapes: OpenAI's CLIP (clip/model.py, with batch norms folded into the convolutions as exporters do), the
audio encoder of ImageBind-huge, and ViT + GPT-2 with cross attention.  Numbers of parameters are those of the
published ones up to what folding a batch norm saves (under 0.2 %).

Needs numpy and onnx.  Each graph is written once; folders link it (resolved when a model is added, so what a
fleet stores are files of its own).
"""
from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

CONTEXT = 77
WORDS = 49408  # of CLIP's vocabulary
FEW = 512  # of the vocabulary that stands for "without token embedding"
EMBED = 0.02


class Graph:
    """Collects nodes and weights; every method returns the name of what it computed."""

    def __init__(self, seed: int) -> None:
        self.random = numpy.random.default_rng(seed)
        self.nodes: list = []
        self.weights: list = []
        self.fixed: dict[tuple, str] = {}
        self.parameters = 0
        self.count = 0

    def op(self, kind: str, *inputs: str, **attributes) -> str:
        self.count += 1
        self.nodes.append(helper.make_node(kind, list(inputs), [f"t{self.count}"], name=f"n{self.count}", **attributes))
        return f"t{self.count}"

    def weight(self, *shape: int, scale: float = EMBED, shift: float = 0.0) -> str:
        value = self.random.standard_normal(shape, dtype=numpy.float32) * numpy.float32(scale) + numpy.float32(shift)
        self.parameters += value.size
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(value, name))
        return name

    def numbers(self, values: list, kind=numpy.int64) -> str:
        key = (tuple(values), kind)
        if key not in self.fixed:
            self.fixed[key] = f"c{len(self.fixed)}"
            value = numpy.array(values, dtype=kind)
            self.weights.append(numpy_helper.from_array(value.reshape(()) if kind == numpy.float32 else value, self.fixed[key]))
        return self.fixed[key]

    def scalar(self, value: float) -> str:
        return self.numbers([value], numpy.float32)

    def linear(self, x: str, n: int, m: int, bias: bool = True) -> str:
        y = self.op("MatMul", x, self.weight(n, m))
        return self.op("Add", y, self.weight(m)) if bias else y

    def norm(self, x: str, width: int) -> str:
        return self.op("LayerNormalization", x, self.weight(width, shift=1.0), self.weight(width), axis=-1, epsilon=1e-5)

    def quick_gelu(self, x: str) -> str:
        return self.op("Mul", x, self.op("Sigmoid", self.op("Mul", x, self.scalar(1.702))))

    def heads(self, x: str, heads: int, order: list[int]) -> str:
        return self.op("Transpose", self.op("Reshape", x, self.numbers([0, 0, heads, -1])), perm=order)

    def mix(self, q: str, k: str, v: str, width: int, heads: int, mask: str = "") -> str:
        """q, v (batch, heads, n, d), k (batch, heads, d, n) -> (batch, n, width) after the last projection."""
        a = self.op("Mul", self.op("MatMul", q, k), self.scalar((width // heads) ** -0.5))
        a = self.op("Softmax", self.op("Add", a, mask) if mask else a, axis=-1)
        y = self.op("Transpose", self.op("MatMul", a, v), perm=[0, 2, 1, 3])
        return self.linear(self.op("Reshape", y, self.numbers([0, 0, width])), width, width)

    def attention(self, x: str, width: int, heads: int, mask: str = "") -> str:
        q, k, v = (self.linear(x, width, width) for _ in range(3))
        return self.mix(self.heads(q, heads, [0, 2, 1, 3]), self.heads(k, heads, [0, 2, 3, 1]),
                        self.heads(v, heads, [0, 2, 1, 3]), width, heads, mask)

    def blocks(self, x: str, width: int, layers: int, heads: int, mask: str = "") -> str:
        for _ in range(layers):
            x = self.op("Add", x, self.attention(self.norm(x, width), width, heads, mask))
            h = self.quick_gelu(self.linear(self.norm(x, width), width, 4 * width))
            x = self.op("Add", x, self.linear(h, 4 * width, width))
        return x

    def with_class_token(self, x: str, width: int) -> str:
        """Puts one learnt vector before (batch, n, width)."""
        batch = self.op("Slice", self.op("Shape", x), self.numbers([0]), self.numbers([1]))
        shape = self.op("Concat", batch, self.numbers([1, width]), axis=0)
        return self.op("Concat", self.op("Expand", self.weight(1, 1, width), shape), x, axis=1)

    def patches(self, x: str, channels: int, width: int, size: int, stride: int, bias: bool = False) -> str:
        more = [self.weight(width)] if bias else []
        y = self.op("Conv", x, self.weight(width, channels, size, size), *more, strides=[stride, stride])
        return self.op("Transpose", self.op("Reshape", y, self.numbers([0, width, -1])), perm=[0, 2, 1])

    def first(self, x: str) -> str:
        return self.op("Gather", x, self.scalar_index(0), axis=1)

    def scalar_index(self, i: int) -> str:
        name = f"i{i}"
        if (name,) not in self.fixed:
            self.fixed[(name,)] = name
            self.weights.append(numpy_helper.from_array(numpy.array(i, dtype=numpy.int64), name))
        return name

    def conv(self, x: str, n: int, m: int, size: int, stride: int = 1, relu: bool = True) -> str:
        scale = (2.0 / (n * size * size)) ** 0.5
        y = self.op("Conv", x, self.weight(m, n, size, size, scale=scale), self.weight(m), strides=[stride, stride],
                    pads=[size // 2] * 4)
        return self.op("Relu", y) if relu else y

    def halve(self, x: str, by: int) -> str:
        return self.op("AveragePool", x, kernel_shape=[by, by], strides=[by, by]) if by > 1 else x

    def save(self, path: Path, inputs: list, outputs: list[tuple[str, str, list]]) -> int:
        for computed, name, _ in outputs:
            self.nodes.append(helper.make_node("Identity", [computed], [name]))
        ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for _, name, shape in outputs]
        graph = helper.make_graph(self.nodes, "g", inputs, ports, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(model, str(path))
        return self.parameters


def floats(name: str, shape: list):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def ids(name: str, shape: list):
    return helper.make_tensor_value_info(name, TensorProto.INT64, shape)


# ---- towers; each returns its number of parameters ---------------------------------------------------------------------


def vit(path: Path, seed: int, side: int, patch: int, width: int, layers: int, out: int, tokens: bool = False) -> int:
    """CLIP's vision transformer; with `tokens`: all of them, normalised, for a decoder (and a bias on patches)."""
    g = Graph(seed)
    count = (side // patch) ** 2 + 1
    x = g.with_class_token(g.patches("pixel_values", 3, width, patch, patch, bias=tokens), width)
    x = g.op("Add", x, g.weight(count, width))
    x = x if tokens else g.norm(x, width)
    x = g.norm(g.blocks(x, width, layers, width // 64) if tokens else g.first(g.blocks(x, width, layers, width // 64)), width)
    inputs = [floats("pixel_values", ["batch", 3, side, side])]
    if tokens:
        return g.save(path, inputs, [(x, "last_hidden_state", ["batch", count, width])])
    return g.save(path, inputs, [(g.linear(x, width, out, bias=False), "image_embeds", ["batch", out])])


def resnet(path: Path, seed: int, side: int, layers: tuple, width: int, out: int) -> int:
    """CLIP's ResNet: three convolutions, average pools before strides, attention pool."""
    g = Graph(seed)
    x = g.conv(g.conv(g.conv("pixel_values", 3, width // 2, 3, 2), width // 2, width // 2, 3), width // 2, width, 3)
    x, had = g.halve(x, 2), width
    for stage, blocks in enumerate(layers):
        planes = width << stage
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            y = g.halve(g.conv(g.conv(x, had, planes, 1), planes, planes, 3), stride)
            y = g.conv(y, planes, 4 * planes, 1, relu=False)
            if not block:
                x = g.conv(g.halve(x, stride), had, 4 * planes, 1, relu=False)
            x, had = g.op("Relu", g.op("Add", x, y)), 4 * planes
    n = (side // 32) ** 2
    x = g.op("Transpose", g.op("Reshape", x, g.numbers([0, had, n])), perm=[0, 2, 1])
    x = g.op("Concat", g.op("ReduceMean", x, axes=[1], keepdims=1), x, axis=1)
    x = g.op("Add", x, g.weight(n + 1, had))
    heads = had // 64
    q = g.linear(g.op("Slice", x, g.numbers([0]), g.numbers([1]), g.numbers([1])), had, had)
    k, v = g.linear(x, had, had), g.linear(x, had, had)
    a = g.op("MatMul", g.heads(q, heads, [0, 2, 1, 3]), g.heads(k, heads, [0, 2, 3, 1]))
    a = g.op("Softmax", g.op("Mul", a, g.scalar(64 ** -0.5)), axis=-1)
    y = g.op("Transpose", g.op("MatMul", a, g.heads(v, heads, [0, 2, 1, 3])), perm=[0, 2, 1, 3])
    y = g.linear(g.op("Reshape", y, g.numbers([0, had])), had, out)
    return g.save(path, [floats("pixel_values", ["batch", 3, side, side])], [(y, "image_embeds", ["batch", out])])


def text(path: Path, seed: int, width: int, out: int, words: int, layers: int = 12) -> int:
    """CLIP's text transformer; the vector is taken at the token with the highest number, as CLIP does."""
    g = Graph(seed)
    mask = numpy.triu(numpy.full((CONTEXT, CONTEXT), -1e4, dtype=numpy.float32), 1)
    g.weights.append(numpy_helper.from_array(mask, "mask"))
    x = g.op("Add", g.op("Gather", g.weight(words, width), "input_ids"), g.weight(CONTEXT, width))
    x = g.norm(g.blocks(x, width, layers, width // 64, "mask"), width)
    x = g.op("GatherND", x, g.op("ArgMax", "input_ids", axis=1, keepdims=1), batch_dims=1)
    return g.save(path, [ids("input_ids", ["batch", CONTEXT])], [(g.linear(x, width, out, bias=False), "text_embeds", ["batch", out])])


def audio(path: Path, seed: int, out: int, width: int = 768, layers: int = 12) -> int:
    """The audio encoder of ImageBind: 204 frames of 128 bands, patches of 16 with stride 10: 228 tokens and one."""
    g = Graph(seed)
    x = g.op("Unsqueeze", g.op("Transpose", "input_values", perm=[0, 2, 1]), g.numbers([1]))
    x = g.with_class_token(g.patches(x, 1, width, 16, 10, bias=True), width)
    x = g.norm(g.blocks(g.op("Add", x, g.weight(229, width)), width, layers, width // 64), width)
    return g.save(path, [floats("input_values", ["batch", 204, 128])], [(g.linear(g.first(x), width, out, bias=False), "audio_embeds", ["batch", out])])


def head(path: Path, seed: int, parts: list[str], width: int, classes: int) -> int:
    g = Graph(seed)
    x = g.op("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]
    y = g.linear(x, width * len(parts), classes)
    return g.save(path, [floats(p, ["batch", width]) for p in parts], [(y, "logits", ["batch", classes])])


def decoder(path: Path, seed: int, words: int, width: int = 768, layers: int = 12, source: int = 197) -> int:
    """GPT-2 with cross attention and a cache of its own attention; its table of words is also its last layer."""
    g = Graph(seed)
    heads, d = width // 64, 64
    table = g.weight(words, width)
    past = g.op("Slice", g.op("Shape", "past_key_values.0.key"), g.numbers([2]), g.numbers([3]))
    new = g.op("Slice", g.op("Shape", "input_ids"), g.numbers([1]), g.numbers([2]))
    total = g.op("Add", past, new)
    zero, one = g.scalar_index(0), g.scalar_index(1)
    flat = [g.op("Squeeze", v, g.numbers([0])) for v in (past, total)]
    rows = g.op("Range", flat[0], flat[1], one)
    columns = g.op("Range", zero, flat[1], one)
    later = g.op("Greater", g.op("Unsqueeze", columns, g.numbers([0])), g.op("Unsqueeze", rows, g.numbers([1])))
    mask = g.op("Where", later, g.scalar(-1e4), g.scalar(0.0))
    x = g.op("Add", g.op("Gather", table, "input_ids"), g.op("Gather", g.weight(1024, width), rows))
    outputs, inputs = [], [ids("input_ids", ["batch", "sequence"]), floats("encoder_hidden_states", ["batch", source, width])]
    for i in range(layers):
        h = g.norm(x, width)
        q, k, v = (g.heads(g.linear(h, width, width), heads, [0, 2, 1, 3]) for _ in range(3))
        k = g.op("Concat", f"past_key_values.{i}.key", k, axis=2)
        v = g.op("Concat", f"past_key_values.{i}.value", v, axis=2)
        outputs += [(k, f"present.{i}.key", ["batch", heads, "total", d]), (v, f"present.{i}.value", ["batch", heads, "total", d])]
        inputs += [floats(f"past_key_values.{i}.{n}", ["batch", heads, "past", d]) for n in ("key", "value")]
        x = g.op("Add", x, g.mix(q, g.op("Transpose", k, perm=[0, 1, 3, 2]), v, width, heads, mask))
        q = g.heads(g.linear(g.norm(x, width), width, width), heads, [0, 2, 1, 3])
        k = g.heads(g.linear("encoder_hidden_states", width, width), heads, [0, 2, 3, 1])
        v = g.heads(g.linear("encoder_hidden_states", width, width), heads, [0, 2, 1, 3])
        x = g.op("Add", x, g.mix(q, k, v, width, heads))
        x = g.op("Add", x, g.linear(g.quick_gelu(g.linear(g.norm(x, width), width, 4 * width)), 4 * width, width))
    logits = g.op("MatMul", g.norm(x, width), g.op("Transpose", table, perm=[1, 0]))
    return g.save(path, inputs, [(logits, "logits", ["batch", "sequence", words]), *outputs])


# ---- folders ----------------------------------------------------------------------------------------------------------


def tokenizer(words: int, length: int) -> dict:
    """One word per token, w4 w5 ...; the end has the highest number, as CLIP's."""
    vocabulary = {"[PAD]": 0, "[BOS]": 1, "[UNK]": 2, "a": 3, **{f"w{i}": i for i in range(4, words - 1)}, "[EOS]": words - 1}
    special = [{"id": vocabulary[t], "content": t, "single_word": False, "lstrip": False, "rstrip": False,
                "normalized": False, "special": True} for t in ("[PAD]", "[BOS]", "[UNK]", "[EOS]")]
    row = [{"SpecialToken": {"id": "[BOS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
           {"SpecialToken": {"id": "[EOS]", "type_id": 0}}]
    return {"version": "1.0",
            "truncation": {"direction": "Right", "max_length": length, "strategy": "LongestFirst", "stride": 0},
            "padding": {"strategy": {"Fixed": length}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
                        "pad_type_id": 0, "pad_token": "[PAD]"},
            "added_tokens": special, "normalizer": None, "pre_tokenizer": {"type": "WhitespaceSplit"},
            "post_processor": {"type": "TemplateProcessing", "single": row, "pair": row, "special_tokens": {
                t: {"id": t, "ids": [vocabulary[t]], "tokens": [t]} for t in ("[BOS]", "[EOS]")}},
            "decoder": None, "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"}}


@dataclass
class Model:
    name: str
    files: dict[str, Path]  # name in onnx/: graph
    side: int = 224
    words: int = 0
    classes: int = 0
    sound: bool = False
    caption: bool = False

    def write(self, folder: Path) -> Path:
        target = folder / self.name
        (target / "onnx").mkdir(parents=True)
        for name, path in self.files.items():
            os.link(path, target / "onnx" / f"{name}.onnx")
        pictures = {"image_processor_type": "CLIPImageProcessor", "do_resize": True, "size": {"shortest_edge": self.side},
                    "resample": 3, "do_center_crop": True, "crop_size": {"height": self.side, "width": self.side},
                    "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
                    "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
        sounds = {"feature_extractor_type": "ASTFeatureExtractor", "feature_size": 1, "num_mel_bins": 128, "max_length": 204,
                  "sampling_rate": 16000, "padding_value": 0.0, "do_normalize": True, "mean": -4.268, "std": 9.138,
                  "return_attention_mask": False}
        settings = {"image_processor": pictures, "feature_extractor": sounds} if self.sound else pictures
        (target / "preprocessor_config.json").write_text(json.dumps(settings))
        config: dict = {"model_type": "clip", "logit_scale_init_value": 2.6592}
        if self.classes:
            config = {"model_type": "towers", "id2label": {str(i): f"class {i}" for i in range(self.classes)}}
        if self.caption:
            numbers = {"decoder_start_token_id": 1, "bos_token_id": 1, "eos_token_id": self.words - 1, "pad_token_id": 0}
            config = {"model_type": "vision-encoder-decoder", "is_encoder_decoder": True, **numbers}
            (target / "generation_config.json").write_text(json.dumps({**numbers, "num_beams": 1, "do_sample": False,
                                                                       "max_new_tokens": 8}))
        (target / "config.json").write_text(json.dumps(config))
        if self.words:
            (target / "tokenizer.json").write_text(json.dumps(tokenizer(self.words, CONTEXT)))
        return target

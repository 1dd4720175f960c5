"""One encoder in many forms, for more transformers classes; see exports.py.

Usage: exports_classes.py OUT [CLASS...]      (requirements of exports_new.py; TorchScript exporter)

Each class: its inputs under other names, another operator set, another head, fixed axes, the last layer
fine-tuned.  Writes OUT/<model>/model.onnx and OUT/sets.json for check_split.py.  Everything is seeded.
"""
from __future__ import annotations

import copy
import json
import sys
import traceback
from pathlib import Path
from typing import Callable

import torch
from torch import nn
import transformers as tf

import exports as base
import exports_more as more
from exports import changed, seeded, size

SMALL = dict(hidden_size=64, num_hidden_layers=3, num_attention_heads=4)
TEXT = dict(SMALL, vocab_size=400, intermediate_size=128, max_position_embeddings=64)
VISION = dict(SMALL, intermediate_size=128, image_size=32, patch_size=8)
SOUND = dict(SMALL, num_hidden_layers=2, intermediate_size=128, conv_dim=(32, 32, 32), conv_stride=(5, 4, 2), conv_kernel=(10, 8, 4),
             num_feat_extract_layers=3, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4)
base.INPUTS["input_values"] = (torch.randn(3, 2000, generator=torch.Generator().manual_seed(5)), {0: "batch"})
Layer = Callable[[nn.Module], nn.Module]
LAST: Layer = lambda m: m.encoder.layer[-1]  # noqa: E731
# Name: module, width of its states, input, its last layer (None: layers have one set of weights), whether a norm stands
# behind a Transpose: then operator sets below and from 17 on are near misses
CLASSES: dict[str, tuple[Callable[[], nn.Module], int, str, Layer | None, bool]] = {
    "electra": (lambda: tf.ElectraModel(tf.ElectraConfig(**TEXT, embedding_size=64)), 64, "input_ids", LAST, False),
    "albert": (lambda: tf.AlbertModel(tf.AlbertConfig(**TEXT, embedding_size=32), add_pooling_layer=False), 64, "input_ids", None, False),
    "distilbert": (lambda: tf.DistilBertModel(tf.DistilBertConfig(
        vocab_size=400, dim=64, n_layers=3, n_heads=4, hidden_dim=128, max_position_embeddings=64)), 64, "input_ids",
        lambda m: m.transformer.layer[-1], False),
    "mpnet": (lambda: tf.MPNetModel(tf.MPNetConfig(**TEXT), add_pooling_layer=False), 64, "input_ids", LAST, False),
    "deberta": (lambda: tf.DebertaV2Model(tf.DebertaV2Config(
        **TEXT, relative_attention=True, pos_att_type=["p2c", "c2p"], position_buckets=16, max_relative_positions=32)), 64,
        "input_ids", LAST, False),
    "ijepa": (lambda: tf.IJepaModel(tf.IJepaConfig(**VISION), add_pooling_layer=False), 64, "pixel_values", LAST, False),
    "siglip": (lambda: tf.SiglipVisionModel(tf.SiglipVisionConfig(**VISION, vision_use_head=False)), 64, "pixel_values",
               lambda m: m.vision_model.encoder.layers[-1], False),
    "poolformer": (lambda: tf.PoolFormerModel(tf.PoolFormerConfig(
        hidden_sizes=[16, 32], depths=[2, 2], num_encoder_blocks=2, patch_sizes=[7, 3], strides=[4, 2], padding=[2, 1], mlp_ratio=2)),
        32, "pixel_values", lambda m: m.encoder.block[-1][-1], False),
    "regnet": (lambda: tf.RegNetModel(tf.RegNetConfig(
        embedding_size=16, hidden_sizes=[16, 32, 64], depths=[1, 2, 2], groups_width=8, layer_type="y")), 64, "pixel_values",
        lambda m: m.encoder.stages[-1], False),
    "convnext": (lambda: tf.ConvNextModel(tf.ConvNextConfig(
        hidden_sizes=[24, 48], depths=[2, 2], num_stages=2, image_size=32, patch_size=4)), 48, "pixel_values",
        lambda m: m.encoder.stages[-1].layers[-1], True),
    "wavlm": (lambda: tf.WavLMModel(tf.WavLMConfig(**SOUND)), 64, "input_values", lambda m: m.encoder.layers[-1], True),
}


class Head(nn.Module):
    """A linear layer behind the mean of an encoder's states, or their first one."""

    def __init__(self, encoder: nn.Module, width: int, out: int, first: bool) -> None:
        super().__init__()
        self.encoder, self.head, self.first = encoder, nn.Linear(width, out), first

    def forward(self, x):
        states = self.encoder(x).last_hidden_state
        if states.dim() == 4:
            states = states.flatten(2).transpose(1, 2)
        return self.head(states[:, 0] if self.first else states.mean(1))


def forms(out: Path, name: str) -> list[dict]:
    make, width, port, last, turned = CLASSES[name]
    encoder = seeded(3, make)
    mean, first = seeded(4, lambda: Head(encoder, width, 5, False)), seeded(5, lambda: Head(encoder, width, 7, True))

    def model(form: str, module: nn.Module, opset: int = 14, **how) -> str:
        more.export(out / f"{name}-{form}" / "model.onnx", module, [port], opset=opset, **how)
        return f"{name}-{form}"

    one, all_of = model("14", mean), size(mean)
    fixed = ("batch",) if port == "input_ids" else ()
    pairs = [("names", model("names", mean, names=[f"x_{port}"]), all_of, {}),
             ("head", model("first", first), size(encoder), {}),
             ("axes", model("axes", mean, dynamic=fixed), all_of, {} if fixed else {"tolerance": 2e-6})]
    if not turned:  # the runtime makes one node of nine only from level extended on
        pairs.append(("opset 18", model("18", mean, opset=18), all_of, {"levels": ["extended", "all"]}))
    if last:
        tuned = copy.deepcopy(mean)
        tuned.encoder = changed(encoder, last)
        pairs.append(("tuned", model("tuned", tuned), size(encoder) - size(last(encoder)), {}))
    return [{"name": f"{name} {form}", "models": [one, two], "shareable": bytes_, **how} for form, two, bytes_, how in pairs]


def main() -> None:
    out, sets = Path(sys.argv[1]), []
    for name in sys.argv[2:] or CLASSES:
        try:
            sets += forms(out, name)
        except Exception:  # noqa: BLE001 - the others go on
            traceback.print_exc()
        (out / "sets.json").write_text(json.dumps(sets, indent=1))


if __name__ == "__main__":
    main()

"""Exports by the current torch, with both of its exporters, of more transformers classes; see exports.py.

Usage: exports_new.py OUT      (torch 2.15, transformers 4.57, onnxscript; nothing is downloaded)

Writes OUT/<model>/model.onnx and OUT/sets.json for check_split.py.  Each encoder stands in two models with heads
of their own: what may be shared are its parameters.
"""
from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Callable

import torch
from torch import nn
import transformers as tf

warnings.filterwarnings("ignore")
SMALL = dict(hidden_size=64, num_hidden_layers=3, num_attention_heads=4)
VISION = dict(SMALL, intermediate_size=128, image_size=32, patch_size=8)
IDS = torch.randint(3, 390, (2, 9), generator=torch.Generator().manual_seed(2))
PIXELS = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
INPUTS = {"pixel_values": PIXELS, "input_ids": IDS, "input_values": torch.randn(2, 2000), "input_features": torch.randn(2, 20, 64)}


class Head(nn.Module):
    """One pooled state of an encoder, and a linear layer."""

    def __init__(self, encoder: nn.Module, pool: Callable, width: int, out: int) -> None:
        super().__init__()
        self.encoder, self.pool, self.head = encoder, pool, nn.Linear(width, out)

    def forward(self, x):
        return self.head(self.pool(self.encoder(x).last_hidden_state))


def export(path: Path, module: nn.Module, name: str, dynamo: bool, opset: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    x = INPUTS[name]
    axes = {0: "batch", 1: "sequence"} if x.dtype == torch.int64 else {0: "batch"}
    with torch.no_grad():
        if dynamo:
            dims = {k: torch.export.Dim.DYNAMIC for k in axes}
            torch.onnx.export(module.eval(), (x,), str(path), input_names=[name], dynamo=True, dynamic_shapes=(dims,), opset_version=18)
        else:
            torch.onnx.export(module.eval(), (x,), str(path), input_names=[name], output_names=["output_0"], dynamo=False,
                              opset_version=opset, dynamic_axes={name: axes})


def encoders() -> dict[str, tuple[nn.Module, str, int, int]]:
    """Name: module, its input, width of its states, bytes that may be shared."""
    clip = tf.CLIPVisionModel(tf.CLIPVisionConfig(**VISION)).vision_model
    siglip = tf.SiglipVisionModel(tf.SiglipVisionConfig(**VISION)).vision_model
    whisper = tf.WhisperModel(tf.WhisperConfig(
        vocab_size=400, d_model=64, encoder_layers=3, encoder_attention_heads=4, decoder_layers=1, decoder_attention_heads=4,
        encoder_ffn_dim=128, decoder_ffn_dim=128, num_mel_bins=20, max_source_positions=32, max_target_positions=32,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1)).encoder
    wave = tf.Wav2Vec2Model(tf.Wav2Vec2Config(
        **dict(SMALL, num_hidden_layers=2), intermediate_size=128, conv_dim=(32, 32, 32), conv_stride=(5, 4, 2),
        conv_kernel=(10, 8, 4), num_feat_extract_layers=3, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4))
    made = {"clip": (clip, "pixel_values", clip.post_layernorm), "siglip": (siglip, "pixel_values", siglip.head),
            "dinov2": (tf.Dinov2Model(tf.Dinov2Config(**SMALL, image_size=32, patch_size=8, mlp_ratio=2)), "pixel_values", None),
            "blip": (tf.BlipVisionModel(tf.BlipVisionConfig(**VISION)), "pixel_values", None),
            "t5": (tf.T5EncoderModel(tf.T5Config(vocab_size=400, d_model=64, d_kv=16, d_ff=128, num_layers=3, num_heads=4)), "input_ids", None),
            "wav2vec2": (wave, "input_values", None), "whisper": (whisper, "input_features", None)}

    def size(m: nn.Module | None) -> int:
        return sum(p.numel() * 4 for p in m.parameters()) if m is not None else 0

    return {name: (m.eval(), port, 64, size(m) - size(unused)) for name, (m, port, unused) in made.items()}


def main() -> None:
    out = Path(sys.argv[1])
    torch.manual_seed(1)
    sets = []
    for name, (encoder, port, width, shareable) in encoders().items():
        for exporter, opset in (("script", 14), ("script", 17), ("script", 20), ("dynamo", 18)):
            pair = []
            for kind, pool in (("mean", lambda s: s.mean(1)), ("first", lambda s: s[:, 0])):
                pair.append(f"{name}-{kind}-{exporter}{opset}")
                try:
                    export(out / pair[-1] / "model.onnx", Head(encoder, pool, width, 5), port, exporter == "dynamo", opset)
                except Exception as e:  # noqa: BLE001 - some classes are not for each exporter
                    print(f"{pair[-1]}: not exported: {type(e).__name__}", flush=True)
                    break
            else:
                sets.append({"name": f"{name} {exporter} {opset}", "models": pair, "shareable": shareable})
                (out / "sets.json").write_text(json.dumps(sets, indent=1))


if __name__ == "__main__":
    main()

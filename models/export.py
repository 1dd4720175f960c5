"""export.py [--work DIR] [--out DIR] - writes the five model folders from the trained weights.

Every encoder and head is exported once (opset 17), as a part.  A folder's model.onnx is a whole
model: parts joined by whole.py.  The model that generates has its encoder and its decoder apart, as
exporters give them.  Beside the ONNX files stand the sidecars of the Hugging Face ONNX layout.
verify.py looks over what was written.
"""
from __future__ import annotations

import argparse
import json
import math
import shutil
from pathlib import Path
from typing import Any, Union

import onnx
import torch
from onnx import helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn

import data
import nets
import train
from speech import RATE, SAMPLES
from whole import whole

OPSET = 17
HERE = Path(__file__).parent
# Which files each folder has: name in onnx/ -> exported parts, encoders first.
FOLDERS: dict[str, dict[str, list[str]]] = {
    "garment-search": {"model": ["vision", "text"]},
    "garment-vqa": {"model": ["vision", "text", "answerer"]},
    "garment-voice": {"model": ["vision", "text", "audio"]},
    "garment-caption": {"encoder_model": ["vision"], "decoder_model_merged": ["decoder"]},
    "garment-class": {"model": ["vision", "classifier"]},
}
IMAGE: dict[str, Any] = {
    "do_convert_rgb": True, "do_normalize": True, "do_rescale": True, "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5], "image_processor_type": "ViTImageProcessor",
    "image_std": [0.5, 0.5, 0.5], "resample": 2, "rescale_factor": 1 / 255,
    "size": {"height": 28, "width": 28}}
SOUND: dict[str, Any] = {
    "do_normalize": False, "feature_extractor_type": "Wav2Vec2FeatureExtractor",
    "feature_size": 1, "max_length": SAMPLES, "padding": "max_length", "padding_side": "right",
    "padding_value": 0.0, "return_attention_mask": False, "sampling_rate": RATE,
    "truncation": True}


Dims = list[Union[str, int]]


def to_onnx(net: nn.Module, path: Path, inputs: dict[str, Tensor], shapes: dict[str, Dims]
            ) -> None:
    """shapes: of the inputs, then of the outputs; a name is an axis of any length.  The shapes
    are written into the file too: the exporter does not find all of them itself."""
    outputs = [n for n in shapes if n not in inputs]
    axes = {n: {i: d for i, d in enumerate(dims) if isinstance(d, str)}
            for n, dims in shapes.items()}
    torch.onnx.export(net.eval(), tuple(inputs.values()), str(path), opset_version=OPSET,
                      input_names=list(inputs), output_names=outputs, dynamic_axes=axes)
    model = onnx.load(path)
    for port in [*model.graph.input, *model.graph.output]:
        kind = port.type.tensor_type.elem_type
        port.CopyFrom(helper.make_tensor_value_info(port.name, kind, shapes[port.name]))
    del model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def past_names() -> tuple[list[str], list[str]]:
    past, present = [], []
    for layer in range(nets.LAYERS):
        for part in ("key", "value"):
            past.append(f"past_key_values.{layer}.{part}")
            present.append(f"present.{layer}.{part}")
    return past, present


def export_decoder(net: nets.Decoder, path: Path) -> None:
    past, present = past_names()
    inputs = {"input_ids": torch.zeros(2, 1, dtype=torch.int64),
              "encoder_hidden_states": torch.randn(2, nets.TOKENS, nets.WIDTH)}
    inputs |= {n: torch.randn(2, nets.HEADS, 3, nets.HEAD_DIM) for n in past}
    shapes: dict[str, Dims] = {
        "input_ids": ["batch", "sequence"],
        "encoder_hidden_states": ["batch", nets.TOKENS, nets.WIDTH],
        **{n: ["batch", nets.HEADS, "past_sequence", nets.HEAD_DIM] for n in past},
        "logits": ["batch", "sequence", net.predict.out_features],
        **{n: ["batch", nets.HEADS, "total_sequence", nets.HEAD_DIM] for n in present}}
    to_onnx(net, path, inputs, shapes)


def export_encoders(encoders: train.Encoders, to: Path) -> None:
    row: Dims = ["batch", nets.WIDTH]
    to_onnx(encoders.vision, to / "vision.onnx", {"pixel_values": torch.randn(2, 3, 28, 28)},
            {"pixel_values": ["batch", 3, 28, 28], "image_embeds": row,
             "last_hidden_state": ["batch", nets.TOKENS, nets.WIDTH]})
    ids, ids_shape = torch.ones(2, 9, dtype=torch.int64), ["batch", "sequence"]
    to_onnx(encoders.text, to / "text.onnx", {"input_ids": ids, "attention_mask": ids},
            {"input_ids": ids_shape, "attention_mask": ids_shape, "text_embeds": row})
    to_onnx(encoders.audio, to / "audio.onnx", {"input_values": torch.randn(2, SAMPLES)},
            {"input_values": ["batch", "samples"], "audio_embeds": row})


def export_parts(work: Path, to: Path) -> float:
    """All ONNX files into `to`; gives the scale of the similarities (its logarithm)."""
    encoders = train.load_encoders(work)
    export_encoders(encoders, to)
    classifier, answerer = nets.Classifier(len(data.NAMES)), nets.Answerer(len(data.ANSWERS))
    decoder = nets.Decoder(len(data.vocabulary()), data.MAX_IDS)
    heads = {"classifier": classifier, "answerer": answerer, "decoder": decoder}
    stored = torch.load(work / "heads.pt")
    for name, net in heads.items():
        net.load_state_dict(stored[name])
    row: Dims = ["batch", nets.WIDTH]
    image, text = torch.randn(2, nets.WIDTH), torch.randn(2, nets.WIDTH)
    to_onnx(classifier, to / "classifier.onnx", {"image_embeds": image},
            {"image_embeds": row, "logits": ["batch", len(data.NAMES)]})
    to_onnx(answerer, to / "answerer.onnx", {"image_embeds": image, "text_embeds": text},
            {"image_embeds": row, "text_embeds": row, "logits": ["batch", len(data.ANSWERS)]})
    export_decoder(decoder, to / "decoder.onnx")
    return float(encoders.logit_scale.detach().clamp(max=train.MAX_SCALE))


def tokenizer() -> Tokenizer:
    """Lower case, pieces of word characters or of signs, one id a piece."""
    vocab = {w: i for i, w in enumerate(data.vocabulary())}
    start, end = data.SPECIALS[data.BOS], data.SPECIALS[data.EOS]
    out = Tokenizer(models.WordLevel(vocab, unk_token=data.SPECIALS[data.UNK]))
    out.add_special_tokens(data.SPECIALS)
    out.normalizer = normalizers.Lowercase()
    out.pre_tokenizer = pre_tokenizers.Whitespace()
    out.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", pair=f"{start} $A {end} $B:1 {end}:1",
        special_tokens=[(start, data.BOS), (end, data.EOS)])
    out.enable_truncation(data.MAX_IDS)
    out.enable_padding(pad_id=data.PAD, pad_token=data.SPECIALS[data.PAD])
    return out


def put(path: Path, what: dict[str, Any]) -> None:
    path.write_text(json.dumps(what, indent=2, sort_keys=False) + "\n")


def put_tokenizer(folder: Path) -> None:
    names = {"pad_token": data.SPECIALS[data.PAD], "unk_token": data.SPECIALS[data.UNK],
             "bos_token": data.SPECIALS[data.BOS], "eos_token": data.SPECIALS[data.EOS]}
    tokenizer().save(str(folder / "tokenizer.json"))
    put(folder / "special_tokens_map.json", names)
    put(folder / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": data.MAX_IDS,
        "model_input_names": ["input_ids", "attention_mask"], **names})


def labels(names: list[str]) -> dict[str, Any]:
    return {"id2label": {str(i): n for i, n in enumerate(names)},
            "label2id": {n: i for i, n in enumerate(names)}}


def configs(scale: float) -> dict[str, dict[str, Any]]:
    """config.json of each folder."""
    vision = {"model_type": "garment_vision", "hidden_size": nets.WIDTH, "image_size": 28,
              "num_channels": 3, "num_attention_heads": nets.HEADS, "num_hidden_layers": 2}
    text = {"model_type": "garment_text", "hidden_size": nets.WIDTH, "bos_token_id": data.BOS,
            "eos_token_id": data.EOS, "pad_token_id": data.PAD,
            "max_position_embeddings": data.MAX_IDS, "num_attention_heads": nets.HEADS,
            "num_hidden_layers": 2, "vocab_size": len(data.vocabulary())}
    audio = {"model_type": "garment_audio", "hidden_size": nets.WIDTH,
             "num_attention_heads": nets.HEADS, "num_hidden_layers": 2}
    joint = {"projection_dim": nets.WIDTH, "logit_scale_init_value": scale}
    generation = {"decoder_start_token_id": data.BOS, "bos_token_id": data.BOS,
                  "eos_token_id": data.EOS, "pad_token_id": data.PAD}
    return {
        "garment-search": {"model_type": "clip", "architectures": ["CLIPModel"], **joint,
                           "vision_config": vision, "text_config": text},
        "garment-voice": {"model_type": "garment_tri_encoder", **joint,
                          "vision_config": vision, "text_config": text, "audio_config": audio},
        "garment-vqa": {"model_type": "garment_vqa", **labels(data.ANSWERS),
                        "vision_config": vision, "text_config": text},
        "garment-class": {"model_type": "garment_class", **labels(data.NAMES),
                          "vision_config": vision},
        "garment-caption": {"model_type": "vision-encoder-decoder",
                            "architectures": ["VisionEncoderDecoderModel"],
                            "is_encoder_decoder": True, **generation,
                            "num_hidden_layers": nets.LAYERS,
                            "num_attention_heads": nets.HEADS, "encoder": vision,
                            "decoder": {**text, "model_type": "garment_decoder",
                                        "is_decoder": True, "add_cross_attention": True,
                                        "num_hidden_layers": nets.LAYERS}}}


def put_sidecars(folder: Path, config: dict[str, Any], parts: list[str]) -> None:
    put(folder / "config.json", config)
    put(folder / "preprocessor_config.json",
        {"image_processor": IMAGE, "feature_extractor": SOUND}
        if "audio" in parts else IMAGE)
    if "text" in parts or "decoder" in parts:
        put_tokenizer(folder)
    if "decoder" in parts:
        put(folder / "generation_config.json", {
            "decoder_start_token_id": data.BOS, "bos_token_id": data.BOS,
            "eos_token_id": data.EOS, "pad_token_id": data.PAD, "do_sample": False,
            "num_beams": 1, "max_new_tokens": data.MAX_IDS - 1})
    if "logit_scale_init_value" in config:
        put(folder / "s2m3.json", {"hypothesis_template": data.TEMPLATE})


def put_graph(path: Path, parts: list[Path], log_scale: float | None) -> None:
    """A part alone is copied as it is."""
    if len(parts) == 1:
        shutil.copyfile(parts[0], path)
        return
    model = whole(parts, None if log_scale is None else math.exp(log_scale))
    path.write_bytes(model.SerializeToString(deterministic=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=HERE.parent / "build/models")
    parser.add_argument("--out", type=Path, default=HERE)
    args = parser.parse_args()
    parts_dir = args.work / "parts"
    parts_dir.mkdir(parents=True, exist_ok=True)
    every = configs(export_parts(args.work, parts_dir))
    for name, files in FOLDERS.items():
        folder = args.out / name
        (folder / "onnx").mkdir(parents=True, exist_ok=True)
        for file, parts in files.items():
            put_graph(folder / "onnx" / f"{file}.onnx", [parts_dir / f"{p}.onnx" for p in parts],
                      every[name].get("logit_scale_init_value"))
        put_sidecars(folder, every[name], sum(files.values(), []))


if __name__ == "__main__":
    main()

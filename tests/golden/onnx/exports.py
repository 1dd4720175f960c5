"""Exports of real transformers classes in small, seeded configurations, and what they share.

Usage: exports.py OUT [NAME...]

Writes OUT/<model>/model.onnx and OUT/sets.json: for each set its models and the bytes that its
construction makes shareable (copies of equal torch parameters beyond the first).  Needs torch and
transformers (requirements.txt); nothing is downloaded: weights are random, by seed.
"""
from __future__ import annotations

import copy
import json
import sys
import warnings
from pathlib import Path
from typing import Callable

import torch
from torch import nn
import transformers as tf

warnings.filterwarnings("ignore")
Module = nn.Module


def clip_config(act: str = "quick_gelu", eps: float = 1e-5, heads: int = 4) -> tf.CLIPConfig:
    common = dict(hidden_size=64, intermediate_size=256, num_hidden_layers=5, num_attention_heads=heads,
                  hidden_act=act, layer_norm_eps=eps)
    text = dict(common, num_hidden_layers=3, vocab_size=400, max_position_embeddings=24)
    vision = dict(common, image_size=32, patch_size=8)
    return tf.CLIPConfig(text_config=text, vision_config=vision, projection_dim=48)


def seeded(seed: int, make: Callable[[], Module]) -> Module:
    torch.manual_seed(seed)
    module = make().eval()
    generator = torch.Generator().manual_seed(seed + 1)
    for p in module.parameters():
        p.data += 0.02 * torch.randn(p.shape, generator=generator)
    return module


class Retrieval(Module):
    def __init__(self, clip: Module) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, pixel_values, input_ids, attention_mask):
        image = self.clip.get_image_features(pixel_values)
        text = self.clip.get_text_features(input_ids, attention_mask)
        image = image / image.norm(dim=-1, keepdim=True)
        text = text / text.norm(dim=-1, keepdim=True)
        return text @ image.t() * self.clip.logit_scale.exp()


class Vqa(Module):
    def __init__(self, clip: Module) -> None:
        super().__init__()
        self.clip = clip
        self.head = nn.Sequential(nn.Linear(96, 128), nn.ReLU(), nn.Linear(128, 20))

    def forward(self, pixel_values, input_ids, attention_mask):
        image = self.clip.get_image_features(pixel_values)
        text = self.clip.get_text_features(input_ids, attention_mask)
        return self.head(torch.cat([image, text], -1))


class Classify(Module):
    def __init__(self, clip: Module) -> None:
        super().__init__()
        self.vision = clip.vision_model
        self.head = nn.Linear(64, 10)

    def forward(self, pixel_values):
        return self.head(self.vision(pixel_values).pooler_output)


class Align(Module):
    def __init__(self, clip: Module, audio: Module) -> None:
        super().__init__()
        self.clip, self.audio = clip, audio
        self.project = nn.Linear(64, 48)

    def forward(self, pixel_values, input_ids, attention_mask, input_features):
        image = self.clip.get_image_features(pixel_values)
        text = self.clip.get_text_features(input_ids, attention_mask)
        sound = self.project(self.audio(input_features).pooler_output)
        parts = [x / x.norm(dim=-1, keepdim=True) for x in (image, text, sound)]
        return parts[0] @ parts[1].t(), parts[0] @ parts[2].t(), parts[1] @ parts[2].t()


class Llava(Module):
    """A language model behind the vision tower up to its last but one layer."""

    def __init__(self, clip: Module, lm: Module, layer: int = -2) -> None:
        super().__init__()
        self.vision, self.lm, self.layer = clip.vision_model, lm, layer
        self.project = nn.Sequential(nn.Linear(64, 96), nn.GELU(), nn.Linear(96, 96))

    def forward(self, pixel_values, input_ids):
        states = self.vision(pixel_values, output_hidden_states=True).hidden_states
        image = self.project(states[self.layer][:, 1:])
        words = self.lm.get_input_embeddings()(input_ids)
        return self.lm(inputs_embeds=torch.cat([image, words], 1)).logits


class VitLm(Module):
    """The same language model behind another vision encoder."""

    def __init__(self, vit: Module, lm: Module) -> None:
        super().__init__()
        self.vit, self.lm = vit, lm
        self.project = nn.Linear(48, 96)

    def forward(self, pixel_values, input_ids):
        image = self.project(self.vit(pixel_values).last_hidden_state)
        words = self.lm.get_input_embeddings()(input_ids)
        return self.lm(inputs_embeds=torch.cat([image, words], 1)).logits


class Twins(Module):
    def __init__(self, clip: Module) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, left, right):
        a, b = self.clip.get_image_features(left), self.clip.get_image_features(right)
        return (a * b).sum(-1)


class WhisperHead(Module):
    def __init__(self, whisper: Module, out: int) -> None:
        super().__init__()
        self.encoder = whisper.encoder
        self.head = nn.Linear(64, out)

    def forward(self, input_features):
        return self.head(self.encoder(input_features).last_hidden_state.mean(1))


class Speech(Module):
    def __init__(self, whisper: Module) -> None:
        super().__init__()
        self.whisper = whisper

    def forward(self, input_features, decoder_input_ids):
        return self.whisper(input_features=input_features, decoder_input_ids=decoder_input_ids).last_hidden_state


class Caption(Module):
    def __init__(self, model: Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values, decoder_input_ids):
        return self.model(pixel_values=pixel_values, decoder_input_ids=decoder_input_ids).logits


class Pick(Module):
    """One output of a model called by keyword."""

    def __init__(self, model: Module, names: list[str], field: str) -> None:
        super().__init__()
        self.model, self.names, self.field = model, names, field

    def forward(self, *inputs):
        return getattr(self.model(**dict(zip(self.names, inputs))), self.field)


class BatchFromImage(Module):
    """A text tower whose mask takes its batch size from the picture's."""

    def __init__(self, clip: Module) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, pixel_values, input_ids):
        mask = torch.ones(pixel_values.shape[0], input_ids.shape[1], dtype=torch.int64)
        image = self.clip.get_image_features(pixel_values)
        text = self.clip.get_text_features(input_ids, mask)
        return text @ image.t()


class ResNetHead(Module):
    def __init__(self, resnet: Module, out: int) -> None:
        super().__init__()
        self.resnet, self.head = resnet, nn.Linear(128, out)

    def forward(self, pixel_values):
        return self.head(self.resnet(pixel_values).pooler_output.flatten(1))


PIXELS = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
IDS = torch.randint(3, 390, (2, 9), generator=torch.Generator().manual_seed(2))
MASK = torch.ones(2, 9, dtype=torch.int64)
MASK[1, 6:] = 0
MEL = torch.randn(2, 64, 32, generator=torch.Generator().manual_seed(3))
WMEL = torch.randn(2, 20, 64, generator=torch.Generator().manual_seed(4))

INPUTS = {
    "pixel_values": (PIXELS, {0: "batch"}), "left": (PIXELS, {0: "batch"}),
    "right": (PIXELS.flip(0), {0: "batch"}), "input_ids": (IDS, {0: "batch", 1: "sequence"}),
    "attention_mask": (MASK, {0: "batch", 1: "sequence"}), "input_features": (MEL, {0: "batch"}),
    "whisper_features": (WMEL, {0: "batch"}),
    "decoder_input_ids": (IDS, {0: "batch", 1: "decoded"}),
    "token_type_ids": (torch.zeros(2, 9, dtype=torch.int64), {0: "batch", 1: "sequence"}),
}


def export(out: Path, name: str, module: Module, inputs: list[str], outputs: int = 1, opset: int = 14,
           fold: bool = True, dynamic: tuple[str, ...] = ("batch", "sequence", "decoded"), rename: bool = False,
           **more) -> None:
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    names = [i.replace("whisper_features", "input_features") for i in inputs]
    axes = {n: {k: v for k, v in INPUTS[i][1].items() if v in dynamic} for n, i in zip(names, inputs)}
    if rename:
        axes = {n: {k: f"{v}_x" for k, v in a.items()} for n, a in axes.items()}
    outs = [f"output_{i}" for i in range(outputs)]
    with torch.no_grad():
        torch.onnx.export(module.eval(), tuple(INPUTS[i][0] for i in inputs), str(folder / "model.onnx"),
                          input_names=names, output_names=outs, opset_version=opset,
                          do_constant_folding=fold, dynamic_axes=axes, **more)


def size(*modules: Module) -> int:
    seen = {p.data_ptr(): p.numel() * p.element_size() for m in modules for p in m.parameters()}
    return sum(seen.values())


def changed(module: Module, *parts: Callable[[Module], Module]) -> Module:
    other = copy.deepcopy(module)
    generator = torch.Generator().manual_seed(77)
    for part in parts:
        for p in part(other).parameters():
            p.data += 0.05 * torch.randn(p.shape, generator=generator)
    return other


class VitHead(Module):
    def __init__(self, vit: Module, out: int) -> None:
        super().__init__()
        self.vit, self.head = vit, nn.Linear(48, out)

    def forward(self, pixel_values):
        return self.head(self.vit(pixel_values).last_hidden_state[:, 0])


def seeded_head(module: Module, seed: int) -> Module:
    """New random weights for the parts that are the model's own (linear layers of the wrapper)."""
    torch.manual_seed(seed)
    for part in module.children():
        if isinstance(part, (nn.Linear, nn.Sequential)):
            for p in part.parameters():
                p.data = torch.randn(p.shape) * 0.1
    return module


def with_config(clip: Module, config: tf.CLIPConfig) -> Module:
    other = tf.CLIPModel(config).eval()
    other.load_state_dict(clip.state_dict())
    return other


BOTH = ["pixel_values", "input_ids", "attention_mask"]
WORDS = ["input_ids", "attention_mask", "token_type_ids"]


class Maker:
    """Exports models once, and writes down which sets of them share how much."""

    def __init__(self, out: Path, only: set[str]) -> None:
        self.out, self.only = out, only
        self.sets: list[dict] = []
        self.made: set[str] = set()
        self.clip = seeded(10, lambda: tf.CLIPModel(clip_config()))
        self.vision, self.text = self.clip.vision_model, self.clip.text_model
        self.towers = size(self.vision, self.text, self.clip.visual_projection, self.clip.text_projection)
        self.gpt = seeded(13, lambda: tf.GPT2LMHeadModel(
            tf.GPT2Config(vocab_size=400, n_positions=64, n_embd=96, n_layer=4, n_head=4)))
        self.vit = seeded(14, lambda: tf.ViTModel(vit_config(), add_pooling_layer=False))

    def wanted(self, name: str) -> bool:
        new = name not in self.made
        self.made.add(name)
        return new and (not self.only or bool(self.only & {name, "all"}) or not (self.out / name).exists())

    def model(self, name: str, *args, **kwargs) -> str:
        if self.wanted(name):
            export(self.out, name, *args, **kwargs)
        return name

    def together(self, name: str, names: list[str], shareable: int, **extra) -> None:
        self.sets.append({"name": name, "models": names, "shareable": shareable, **extra})

    def retrieval(self) -> str:
        return self.model("retrieval", Retrieval(self.clip), BOTH)

    def against(self, name: str, short: str, clip: Module, shareable: int, **extra) -> None:
        """Retrieval on another CLIP, beside retrieval on the first one."""
        self.together(name, [self.retrieval(), self.model(short, Retrieval(clip), BOTH)], shareable, **extra)

    def tasks(self) -> None:
        clip, vision = self.clip, self.vision
        retrieval = self.retrieval()
        vqa = self.model("vqa", seeded_head(Vqa(clip), 21), BOTH)
        classify = self.model("classify", seeded_head(Classify(clip), 22), ["pixel_values"])
        config = tf.ASTConfig(hidden_size=64, intermediate_size=256, num_hidden_layers=4, num_attention_heads=4,
                              max_length=64, num_mel_bins=32, patch_size=8, frequency_stride=8, time_stride=8)
        audio = seeded(11, lambda: tf.ASTModel(config))
        align = self.model("align", seeded_head(Align(clip, audio), 23), BOTH + ["input_features"], 3)
        self.together("retrieval+vqa", [retrieval, vqa], self.towers)
        self.together("retrieval+classify", [retrieval, classify], size(vision))
        self.together("four tasks", [retrieval, vqa, classify, align], 2 * self.towers + size(vision))
        twins = self.model("twins", Twins(clip), ["left", "right"])
        self.together("twins", [twins, retrieval], size(vision, clip.visual_projection))
        batched = self.model("batched", BatchFromImage(clip), ["pixel_values", "input_ids"])
        self.together("batch from image", [retrieval, batched], self.towers)

    def decoders(self) -> None:
        clip, vision, gpt, vit = self.clip, self.vision, self.gpt, self.vit
        ports = ["pixel_values", "input_ids"]
        llava = self.model("llava", seeded_head(Llava(clip, gpt), 24), ports)
        vitlm = self.model("vitlm", seeded_head(VitLm(vit, gpt), 25), ports)
        early = size(vision.embeddings, vision.pre_layrnorm, *vision.encoder.layers[:4])
        # the table of words is tied: the exporter writes it twice, once of them transposed
        decoder = size(gpt) + size(gpt.transformer.wte)
        self.together("retrieval+llava", [self.retrieval(), llava], early)
        self.together("one decoder, two encoders", [llava, vitlm], decoder)
        self.together("llava and all", [self.retrieval(), llava, vitlm], early + decoder)
        config = tf.LlamaConfig(vocab_size=400, hidden_size=96, intermediate_size=192, num_hidden_layers=4,
                                num_attention_heads=4, max_position_embeddings=64)
        lm = seeded(12, lambda: tf.LlamaForCausalLM(config))
        one = self.model("llama-clip", seeded_head(Llava(clip, lm), 26), ports)
        two = self.model("llama-vit", seeded_head(VitLm(vit, lm), 27), ports)
        self.together("one llama, two encoders", [one, two], size(lm))
        caption_model = seeded(19, lambda: tf.VisionEncoderDecoderModel(
            encoder=tf.ViTModel(vit_config(), add_pooling_layer=False),
            decoder=tf.GPT2LMHeadModel(tf.GPT2Config(vocab_size=400, n_positions=64, n_embd=48, n_layer=2, n_head=4,
                                                     add_cross_attention=True))))
        caption_model.encoder = vit
        caption = self.model("caption", Caption(caption_model), ["pixel_values", "decoder_input_ids"])
        seen = self.model("vitclass", seeded_head(VitHead(vit, 9), 31), ["pixel_values"])
        self.together("vit-gpt2", [caption, seen], size(vit))

    def changes(self) -> None:
        clip, vision, towers = self.clip, self.vision, self.towers
        layers = vision.encoder.layers
        last = changed(clip, lambda m: m.vision_model.encoder.layers[3], lambda m: m.vision_model.encoder.layers[4])
        self.against("fine-tuned last layers", "tuned", last, towers - size(*layers[3:]))
        first = changed(clip, lambda m: m.vision_model.encoder.layers[0])
        self.against("changed first layer", "first", first, towers - size(layers[0]))
        patch = changed(clip, lambda m: m.vision_model.embeddings)
        self.against("changed patch embedding", "patch", patch, towers - size(vision.embeddings))
        middle = changed(clip, lambda m: m.vision_model.encoder.layers[2].mlp)
        self.against("changed middle", "middle", middle, towers - size(layers[2].mlp))
        ends = changed(clip, lambda m: m.visual_projection, lambda m: m.text_projection)
        self.against("other projections", "projected", ends, size(vision, self.text))
        bias = copy.deepcopy(clip)
        bias.vision_model.encoder.layers[1].mlp.fc1.bias.data += 0.1
        self.against("one bias", "biased", bias, towers)
        lora = copy.deepcopy(clip)
        generator = torch.Generator().manual_seed(5)
        for layer in lora.vision_model.encoder.layers:
            for part in (layer.self_attn.q_proj, layer.self_attn.v_proj):
                part.weight.data += 0.1 * torch.randn(64, 2, generator=generator) @ torch.randn(2, 64, generator=generator)
        self.against("merged adapters", "adapted", lora, towers - 5 * 2 * 64 * 64 * 4)
        swapped = copy.deepcopy(clip)
        parts = swapped.vision_model.encoder.layers
        parts[1], parts[3] = parts[3], parts[1]
        self.against("swapped layers", "swapped", swapped, towers)

    def forms(self) -> None:
        clip, retrieval, all_of_it = self.clip, self.retrieval(), self.towers + 4
        for name, short, how in [("other axis names", "renamed", {"rename": True}), ("opset 17", "opset17", {"opset": 17}),
                                 ("not folded", "unfolded", {"fold": False})]:
            self.together(name, [retrieval, self.model(short, Retrieval(clip), BOTH, **how)], all_of_it)
        for name, short, axes in [("fixed axes", "fixed", ()), ("fixed sequence", "batchonly", ("batch",)),
                                  ("fixed batch", "lengthonly", ("sequence",))]:
            other = self.model(short, Retrieval(clip), BOTH, dynamic=axes)
            # the runtime itself rounds otherwise where it knows the batch: it fuses more
            self.together(name, [retrieval, other], all_of_it, **({} if "batch" in axes else {"tolerance": 2e-6}))
        still = self.model("fixedclass", seeded_head(Classify(clip), 22), ["pixel_values"], dynamic=())
        self.together("fixed classifier", [retrieval, still], size(self.vision), tolerance=2e-6)
        twins = self.model("fixedtwins", Twins(clip), ["left", "right"], dynamic=())
        self.together("fixed twins", [retrieval, twins], size(self.vision, clip.visual_projection), tolerance=2e-6)
        other = seeded(20, lambda: tf.CLIPModel(clip_config()))
        self.together("trap: fixed, other weights", [retrieval, self.model("fixedother", Retrieval(other), BOTH, dynamic=())],
                      0, at_most=0)
        self.together("trap: fixed, other epsilon",
                      [retrieval, self.model("fixedeps", Retrieval(with_config(clip, clip_config(eps=1e-6))), BOTH, dynamic=())],
                      -1, at_most=size(self.vision.embeddings, self.text.embeddings), tolerance=2e-6)
        for name in ("retrieval", "classify"):
            if self.wanted(f"{name}8"):
                quantize(self.out, name, f"{name}8")
        self.together("quantised", ["retrieval8", "classify8"], size(self.vision) // 4, open=True)

    def others(self) -> None:
        config = tf.WhisperConfig(vocab_size=400, d_model=64, encoder_layers=4, encoder_attention_heads=4,
                                  decoder_layers=2, decoder_attention_heads=4, encoder_ffn_dim=256,
                                  decoder_ffn_dim=256, num_mel_bins=20, max_source_positions=32,
                                  max_target_positions=32, pad_token_id=0, bos_token_id=1, eos_token_id=2,
                                  decoder_start_token_id=1, suppress_tokens=None, begin_suppress_tokens=None)
        whisper = seeded(15, lambda: tf.WhisperModel(config))
        heard = self.model("heard", seeded_head(WhisperHead(whisper, 6), 28), ["whisper_features"])
        speech = self.model("speech", Speech(whisper), ["whisper_features", "decoder_input_ids"])
        self.together("whisper encoder", [heard, speech], size(whisper.encoder))
        bert_config = tf.BertConfig(vocab_size=400, hidden_size=64, intermediate_size=256, num_hidden_layers=3,
                                    num_attention_heads=4, max_position_embeddings=32)
        bert = seeded(16, lambda: tf.BertModel(bert_config))
        judge = seeded(17, lambda: tf.BertForSequenceClassification(bert_config))
        judge.bert = bert
        embed = self.model("bert", Pick(bert, WORDS, "last_hidden_state"), WORDS)
        judged = self.model("judge", Pick(judge, WORDS, "logits"), WORDS)
        self.together("bert", [embed, judged], size(bert) - size(bert.pooler))
        resnet = seeded(18, lambda: tf.ResNetModel(
            tf.ResNetConfig(embedding_size=16, hidden_sizes=[32, 128], depths=[2, 2], layer_type="bottleneck")))
        one = self.model("resnet1", seeded_head(ResNetHead(resnet, 5), 29), ["pixel_values"])
        two = self.model("resnet2", seeded_head(ResNetHead(resnet, 7), 30), ["pixel_values"])
        self.together("resnet", [one, two], size(resnet))
        kept = self.model("resnetkept", seeded_head(ResNetHead(resnet, 5), 29), ["pixel_values"],
                          training=torch.onnx.TrainingMode.PRESERVE)
        self.together("batch norm folded or not", [two, kept], size(resnet), levels=["basic", "extended", "all"])

    def traps(self) -> None:
        clip = self.clip
        self.against("trap: other weights", "other", seeded(20, lambda: tf.CLIPModel(clip_config())), 0, at_most=0)
        before = size(self.vision.embeddings, self.text.embeddings)
        self.against("trap: other epsilon", "eps", with_config(clip, clip_config(eps=1e-6)), before, at_most=before)
        # up to the first activation or the first heads: embeddings and a part of the first layers
        part = before + sum(size(m.encoder.layers[0].self_attn, m.encoder.layers[0].mlp.fc1) for m in (self.vision, self.text))
        self.against("trap: other activation", "gelu", with_config(clip, clip_config(act="gelu")), -1, at_most=part + 4096)
        self.against("trap: other heads", "heads", with_config(clip, clip_config(heads=2)), -1, at_most=part)
        half = copy.deepcopy(clip)
        for p in half.parameters():
            p.data = p.data.half().float()
        self.against("trap: rounded", "rounded", half, 0, at_most=0)


def vit_config() -> tf.ViTConfig:
    return tf.ViTConfig(hidden_size=48, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
                        image_size=32, patch_size=8)


def quantize(out: Path, name: str, to: str) -> None:
    from onnxruntime.quantization import quantize_dynamic
    (out / to).mkdir(exist_ok=True)
    quantize_dynamic(str(out / name / "model.onnx"), str(out / to / "model.onnx"))


def main() -> None:
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    maker = Maker(out, set(sys.argv[2:]))
    for step in (maker.tasks, maker.decoders, maker.changes, maker.forms, maker.others, maker.traps):
        step()
    (out / "sets.json").write_text(json.dumps(maker.sets, indent=1))


if __name__ == "__main__":
    main()

"""More exports by the current torch: forms of one model, halves, quantised, decoders, tools; see exports.py.

Usage: exports_more.py OUT [STEP...]      (requirements of exports_new.py, onnxruntime)

Writes OUT/<model>/model.onnx and OUT/sets.json for check_split.py.  Everything is seeded; nothing is downloaded.
"""
from __future__ import annotations

import copy
import json
import sys
import traceback
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn
import transformers as tf

import exports as base
from exports import Classify, Llava, Pick, ResNetHead, Retrieval, Speech, Twins, VitHead, VitLm, Vqa, WhisperHead
from exports import changed, seeded, seeded_head, size

warnings.filterwarnings("ignore")
BOTH, PORTS = base.BOTH, ["pixel_values", "input_ids"]
DYNAMIC = ("batch", "sequence", "decoded")


def export(path: Path, module: nn.Module, inputs: list[str], outputs: int = 1, opset: int = 17, dynamo: bool = False,
           dynamic: tuple[str, ...] = DYNAMIC, rows: int = 2, half: bool = False, names: list[str] | None = None,
           **more) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    names = names or [i.replace("whisper_features", "input_features") for i in inputs]
    values = [base.INPUTS[i][0][:rows] for i in inputs]
    values = tuple(v.half() if half and v.is_floating_point() else v for v in values)
    axes = [{k: v for k, v in base.INPUTS[i][1].items() if v in dynamic} for i in inputs]
    module = (module.half() if half else module).eval()
    with torch.no_grad():
        if dynamo:
            dims = tuple({k: torch.export.Dim.DYNAMIC for k in a} for a in axes)
            torch.onnx.export(module, values, str(path), input_names=names, dynamo=True, dynamic_shapes=dims,
                              opset_version=max(opset, 18), verbose=False, **more)
        else:
            torch.onnx.export(module, values, str(path), input_names=names,
                              output_names=[f"output_{i}" for i in range(outputs)], dynamo=False, opset_version=opset,
                              dynamic_axes=dict(zip(names, axes)), **more)


class Clap(nn.Module):
    def __init__(self, clap: nn.Module) -> None:
        super().__init__()
        self.clap = clap

    def forward(self, input_features, input_ids, attention_mask):
        sound = self.clap.get_audio_features(input_features=input_features)
        text = self.clap.get_text_features(input_ids=input_ids, attention_mask=attention_mask)
        return text @ sound.t()


class ClapHead(nn.Module):
    def __init__(self, clap: nn.Module) -> None:
        super().__init__()
        self.audio, self.head = clap.audio_model, nn.Linear(64, 7)

    def forward(self, input_features):
        return self.head(self.audio(input_features=input_features).pooler_output)


class Text(nn.Module):
    """A head on the states of a text encoder."""

    def __init__(self, encoder: nn.Module, width: int, out: int) -> None:
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(width, out)

    def forward(self, input_ids):
        return self.head(self.encoder(input_ids=input_ids).last_hidden_state.mean(1))


class Both(nn.Module):
    """Encoder and decoder; logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids, decoder_input_ids):
        return self.model(input_ids=input_ids, decoder_input_ids=decoder_input_ids, use_cache=False).logits


class Prefix(nn.Module):
    """A causal language model behind the projected states of a vision encoder."""

    def __init__(self, vision: nn.Module, lm: nn.Module, width: int, into: int) -> None:
        super().__init__()
        self.vision, self.lm, self.project = vision, lm, nn.Linear(width, into)

    def forward(self, pixel_values, input_ids):
        image = self.project(self.vision(pixel_values).last_hidden_state)
        words = self.lm.get_input_embeddings()(input_ids)
        return self.lm(inputs_embeds=torch.cat([image, words], 1), use_cache=False).logits


class Lm(nn.Module):
    def __init__(self, lm: nn.Module) -> None:
        super().__init__()
        self.lm = lm

    def forward(self, input_ids):
        return self.lm(input_ids=input_ids, use_cache=False).logits


class Maker:
    def __init__(self, out: Path) -> None:
        self.out, self.sets = out, []
        self.clip = seeded(10, lambda: tf.CLIPModel(base.clip_config()))
        self.vision, self.text = self.clip.vision_model, self.clip.text_model
        self.towers = size(self.vision, self.text, self.clip.visual_projection, self.clip.text_projection)
        self.vit = seeded(14, lambda: tf.ViTModel(base.vit_config(), add_pooling_layer=False))

    def model(self, name: str, module: nn.Module, inputs: list[str], **how) -> str:
        path = self.out / name / "model.onnx"
        if not path.exists():
            export(path, copy.deepcopy(module), inputs, **how)
        return name

    def together(self, name: str, names: list[str], shareable: int, **extra) -> None:
        self.sets.append({"name": name, "models": names, "shareable": shareable, **extra})

    def retrieval(self, clip: nn.Module | None = None, name: str = "retrieval", **how) -> str:
        return self.model(name, Retrieval(clip or self.clip), BOTH, **how)

    def vqa(self, name: str = "vqa", **how) -> str:
        return self.model(name, seeded_head(Vqa(self.clip), 21), BOTH, **how)

    def classify(self, name: str = "classify", **how) -> str:
        return self.model(name, seeded_head(Classify(self.clip), 22), ["pixel_values"], **how)

    def halves(self) -> None:
        for dynamo in (False, True):
            tag = "dynamo" if dynamo else "script"
            a = self.retrieval(name=f"half-retrieval-{tag}", half=True, dynamo=dynamo)
            b = self.classify(f"half-classify-{tag}", half=True, dynamo=dynamo)
            c = self.vqa(f"half-vqa-{tag}", half=True, dynamo=dynamo)
            self.together(f"fp16 {tag}", [a, b], size(self.vision) // 2)
            self.together(f"fp16 {tag}, both towers", [a, c], self.towers // 2)
        self.together("trap: fp16 against fp32", ["half-retrieval-script", self.retrieval()], 0, at_most=0)
        from onnxruntime.transformers.float16 import convert_float_to_float16
        for name in (self.retrieval(), self.classify()):
            path = self.out / f"converted-{name}" / "model.onnx"
            if not path.exists():
                path.parent.mkdir(exist_ok=True)
                onnx.save(convert_float_to_float16(onnx.load(self.out / name / "model.onnx"), keep_io_types=True), path)
        self.together("fp16 converted", ["converted-retrieval", "converted-classify"], size(self.vision) // 2)

    def forms(self) -> None:
        one = self.retrieval()
        for opset in (14, 15, 16, 18, 19, 20):
            self.together(f"opset {opset} against 17", [one, self.retrieval(name=f"opset{opset}", opset=opset)], self.towers + 4)
        eager = copy.deepcopy(self.clip)  # what older operator sets have no other attention for
        eager.set_attn_implementation("eager")
        for opset in (13, 11, 12, 17):
            self.retrieval(eager, f"eager{opset}", opset=opset)
            if opset < 13:
                self.together(f"opset {opset} against 13", [f"eager{opset}", "eager13"], self.towers + 4)
        self.together("opset 13 against 17", ["eager13", "eager17"], self.towers + 4)
        for name, how in [("axes-none", {"dynamic": ()}), ("axes-batch", {"dynamic": ("batch",)}),
                          ("batch1", {"dynamic": (), "rows": 1}), ("unfolded", {"do_constant_folding": False}),
                          ("initialisers", {"keep_initializers_as_inputs": True}), ("names", {"names": ["a", "b", "c"]}),
                          ("preserved", {"training": torch.onnx.TrainingMode.PRESERVE})]:
            still = "dynamic" in how and "batch" not in how["dynamic"]
            if name == "initialisers":  # the runtime fuses nothing there: other bits, so shared with its like only
                self.retrieval(name=name, **how)
                continue
            self.together(name, [one, self.retrieval(name=name, **how)], self.towers + 4, **({"tolerance": 2e-6} if still else {}))
        given = self.classify("initialisers-classify", keep_initializers_as_inputs=True)
        self.together("initialisers as inputs", ["initialisers", given], size(self.vision))
        self.together("unfolded with itself", ["unfolded", self.classify("unfolded-classify", do_constant_folding=False)], size(self.vision))
        head = seeded_head(Classify(eager), 22)
        self.together("opset 11 with itself", ["eager11", self.model("eager11-classify", head, ["pixel_values"], opset=11)], size(self.vision))
        self.together("twins", [one, self.model("twins", Twins(self.clip), ["left", "right"])],
                      size(self.vision, self.clip.visual_projection))

    def changes(self) -> None:
        ports, vision = PORTS, self.vision
        gpt = self.gpt()
        tuned = changed(self.clip, lambda m: m.vision_model.encoder.layers[3])
        one = self.model("llava", seeded_head(Llava(self.clip, gpt), 24), ports)
        two = self.model("llava-tuned", seeded_head(Llava(tuned, gpt), 25), ports)
        decoder = size(gpt) + size(gpt.transformer.wte)
        early = size(vision.embeddings, vision.pre_layrnorm, *vision.encoder.layers[:3])
        self.together("llava, last layer tuned", [one, two], early + decoder, length=9, batches=[2])
        self.together("retrieval + llava tuned", [self.retrieval(), two], early, length=9, batches=[2])
        few = copy.deepcopy(self.clip)
        generator = torch.Generator().manual_seed(5)
        for layer in few.vision_model.encoder.layers[1::2]:
            w = layer.self_attn.q_proj.weight
            w.data += 0.1 * torch.randn(64, 2, generator=generator) @ torch.randn(2, 64, generator=generator)
        self.together("few adapters", [self.retrieval(), self.retrieval(few, "adapted")], self.towers - 2 * 64 * 64 * 4)

    def gpt(self) -> nn.Module:
        return seeded(13, lambda: tf.GPT2LMHeadModel(tf.GPT2Config(vocab_size=400, n_positions=64, n_embd=96, n_layer=4, n_head=4)))

    def decoders(self) -> None:
        common = dict(vocab_size=400, hidden_size=96, num_hidden_layers=3, num_attention_heads=4, max_position_embeddings=64)
        made = {"gpt2": (self.gpt, True),
                "opt": (lambda: tf.OPTForCausalLM(tf.OPTConfig(**common, ffn_dim=192, word_embed_proj_dim=96)), True),
                "llama": (lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**common, intermediate_size=192)), False),
                "qwen2": (lambda: tf.Qwen2ForCausalLM(tf.Qwen2Config(**common, intermediate_size=192, num_key_value_heads=2)), False),
                "phi": (lambda: tf.PhiForCausalLM(tf.PhiConfig(**common, intermediate_size=192)), False),
                "neox": (lambda: tf.GPTNeoXForCausalLM(tf.GPTNeoXConfig(**common, intermediate_size=192)), False),
                "gemma": (lambda: tf.GemmaForCausalLM(tf.GemmaConfig(**common, intermediate_size=192, head_dim=24,
                                                                     num_key_value_heads=2)), True)}
        for name, (make, tied) in made.items():
            lm = seeded(12, make)
            for dynamo in (False, True):
                tag = f"{name}-{'dynamo' if dynamo else 'script'}"
                try:
                    one = self.model(f"{tag}-clip", seeded_head(Prefix(self.vision, lm, 64, 96), 26), PORTS, dynamo=dynamo)
                    two = self.model(f"{tag}-vit", seeded_head(Prefix(self.vit, lm, 48, 96), 27), PORTS, dynamo=dynamo)
                except Exception as e:  # noqa: BLE001 - not each class can be exported by both
                    print(f"{tag}: not exported: {type(e).__name__}: {str(e)[:200]}", flush=True)
                    continue
                twice = tied and not dynamo  # the exporter writes a tied table twice, once of them transposed
                self.together(f"{tag} behind two", [one, two], size(lm) + (size(lm.get_input_embeddings()) if twice else 0))
                alone = self.model(f"{tag}-alone", Lm(lm), ["input_ids"], dynamo=dynamo)
                self.together(f"{tag} alone and behind", [one, alone], size(lm) + (size(lm.get_input_embeddings()) if twice else 0))

    def sequences(self) -> None:
        t5 = seeded(31, lambda: tf.T5ForConditionalGeneration(tf.T5Config(
            vocab_size=400, d_model=64, d_kv=16, d_ff=128, num_layers=3, num_heads=4, decoder_start_token_id=0)))
        bart = seeded(32, lambda: tf.BartForConditionalGeneration(tf.BartConfig(
            vocab_size=400, d_model=64, encoder_layers=3, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
            encoder_ffn_dim=128, decoder_ffn_dim=128, max_position_embeddings=64)))
        marian = seeded(33, lambda: tf.MarianMTModel(tf.MarianConfig(
            vocab_size=400, d_model=64, encoder_layers=3, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
            encoder_ffn_dim=128, decoder_ffn_dim=128, max_position_embeddings=64, pad_token_id=0, decoder_start_token_id=0)))
        for name, model, encoder in [("t5", t5, t5.encoder), ("bart", bart, bart.model.encoder), ("marian", marian, marian.model.encoder)]:
            for dynamo in (False, True):
                tag = f"{name}-{'dynamo' if dynamo else 'script'}"
                try:
                    one = self.model(f"{tag}-both", Both(model), ["input_ids", "decoder_input_ids"], dynamo=dynamo)
                    two = self.model(f"{tag}-encoder", seeded_head(Text(encoder, 64, 5), 28), ["input_ids"], dynamo=dynamo)
                    other = copy.deepcopy(model)
                    for p in (other.encoder if name == "t5" else other.model.encoder).block[0].parameters() if name == "t5" \
                            else other.model.encoder.layers[0].parameters():
                        p.data += 0.03
                    three = self.model(f"{tag}-first", Both(other), ["input_ids", "decoder_input_ids"], dynamo=dynamo)
                except Exception as e:  # noqa: BLE001
                    print(f"{tag}: not exported: {type(e).__name__}: {str(e)[:200]}", flush=True)
                    continue
                self.together(f"{tag} encoder", [one, two], size(encoder))
                first = encoder.block[0] if name == "t5" else encoder.layers[0]
                # a table of words for both sides, each in a module of its own; the script exporter writes the
                # output's a second time, transposed
                table = size(model.get_input_embeddings())
                tables = table if name == "t5" else 2 * table
                self.together(f"{tag}, first encoder layer changed", [one, three], size(model) - size(first) + tables)
        config = tf.WhisperConfig(vocab_size=400, d_model=64, encoder_layers=3, encoder_attention_heads=4, decoder_layers=2,
                                  decoder_attention_heads=4, encoder_ffn_dim=128, decoder_ffn_dim=128, num_mel_bins=20,
                                  max_source_positions=32, max_target_positions=32, pad_token_id=0, bos_token_id=1, eos_token_id=2,
                                  decoder_start_token_id=1)
        whisper = seeded(15, lambda: tf.WhisperModel(config))
        other = changed(whisper, lambda m: m.encoder.conv1)
        for dynamo in (False, True):
            tag = "dynamo" if dynamo else "script"
            ports = ["whisper_features", "decoder_input_ids"]
            heard = self.model(f"heard-{tag}", seeded_head(WhisperHead(whisper, 6), 28), ports[:1], dynamo=dynamo)
            speech = self.model(f"speech-{tag}", Speech(whisper), ports, dynamo=dynamo)
            tuned = self.model(f"speech-other-{tag}", Speech(other), ports, dynamo=dynamo)
            # masks are numbers in this class's exports: rows and words are as many as they were at export
            self.together(f"whisper encoder {tag}", [heard, speech], size(whisper.encoder), length=9, batches=[2])
            self.together(f"whisper, other ears {tag}", [speech, tuned], size(whisper) - size(whisper.encoder.conv1), length=9, batches=[2])

    def sounds(self) -> None:
        audio = dict(window_size=4, num_mel_bins=32, spec_size=32, patch_size=4, patch_stride=[4, 4], num_classes=8, hidden_size=64,
                     projection_dim=48, depths=[1, 1], num_attention_heads=[2, 4], patch_embeds_hidden_size=32, enable_fusion=False,
                     num_hidden_layers=2)
        text = dict(vocab_size=400, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128,
                    max_position_embeddings=64, projection_dim=48)
        clap = seeded(41, lambda: tf.ClapModel(tf.ClapConfig(audio_config=audio, text_config=text, projection_dim=48)))
        base.INPUTS["clap_features"] = (torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(8)), {0: "batch"})
        for dynamo in (False, True):
            tag = "dynamo" if dynamo else "script"
            try:
                both = self.model(f"clap-{tag}", Clap(clap), ["clap_features", "input_ids", "attention_mask"], dynamo=dynamo)
                head = self.model(f"claphead-{tag}", seeded_head(ClapHead(clap), 42), ["clap_features"], dynamo=dynamo)
            except Exception as e:  # noqa: BLE001
                print(f"clap {tag}: not exported: {type(e).__name__}: {str(e)[:200]}", flush=True)
                continue
            self.together(f"clap {tag}", [both, head], size(clap.audio_model))

    def pictures(self) -> None:
        resnet = seeded(18, lambda: tf.ResNetModel(
            tf.ResNetConfig(embedding_size=16, hidden_sizes=[32, 128], depths=[2, 2], layer_type="bottleneck")))
        one = self.model("resnet1", seeded_head(ResNetHead(resnet, 5), 29), ["pixel_values"])
        for name, how in [("resnet-preserve", {"training": torch.onnx.TrainingMode.PRESERVE}), ("resnet-dynamo", {"dynamo": True}),
                          ("resnet-unfolded", {"do_constant_folding": False}), ("resnet-opset11", {"opset": 11}), ("resnet-opset20", {"opset": 20})]:
            two = self.model(name, seeded_head(ResNetHead(resnet, 7), 30), ["pixel_values"], **how)
            self.together(name, [one, two], size(resnet), levels=["basic", "extended", "all"])

    def exporters(self) -> None:
        self.together("exporters, retrieval", [self.retrieval(), self.retrieval(name="dynamo", dynamo=True)], self.towers, open=True)
        self.together("exporters 18, retrieval", ["opset18", "dynamo"], self.towers, open=True)
        self.together("dynamo tasks", ["dynamo", self.vqa("dynamo-vqa", dynamo=True), self.classify("dynamo-classify", dynamo=True)],
                      self.towers + size(self.vision))
        self.together("dynamo fixed", ["dynamo", self.retrieval(name="dynamo-fixed", dynamo=True, dynamic=())], self.towers, tolerance=2e-6)
        tuned = changed(self.clip, lambda m: m.vision_model.encoder.layers[4])
        self.together("dynamo tuned", ["dynamo", self.retrieval(tuned, "dynamo-tuned", dynamo=True)],
                      self.towers - size(self.vision.encoder.layers[4]))
        self.together("dynamo 20", ["dynamo", self.retrieval(name="dynamo20", dynamo=True, opset=20)], self.towers)

    def tools(self) -> None:
        import onnxruntime as ort
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
        from onnxruntime.transformers.optimizer import optimize_model
        pair = [self.retrieval(), self.classify()]

        class Reader(CalibrationDataReader):
            def __init__(self, path: Path) -> None:
                ports = [i.name for i in ort.InferenceSession(str(path)).get_inputs()]
                self.rows = iter([{p: base.INPUTS[p][0].numpy() for p in ports}])

            def get_next(self):
                return next(self.rows, None)

        def static(source: Path, to: Path, format_: QuantFormat) -> None:
            quantize_static(str(source), str(to), Reader(source), quant_format=format_, weight_type=QuantType.QInt8)

        def basic(source: Path, to: Path, level=ort.GraphOptimizationLevel.ORT_ENABLE_BASIC) -> None:
            options = ort.SessionOptions()
            options.graph_optimization_level, options.optimized_model_filepath = level, str(to)
            ort.InferenceSession(str(source), options)

        quarter, whole = size(self.vision) // 4, size(self.vision)
        ways = {"qdq": (lambda s, t: static(s, t, QuantFormat.QDQ), quarter, True),
                "qop": (lambda s, t: static(s, t, QuantFormat.QOperator), quarter, True),
                "dyn": (lambda s, t: quantize_dynamic(str(s), str(t), weight_type=QuantType.QInt8), quarter, True),
                "dynu": (lambda s, t: quantize_dynamic(str(s), str(t), per_channel=True, weight_type=QuantType.QUInt8), quarter, True),
                "basic": (basic, whole, False),
                "fused": (lambda s, t: optimize_model(str(s), "clip", num_heads=4, hidden_size=64).save_model_to_file(str(t)), whole, False),
                "bertfused": (lambda s, t: optimize_model(str(s), "vit", num_heads=4, hidden_size=64, opt_level=1).save_model_to_file(str(t)), whole, False)}
        for way, (act, shareable, loose) in ways.items():
            try:
                for name in pair:
                    to = self.out / f"{way}-{name}" / "model.onnx"
                    if not to.exists():
                        to.parent.mkdir(exist_ok=True)
                        act(self.out / name / "model.onnx", to)
            except Exception as e:  # noqa: BLE001
                print(f"{way}: not made: {type(e).__name__}: {str(e)[:200]}", flush=True)
                continue
            self.together(way, [f"{way}-{n}" for n in pair], shareable, **({"open": True} if loose else {}))
        self.together("basic against plain", ["basic-retrieval", pair[0]], self.towers, open=True)


def main() -> None:
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    maker = Maker(out)
    steps = sys.argv[2:] or ["halves", "forms", "changes", "decoders", "sequences", "sounds", "pictures", "exporters", "tools"]
    for step in steps:
        try:
            getattr(maker, step)()
        except Exception:  # noqa: BLE001 - the others go on
            traceback.print_exc()
        (out / "sets.json").write_text(json.dumps(maker.sets, indent=1))


if __name__ == "__main__":
    main()

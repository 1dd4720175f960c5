"""whole.py FOLDER OUT.onnx - joins the files of a model folder into one whole model.

This is the model as somebody would have it who never thought of splitting: encoders, head and, for
the models that compare, the similarities, in one graph.  The work on finding shared parts and the
check "split equals whole" need it; the result is not committed.

Outputs of a file are joined to inputs of the same name (last_hidden_state to
encoder_hidden_states).  Names inside get a prefix, so no file's names clash with another's.

Needs: onnx (requirements.txt).
"""
from __future__ import annotations

import argparse
import json
from itertools import combinations
from pathlib import Path

import numpy as np
import onnx
from onnx import AttributeProto, ModelProto, helper, numpy_helper

SAME = {"encoder_hidden_states": "last_hidden_state"}


def parts(folder: Path) -> list[ModelProto]:
    """The files of onnx/, encoders before heads."""
    files = sorted((folder / "onnx").glob("*.onnx"))
    if not files:
        raise SystemExit(f"{folder}: no onnx/*.onnx")
    heads = [f for f in files if f.stem.startswith(("classifier", "decoder"))]
    return [prefixed(f) for f in files if f not in heads] + [prefixed(f) for f in heads]


def prefixed(path: Path) -> ModelProto:
    """The file with its name before every name that is neither an input nor an output of it."""
    model = onnx.load(path)
    graph = model.graph
    keep = {port.name for port in [*graph.input, *graph.output]} | {""}

    def name(old: str) -> str:
        return old if old in keep else f"{path.stem}.{old}"

    for node in graph.node:
        if any(a.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for a in node.attribute):
            raise SystemExit(f"{path}: node '{node.name}' has a graph inside; cannot be joined")
        node.name = f"{path.stem}.{node.name}"
        node.input[:] = [name(n) for n in node.input]
        node.output[:] = [name(n) for n in node.output]
    for tensor in graph.initializer:
        tensor.name = name(tensor.name)
    del graph.value_info[:]
    return model


def join(models: list[ModelProto]) -> ModelProto:
    """One graph; what one file gives and another takes is no longer an input, but stays an
    output."""
    out = onnx.ModelProto()
    out.CopyFrom(models[0])
    for model in models[1:]:
        given = {o.name for o in out.graph.output}
        known = {i.name for i in out.graph.input}
        rename = {}
        for port in model.graph.input:
            source = SAME.get(port.name, port.name)
            if source in given:
                rename[port.name] = source
            elif port.name not in known:
                out.graph.input.append(port)
        for node in model.graph.node:
            for i, name in enumerate(node.input):
                node.input[i] = rename.get(name, name)
        out.graph.node.extend(model.graph.node)
        out.graph.initializer.extend(model.graph.initializer)
        out.graph.output.extend(model.graph.output)
    return out


def add_similarities(model: ModelProto, scale: float) -> None:
    """logits_per_A_B [batch of A, batch of B] = scale * A B^T for every pair of embeddings; each
    modality gets a batch of its own."""
    graph = model.graph
    names = [o.name for o in graph.output if o.name.endswith("_embeds")]
    graph.initializer.append(numpy_helper.from_array(np.float32(scale), "similarity.scale"))
    for name in names:
        graph.node.append(helper.make_node("Transpose", [name], [f"similarity.{name}_t"],
                                           name=f"similarity.{name}_t", perm=[1, 0]))
    for a, b in combinations(names, 2):
        short_a, short_b = a.removesuffix("_embeds"), b.removesuffix("_embeds")
        out = f"logits_per_{short_a}_{short_b}"
        graph.node.append(helper.make_node("MatMul", [a, f"similarity.{b}_t"],
                                           [f"similarity.{out}"], name=f"similarity.{out}"))
        graph.node.append(helper.make_node("Mul", [f"similarity.{out}", "similarity.scale"], [out],
                                           name=out))
        graph.output.append(helper.make_tensor_value_info(
            out, onnx.TensorProto.FLOAT, [f"{short_a}_batch", f"{short_b}_batch"]))
    split_batches(model)


def split_batches(model: ModelProto) -> None:
    """The axis "batch" of the pictures, texts and sounds of one call need not be equally long."""
    kinds = {"pixel_values": "image", "image_embeds": "image", "last_hidden_state": "image",
             "input_ids": "text", "attention_mask": "text", "text_embeds": "text",
             "input_values": "audio", "audio_embeds": "audio"}
    for port in [*model.graph.input, *model.graph.output]:
        first = port.type.tensor_type.shape.dim[0]
        if port.name in kinds and first.dim_param == "batch":
            first.dim_param = kinds[port.name] + "_batch"


def whole(folder: Path) -> ModelProto:
    model = join(parts(folder))
    scale = json.loads((folder / "config.json").read_text()).get("logit_scale_init_value")
    if scale is not None:
        add_similarities(model, float(np.exp(scale)))
    onnx.checker.check_model(model, full_check=True)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    onnx.save(whole(args.folder), args.out)


if __name__ == "__main__":
    main()

"""whole.py PART.onnx ... OUT.onnx [--scale X] - joins encoders and a head into one whole model.

This is a model as somebody has it who never thought of splitting: encoders, head and, for the
models that compare, the similarities, in one graph.  export.py makes the files of the model folders
with it.

Outputs of a part are joined to inputs of the same name (last_hidden_state to
encoder_hidden_states).  Names inside get a prefix, so no part's names clash with another's.

Needs: onnx (requirements.txt).
"""
from __future__ import annotations

import argparse
from itertools import combinations
from pathlib import Path

import numpy as np
import onnx
from onnx import AttributeProto, ModelProto, helper, numpy_helper

SAME = {"encoder_hidden_states": "last_hidden_state"}


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


def whole(parts: list[Path], scale: float | None = None) -> ModelProto:
    """parts: encoders first; scale: of the similarities, for models that compare."""
    model = join([prefixed(p) for p in parts])
    if scale is not None:
        add_similarities(model, scale)
    onnx.checker.check_model(model, full_check=True)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", type=Path, nargs="+")
    parser.add_argument("out", type=Path)
    parser.add_argument("--scale", type=float)
    args = parser.parse_args()
    args.out.write_bytes(whole(args.parts, args.scale).SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()

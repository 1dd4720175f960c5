"""Makes the small models of this folder: small/ (good ones) and hostile/ (each broken in one way).

Usage: make.py        (needs the `onnx` package; the files are committed, so tests do not)

Weights are seeded.  hostile/expected.txt holds, for each broken file, a part of the error text.  traps/ holds pairs
NAME-0, NAME-1 that a canonical form would make one if it were careless: their answers differ (tests/e2e/test_onnx_bits.py).
"""
from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, load, numpy_helper, save

HERE = Path(__file__).parent
SMALL, HOSTILE, TRAPS = HERE / "small", HERE / "hostile", HERE / "traps"
F, I = TensorProto.FLOAT, TensorProto.INT64
D = 24
node, info = helper.make_node, helper.make_tensor_value_info


def weight(seed: int, *dims: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(dims).astype(np.float32) * 0.3


def model(graph: GraphProto, opset: int = 17, functions=(), domains=()) -> ModelProto:
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    made = helper.make_model(graph, opset_imports=imports, functions=list(functions), producer_name="make.py")
    made.ir_version = 8
    return made


class Net:
    """A graph in the making: nodes in order, initialisers by content."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.inits: list[TensorProto] = []
        self.count = 0

    def const(self, value: np.ndarray) -> str:
        self.count += 1
        self.inits.append(numpy_helper.from_array(value, f"w{self.count}"))
        return self.inits[-1].name

    def add(self, op: str, *inputs: str, out: str = "", **attrs) -> str:
        self.count += 1
        name = out or f"v{self.count}"
        self.nodes.append(node(op, list(inputs), [name], name=f"n{self.count}", **attrs))
        return name

    def layer(self, x: str, seed: int, eps: float = 1e-5, nine: bool = False, act: str = "Relu") -> str:
        """x + W2 act(W1 norm(x))"""
        y = self.norm_nine(x, seed, eps) if nine else self.norm(x, seed, eps)
        y = self.add("MatMul", y, self.const(weight(seed + 1, D, D)))
        y = self.add("Add", y, self.const(weight(seed + 2, D)))
        y = self.gelu(y) if act == "five" else self.add(act, y)
        y = self.add("MatMul", y, self.const(weight(seed + 3, D, D)))
        return self.add("Add", x, y)

    def gelu(self, x: str, root: float = 2 ** 0.5, one: float = 1, half: float = 0.5, times: str = "") -> str:
        """x / 2 (1 + erf(x / sqrt 2)) as exporters before operator set 20 write it"""
        root, one, half = (self.const(np.array(v, np.float32)) for v in (root, one, half))
        y = self.add("Add", self.add("Erf", self.add("Div", x, root)), one)
        return self.add("Mul", self.add("Mul", times or x, y), half)

    def norm(self, x: str, seed: int, eps: float) -> str:
        return self.add("LayerNormalization", x, self.const(weight(seed + 4, D)), self.const(weight(seed + 5, D)),
                        axis=-1, epsilon=eps)

    def norm_nine(self, x: str, seed: int, eps: float) -> str:
        d = self.add("Sub", x, self.add("ReduceMean", x, axes=[-1]))
        square = self.add("Pow", d, self.const(np.array(2, np.float32)))
        v = self.add("Add", self.add("ReduceMean", square, axes=[-1]), self.const(np.array(eps, np.float32)))
        y = self.add("Mul", self.add("Div", d, self.add("Sqrt", v)), self.const(weight(seed + 4, D)))
        return self.add("Add", y, self.const(weight(seed + 5, D)))

    def wide(self, x: str, seed: int, width: int, eps: float = 1e-5, act: str = "Relu", changed: int = -1,
             new: bool = False) -> str:
        """As tower(), of another width, with nodes that say their layer.  new: biases are zeros but in the changed layer."""
        x = self.add("MatMul", x, self.const(weight(seed, 8, width)))
        for i in range(3):
            s, first = seed + 10 * (i + 1) + (500 if i == changed else 0), len(self.nodes)
            y = self.add("LayerNormalization", x, self.const(weight(s + 4, width)), self.const(weight(s + 5, width)),
                         axis=-1, epsilon=eps)
            y = self.add("MatMul", y, self.const(weight(s + 1, width, width)))
            bias = np.zeros(width, np.float32) if new and i != changed else weight(s + 2, width)
            y = self.add(act, self.add("Add", y, self.const(bias)))
            x = self.add("Add", x, self.add("MatMul", y, self.const(weight(s + 3, width, width))))
            for n in self.nodes[first:]:
                n.name = f"/layers.{i}/{n.op_type}"
        return x

    def tower(self, x: str, seed: int, layers: int = 3, changed: int = -1, order: tuple = (), **how) -> str:
        x = self.add("MatMul", x, self.const(weight(seed, 8, D)))
        for i in order or range(layers):
            x = self.layer(x, seed + 10 * (i + 1) + (500 if i == changed else 0), **how)
        return x

    def head(self, x: str, seed: int, width: int, out: str) -> str:
        return self.add("MatMul", x, self.const(weight(seed, D, width)), out=out)

    def save(self, name: str, inputs: dict[str, list], outputs: dict[str, list], opset: int = 17, folder: Path = SMALL) -> None:
        types = {n: I if n.startswith("ids") else F for n in inputs}
        graph = helper.make_graph(self.nodes, name, [info(n, types[n], d) for n, d in inputs.items()],
                                  [info(n, F, d) for n, d in outputs.items()], self.inits)
        save(model(graph, opset), folder / f"{name}.onnx")


X = {"x": ["batch", 5, 8]}


def towers() -> None:
    for name, width, how in [("tower_a", 4, {}), ("tower_b", 6, {}), ("tower_eps", 6, {"eps": 1e-6}),
                             ("tower_act", 6, {"act": "Tanh"}), ("tower_nine", 6, {"nine": True}),
                             ("tower_changed", 6, {"changed": 1}), ("tower_other", 6, {"seed": 900}),
                             ("tower_turned", 6, {"order": (2, 1, 0)}),
                             ("tower_five", 6, {"act": "five"}), ("tower_gelu", 6, {"act": "Gelu"})]:
        net = Net()
        seed = how.pop("seed", 100)
        net.head(net.tower("x", seed, **how), 700 + width, width, "y")
        net.save(name, X, {"y": ["batch", 5, width]}, {"tower_nine": 13, "tower_gelu": 20}.get(name, 17))
    for name, how in [("wide_a", {}), ("wide_eps", {"eps": 1e-6}), ("wide_act", {"act": "Tanh"}), ("wide_changed", {"changed": 1}),
                      ("wide_new", {"new": True}), ("wide_new_changed", {"new": True, "changed": 1})]:
        net = Net()
        net.add("MatMul", net.wide("x", 100, 72, **how), net.const(weight(700, 72, 4)), out="y")
        net.save(name, X, {"y": ["batch", 5, 4]})
    for name in ("fill_a", "fill_b"):  # they have a large bias in common, and it is all zeros
        net = Net()
        seed, op = (100, "Add") if name == "fill_a" else (200, "Sub")
        x = net.add(op, net.add("MatMul", "x", net.const(weight(seed, 8, 1))), net.const(np.zeros(1100, np.float32)))
        net.add("ReduceMean", net.add("Relu", x), out="y", axes=[-1])
        net.save(name, X, {"y": ["batch", 5, 1]})
    net = Net()
    a, b = net.tower("left", 100), net.tower("right", 100)
    net.add("Mul", a, b, out="y")
    net.save("tower_twice", {"left": ["n", 5, 8], "right": ["n", 5, 8]}, {"y": ["n", 5, D]})
    net = Net()  # what tower_twice's n is here differs
    net.head(net.tower("left", 100), 720, 4, "y")
    net.head(net.tower("right", 100), 730, 4, "z")
    net.save("tower_pair", {"left": [3, 5, 8], "right": [4, 5, 8]}, {"y": [3, 5, 4], "z": [4, 5, 4]})


def decoders() -> None:
    for name, seed, layers in [("behind_a", 300, 2), ("behind_b", 400, 1)]:
        net = Net()
        image = net.tower("x", seed, layers)
        words = net.add("Gather", net.const(weight(600, 40, D)), "ids")
        y = net.add("Concat", image, words, axis=1)
        for i in range(3):
            y = net.layer(y, 610 + 10 * i)
        net.head(y, 690, 7, "y")
        net.save(name, {**X, "ids": ["batch", "words"]}, {"y": ["batch", "all", 7]})


def shapes() -> None:
    """A token before the rest and heads of four, with shapes computed, or as numbers (two axes, or one)."""
    token = weight(30, 1, 1, D)
    for name, dims, seed, heads in [("shape_dynamic", None, 100, 4), ("shape_fixed", (2, 5), 100, 4),
                                    ("shape_length", ("batch", 5), 100, 4), ("shape_heads", (2, 5), 100, 6),
                                    ("shape_other", (2, 5), 900, 4)]:
        net = Net()
        one, minus, width = (net.const(np.array([i], np.int64)) for i in (1, -1, D))
        batch, length = dims or ("batch", "length")
        x = net.add("MatMul", "x", net.const(weight(seed, 8, D)))

        def dim(of: str, at: int, value: int | str) -> str:
            if isinstance(value, int):
                return net.const(np.array([value], np.int64))
            return net.add("Gather", net.add("Shape", of), net.const(np.array([at], np.int64)))

        if isinstance(batch, int):
            first = net.const(np.repeat(token, batch, 0))
        else:
            first = net.add("Expand", net.const(token), net.add("Concat", dim("x", 0, batch), one, width, axis=0))
        x = net.add("Concat", first, x, axis=1)
        for i in range(3):
            y = net.norm(x, seed + 10 * i, 1e-5)
            y = net.add("MatMul", y, net.const(weight(seed + 10 * i + 1, D, D)))
            parts = [np.array([n], np.int64) for n in (heads, D // heads)]
            more = length + 1 if isinstance(length, int) else length
            split = [dim(y, 0, batch), dim(y, 1, more), *(net.const(p) for p in parts)]
            if all(isinstance(d, int) for d in (batch, length)):
                turned = net.const(np.array([batch, more, heads, D // heads], np.int64))
                back = net.const(np.array([batch, more, D], np.int64))
            else:
                turned = net.add("Concat", *split, axis=0)
                back = net.add("Concat", *split[:2], width, axis=0)
            y = net.add("Transpose", net.add("Reshape", y, turned), perm=[0, 2, 1, 3])
            y = net.add("Softmax", y, axis=-1)
            y = net.add("Reshape", net.add("Transpose", y, perm=[0, 2, 1, 3]), back)
            x = net.add("Add", x, y)
        net.head(x, 750, 6, "y")
        rows = length + 1 if isinstance(length, int) else "rows"
        net.save(name, {"x": [batch, length, 8]}, {"y": [batch, rows, 6]})


def crossed() -> None:
    """A text whose one line is repeated for each picture: cross_both.  Pictures and texts alone, of any number."""
    def heads(net: Net, x: str, seed: int, of: str) -> str:
        """x in heads: shapes that exporters compute"""
        dims = [net.add("Unsqueeze", net.add("Gather", net.add("Shape", of), net.const(np.array(i, np.int64))), net.const(ZERO)) for i in (0, 1)]
        y = net.add("MatMul", x, net.const(weight(seed, D, D)))
        y = net.add("Reshape", y, net.add("Concat", *dims, net.const(np.array([2, D // 2], np.int64)), axis=0))
        y = net.add("Reshape", net.add("Relu", y), net.add("Concat", *dims, net.const(np.array([D], np.int64)), axis=0))
        return net.add("Add", x, y)

    ZERO = np.array([0], np.int64)
    for name in ("cross_both", "cross_picture", "cross_text"):
        net = Net()
        if name != "cross_text":
            picture = net.add("MatMul", "picture", net.const(weight(130, 8, D)))
            for i in range(3):
                picture = heads(net, picture, 131 + i, picture)
            picture = net.add("ReduceMax", picture, axes=[1], keepdims=0)
        if name != "cross_picture":
            text = "text"
            if name == "cross_both":
                count = net.add("Unsqueeze", net.add("Gather", net.add("Shape", "picture"), net.const(np.array(0, np.int64))), net.const(ZERO))
                text = net.add("Expand", text, net.add("Concat", count, net.const(np.array([4, 8], np.int64)), axis=0))
            text = net.add("MatMul", text, net.const(weight(140, 8, D)))
            for i in range(3):
                text = heads(net, text, 141 + i, text)
            text = net.add("ReduceMax", text, axes=[1], keepdims=0)
        if name == "cross_both":
            net.add("Mul", picture, text, out="y")
        else:
            net.add("MatMul", picture if name == "cross_picture" else text, net.const(weight(150 + len(name), D, 6)), out="y")
        inputs = {"picture": ["n", 5, 8], "text": [1, 4, 8] if name == "cross_both" else ["n", 4, 8]}
        net.save(name, {k: v for k, v in inputs.items() if name in ("cross_both", f"cross_{k}")}, {"y": ["n", D if name == "cross_both" else 6]})


def words() -> None:
    """One shape in a Reshape's own words (0: as it is) and in numbers; and other numbers."""
    for name, batch, heads in [("words_dynamic", "batch", 4), ("words_fixed", 2, 4), ("words_heads", 2, 6)]:
        net = Net()
        x = net.add("MatMul", "x", net.const(weight(100, 8, D)))
        for i in range(3):
            y = net.add("MatMul", x, net.const(weight(110 + i, D, D)))
            turned = [0, 0, heads, D // heads] if batch == "batch" else [batch, 5, heads, D // heads]
            back = [0, 0, D] if batch == "batch" else [batch, 5, D]
            y = net.add("Reshape", y, net.const(np.array(turned, np.int64)))
            y = net.add("Transpose", net.add("Softmax", net.add("Transpose", y, perm=[0, 2, 1, 3]), axis=-1), perm=[0, 2, 1, 3])
            x = net.add("Add", x, net.add("Reshape", y, net.const(np.array(back, np.int64))))
        net.head(x, 750, 6, "y")
        net.save(name, {"x": [batch, 5, 8]}, {"y": [batch, 5, 6]})


def masks() -> None:
    """A mask that each layer cuts to its own length: three nodes of a dynamic export, which numbers make one."""
    for name, length, number in [("mask_dynamic", "length", False), ("mask_length", 5, False), ("mask_number", 5, True)]:
        net = Net()
        zero, one = (net.const(np.array([i], np.int64)) for i in (0, 1))
        x = net.add("MatMul", "x", net.const(weight(100, 8, D)))
        mask = net.add("Softmax", net.add("MatMul", x, net.const(weight(101, D, 1))), axis=1)
        for i in range(3):
            turned = net.add("Transpose", net.add("MatMul", x, net.const(weight(110 + i, D, D))), perm=[0, 2, 1])
            end = net.add("Unsqueeze", net.add("Gather", net.add("Shape", turned), net.const(np.array(2, np.int64))), zero)
            if number:
                end = net.const(np.array([5], np.int64))
            x = net.add("Add", net.add("MatMul", x, net.const(weight(120 + i, D, D))), net.add("Slice", mask, zero, end, one))
        net.head(x, 750, 6, "y")
        net.save(name, {"x": ["batch", length, 8]}, {"y": ["batch", length, 6]})


def rare() -> None:
    """Layers between operators whose shapes no file says: an Einsum, an If that depends on a length only and an If
    over what stands before it; a table that is cut to a length and multiplied before it is added. The heads differ."""
    def choice(name: str, cond: str, yes: list[NodeProto], no: list[NodeProto]) -> NodeProto:
        graphs = {f"{key}_branch": helper.make_graph(nodes, f"{name}_{key}", [], [helper.make_empty_tensor_value_info(nodes[-1].output[0])])
                  for key, nodes in (("then", yes), ("else", no))}
        return node("If", [cond], [name], name=name, **graphs)

    def constant(name: str, seed: int) -> list[NodeProto]:
        return [node("Constant", [], [name], value=numpy_helper.from_array(weight(seed, D), name))]

    for name, width in (("rare_a", 5), ("rare_b", 7)):
        net = Net()
        axis = net.const(np.array([0], np.int64))
        x = net.add("MatMul", "x", net.const(weight(60, 8, D)))
        steps = net.add("Gather", net.add("Shape", x), net.const(np.array(1, np.int64)))
        table = net.add("Slice", net.const(weight(61, 16, D)), axis, net.add("Unsqueeze", steps, axis), axis)
        table = net.add("Unsqueeze", net.add("MatMul", table, net.const(weight(62, D, D))), axis)
        x = net.add("Add", x, table)
        seven = net.add("Equal", steps, net.const(np.array(7, np.int64)))
        net.nodes.append(choice("by_length", seven, constant("yes", 63), constant("no", 64)))
        x = net.add("Add", x, net.add("Unsqueeze", "by_length", axis))
        net.nodes.append(choice("by_value", seven, [node("Relu", [x], ["bent"])], [node("Neg", [x], ["turned"])]))
        x = net.add("Einsum", net.layer("by_value", 65), net.const(weight(70, D, D)), equation="bsd,de->bse")
        net.add("MatMul", x, net.const(weight(71 + width, D, width)), out="y")
        net.save(name, {"x": ["batch", "steps", 8]}, {"y": ["batch", "steps", width]})


def apart() -> None:
    """Two products of one weight that a node takes apart: weights are never the result of a module."""
    net = Net()
    x = net.tower("x", 100)
    net.nodes.append(node("Split", [net.const(weight(95, 72, 48)), net.const(np.array([24, 48], np.int64))], ["q", "k"],
                          axis=0, name="apart"))
    q = net.add("MatMul", x, net.add("Transpose", net.add("Transpose", "q", perm=[1, 0]), perm=[1, 0]))
    k = net.add("MatMul", net.add("Concat", x, x, axis=-1), "k")
    net.head(net.add("MatMul", net.add("Softmax", net.add("Add", q, k), axis=-1), net.const(weight(96, 48, D))), 750, 6, "y")
    net.save("split_weight", X, {"y": ["batch", 5, 6]})


def convolutions() -> None:
    """Convolutions with their batch norm as a node of its own, and folded as torch folds it."""
    rows = lambda seed: np.abs(weight(seed, 12)) + np.float32(0.1)  # noqa: E731
    for name, folded, bias, eps in [("norm_kept", False, False, 1e-5), ("norm_folded", True, False, 1e-5),
                                    ("bias_kept", False, True, 1e-5), ("bias_folded", True, True, 1e-5),
                                    ("norm_eps", False, False, 1e-3)]:
        net = Net()
        x = "pixels"
        for i, channels in enumerate((3, 12, 12)):
            seed = 40 + 10 * i
            w, b = weight(seed, 12, channels, 3, 3), weight(seed + 1, 12) if bias else None
            scale, shift, mean, variance = rows(seed + 2), weight(seed + 3, 12), weight(seed + 4, 12), rows(seed + 5)
            if folded:
                s = scale / np.sqrt(variance + np.float32(eps))
                w = w * s[:, None, None, None]
                b = shift - mean * s if b is None else (b - mean) * s + shift
            inputs = [net.const(w)] + ([] if b is None else [net.const(b)])
            x = net.add("Conv", x, *inputs, pads=[1, 1, 1, 1])
            if not folded:
                x = net.add("BatchNormalization", x, *(net.const(c) for c in (scale, shift, mean, variance)), epsilon=eps)
            x = net.add("Relu", x)
        net.add("MatMul", net.add("Flatten", net.add("GlobalAveragePool", x)), net.const(weight(90, 12, 5)), out="y")
        net.save(name, {"pixels": ["batch", 3, 8, 8]}, {"y": ["batch", 5]})


def bindings() -> None:
    """The same operators, other ports: f(x, x), f(x, y), f(y, x)."""
    for name, ports in [("bind_xx", "xx"), ("bind_xy", "xy"), ("bind_yx", "yx")]:
        net = Net()
        net.add("Sub", net.tower(ports[0], 100, 1), net.add("Relu", net.tower(ports[1], 200, 1)), out="out")
        net.save(name, {p: ["b", 5, 8] for p in sorted(set(ports))}, {"out": ["b", 5, D]})


    for name, (a, b) in [("ports_xx", "xx"), ("ports_xy", "xy"), ("ports_yx", "yx")]:
        net = Net()
        net.head(net.add("Sub", a, net.add("Relu", b)), 800, 6, "out")
        net.save(name, {p: ["b", 5, D] for p in sorted({a, b})}, {"out": ["b", 5, 6]})


def forms() -> None:
    """One constant in each way that a file can hold it."""
    value = weight(1, 8, D)
    out = [info("y", F, ["batch", 5, D])]

    def put(name: str, nodes: list[NodeProto], inits: list[TensorProto]) -> None:
        nodes = nodes + [node("MatMul", ["x", "w"], ["y"])]
        save(model(helper.make_graph(nodes, name, [info("x", F, X["x"])], out, inits)), SMALL / f"{name}.onnx")

    raw = numpy_helper.from_array(value, "w")
    typed = helper.make_tensor("w", F, value.shape, value.flatten().tolist())
    put("form_raw", [], [raw])
    put("form_typed", [], [typed])
    put("form_node", [node("Constant", [], ["w"], value=raw)], [])
    put("form_identity", [node("Identity", ["w0"], ["w"])], [numpy_helper.from_array(value, "w0")])
    flat = [node("Constant", [], ["flat"], value_floats=value.flatten().tolist()),
            node("Constant", [], ["dims"], value_ints=list(value.shape)), node("Reshape", ["flat", "dims"], ["w"])]
    put("form_floats", flat, [])
    turned = numpy_helper.from_array(np.ascontiguousarray(value.T), "t")
    put("form_turned", [node("Transpose", ["t"], ["w"], perm=[1, 0])], [turned])
    external = TensorProto(name="w", data_type=F, dims=value.shape, data_location=TensorProto.EXTERNAL)
    for key, text in [("location", "form_external.bin"), ("offset", "64"), ("length", str(value.nbytes))]:
        external.external_data.add(key=key, value=text)
    (SMALL / "form_external.bin").write_bytes(b"\0" * 64 + value.tobytes())
    put("form_external", [], [external])


def orders() -> None:
    """A tower with its nodes the other way round; one Softmax in operator sets that say it in other ways."""
    net = Net()
    net.head(net.tower("x", 100), 700, 4, "y")
    net.nodes.reverse()
    net.save("tower_unsorted", X, {"y": ["batch", 5, 4]})
    for name, opset, axis in [("soft_old", 12, 2), ("soft_back", 12, -1), ("soft_new", 13, None)]:
        net = Net()
        x = net.add("MatMul", "x", net.const(weight(100, 8, D)))
        net.head(net.add("Softmax", x, **({} if axis is None else {"axis": axis})), 700, 4, "y")
        net.save(name, X, {"y": ["batch", 5, 4]}, opset)
    for name, scale in [("scale_root", True), ("scale_number", False)]:
        net = Net()
        root = np.float64(0.3)
        s = net.add("Cast", net.add("Sqrt", net.const(np.array(root))), to=F) if scale else net.const(np.sqrt(root).astype(np.float32))
        net.head(net.add("Mul", net.add("MatMul", "x", net.const(weight(100, 8, D))), s), 700, 4, "y")
        net.save(name, X, {"y": ["batch", 5, 4]})


def halves() -> None:
    """Two encoders in halves; what crosses is moved first, or is an answer as well."""
    half = lambda seed, *dims: weight(seed, *dims).astype(np.float16)  # noqa: E731
    H = TensorProto.FLOAT16
    for name, width in [("half_a", 4), ("half_b", 6), ("half_c", 5)]:
        net = Net()
        ends = []
        for port, seed in (("x", 100), ("z", 200)):
            y = net.add("MatMul", port, net.const(half(seed, 8, D)))
            y = net.add("Relu", net.add("MatMul", y, net.const(half(seed + 1, D, D))))
            ends.append(net.add("MatMul", y, net.const(half(seed + 2, D, D)), out=f"end_{port}"))
        y = net.add("Concat", *ends, axis=-1) if name != "half_c" else net.add("Mul", *ends)
        net.add("MatMul", y, net.const(half(300 + width, D if name == "half_c" else 2 * D, width)), out="y")
        outs = {"y": width} if name == "half_a" else {"y": width, "end_x": D}
        graph = helper.make_graph(net.nodes, name, [info(n, H, ["b", 5, 8]) for n in ("x", "z")],
                                  [info(n, H, ["b", 5, d]) for n, d in outs.items()], net.inits)
        save(model(graph), SMALL / f"{name}.onnx")


def defaults() -> None:
    """tower_a and tower_b with their weights listed as inputs, too: the runtime folds and fuses none of them."""
    for name, source in [("tower_given_a", "tower_a"), ("tower_given_b", "tower_b")]:
        made = load(SMALL / f"{source}.onnx")
        made.graph.input.extend(info(t.name, t.data_type, list(t.dims)) for t in made.graph.initializer)
        save(made, SMALL / f"{name}.onnx")


def nested() -> None:
    """Weights only in the branches of an If, which also use an outer value; a function."""
    def branch(name: str, seed: int) -> GraphProto:
        w = numpy_helper.from_array(weight(seed, D, D), f"{name}_w")
        return helper.make_graph([node("Constant", [], [f"{name}_c"], value=w),
                                  node("MatMul", ["h", f"{name}_c"], [f"{name}_y"])], name, [],
                                 [info(f"{name}_y", F, ["b", D])])
    nodes = [node("Relu", ["x"], ["h"]),
             node("If", ["flag"], ["y"], then_branch=branch("yes", 1), else_branch=branch("no", 2))]
    save(model(helper.make_graph(nodes, "g", [info("x", F, ["b", D]), info("flag", TensorProto.BOOL, [])],
                                 [info("y", F, ["b", D])])), SMALL / "nested_if.onnx")
    twice = helper.make_function("local", "Twice", ["a"], ["c"], [node("Relu", ["a"], ["b"]), node("Add", ["b", "b"], ["c"])],
                                 [helper.make_opsetid("", 17)])
    graph = helper.make_graph([node("Twice", ["x"], ["y"], domain="local")], "g", [info("x", F, ["b", D])],
                              [info("y", F, ["b", D])])
    save(model(graph, functions=[twice], domains=["local"]), SMALL / "nested_function.onnx")


def plain(nodes: list[NodeProto], inits=(), x=None, y=None) -> GraphProto:
    return helper.make_graph(nodes, "g", [x or info("x", F, ["b", 4])], [y or info("y", F, ["b", 4])], list(inits))


def deep(levels: int) -> GraphProto:
    inner = helper.make_graph([node("Identity", ["x"], ["y0"])], "g0", [], [info("y0", F, [4])])
    for i in range(1, levels):
        inner = helper.make_graph([node("If", ["f"], [f"y{i}"], then_branch=inner)], f"g{i}", [],
                                  [info(f"y{i}", F, [4])])
    return helper.make_graph([node("If", ["f"], ["y"], then_branch=inner)], "g",
                             [info("x", F, [4]), info("f", TensorProto.BOOL, [])], [info("y", F, [4])])


def external(location: str, offset: str = "0", length: str = "") -> TensorProto:
    t = TensorProto(name="w", data_type=F, dims=[4, 4], data_location=TensorProto.EXTERNAL)
    for key, text in [("location", location), ("offset", offset), ("length", length)]:
        if text:
            t.external_data.add(key=key, value=text)
    return t


def hostile() -> None:
    expected: dict[str, str] = {}
    relu, use = node("Relu", ["x"], ["y"]), node("MatMul", ["x", "w"], ["y"])

    def put(name: str, made: ModelProto | bytes, text: str) -> None:
        data = made if isinstance(made, bytes) else made.SerializeToString()
        (HOSTILE / f"{name}.onnx").write_bytes(data)
        expected[name] = text

    put("empty", b"", "is empty")
    put("text", b"not an ONNX model at all\n", "not an ONNX model")
    whole = model(plain([relu])).SerializeToString()
    put("cut", whole[:-9], "cut short")
    put("no_graph", model(plain([relu])).SerializeToString()[:2], "no graph")
    put("cycle", model(plain([node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"]), node("Relu", ["b"], ["y"])])),
        "not defined before it")
    put("itself", model(plain([node("Add", ["x", "y"], ["y"])])), "not defined before it")
    put("twice", model(plain([relu, node("Tanh", ["x"], ["y"])])), "defined twice")
    put("missing_output", model(plain([node("Relu", ["x"], ["z"])])), "not defined before it")
    put("domain", model(plain([node("Relu", ["x"], ["y"], domain="evil")]), domains=["evil"]), "domain 'evil'")
    put("deep", model(deep(20)), "nested deeper")
    t = numpy_helper.from_array(np.zeros((4, 4), np.float32), "w")
    both = TensorProto()
    both.CopyFrom(t)
    both.float_data.extend([0.0] * 16)
    put("two_fields", model(plain([use], [both])), "two ways")
    three = TensorProto()
    three.CopyFrom(both)
    three.int32_data.extend([1])
    put("three_fields", model(plain([use], [three])), "two ways")
    outside = external("x.bin")
    outside.raw_data = bytes(64)
    put("raw_and_external", model(plain([use], [outside])), "two ways")
    short = TensorProto()
    short.CopyFrom(t)
    short.raw_data = bytes(60)
    put("short_data", model(plain([use], [short])), "holds 60 bytes")
    big = TensorProto(name="w", data_type=F, dims=[1 << 40, 1 << 40])
    put("overflow", model(plain([use], [big])), "product of its dims")
    big = TensorProto(name="w", data_type=F, dims=[1 << 50])
    put("huge", model(plain([use], [big])), "holds 0 bytes")
    negative = TensorProto(name="w", data_type=F, dims=[-4, 4], raw_data=bytes(64))
    put("negative", model(plain([use], [negative])), "dim 0 is -4")
    put("ranks", model(plain([use], [TensorProto(name="w", data_type=F, dims=[1] * 40, raw_data=bytes(4))])),
        "more than 16 dims")
    put("type", model(plain([use], [TensorProto(name="w", data_type=99, dims=[1], raw_data=bytes(4))])), "element type")
    put("path_up", model(plain([use], [external("../secret")])), "plain file name")
    put("path_root", model(plain([use], [external("/absolute/file.bin")])), "plain file name")
    put("path_gone", model(plain([use], [external("gone.bin")])), "No such file")
    (HOSTILE / "short.bin").write_bytes(bytes(40))
    put("past_end", model(plain([use], [external("short.bin")])), "outside of 'short.bin'")
    put("wrong_length", model(plain([use], [external("short.bin", "0", "8")])), "external length 8")
    for name, offset, dims in (("overlap", "12", [2, 2]), ("overlap_inside", "4", [1, 2]), ("overlap_start", "0", [1, 2])):
        pair = [external("short.bin"), external("short.bin", offset)]
        for t, n, d in zip(pair, ("w", "v"), ([2, 2], dims)):
            t.name = n
            del t.dims[:]
            t.dims.extend(d)
        put(name, model(plain([relu], pair)), "overlap in external data 'short.bin'")
    put("bad_offset", model(plain([use], [external("short.bin", "-1")])), "offset")
    put("name", model(plain([node("Relu", ["x"], ["y"], name="a" * 10), node("Relu", ["x"], ["q" * 5000])])), "limit 2048")
    put("strings", model(plain([node("Identity", ["x"], ["y"])], x=info("x", TensorProto.STRING, [1]))), "string")
    sequence = helper.make_tensor_sequence_value_info("x", F, [1])
    put("sequence", model(plain([node("Identity", ["x"], ["y"])], x=sequence)), "not a tensor")
    put("opset", model(plain([relu]), opset=5000),
        "operator set")
    a = helper.make_function("local", "A", ["p"], ["q"], [node("B", ["p"], ["q"], domain="local")],
                             [helper.make_opsetid("local", 1)])
    b = helper.make_function("local", "B", ["p"], ["q"], [node("A", ["p"], ["q"], domain="local")],
                             [helper.make_opsetid("local", 1)])
    put("function_cycle", model(plain([node("A", ["x"], ["y"], domain="local")]), functions=[a, b], domains=["local"]),
        "in a cycle")
    attr = node("Relu", ["x"], ["y"])
    attr.attribute.add(name="a", type=2, i=1)
    attr.attribute.add(name="a", type=2, i=2)
    put("attribute_twice", model(plain([attr])), "attribute twice")
    attr = node("Relu", ["x"], ["y"])
    attr.attribute.add(name="a", type=2, i=1, f=1.0)
    put("attribute_type", model(plain([attr])), "another type")
    (HOSTILE / "expected.txt").write_text("".join(f"{k}\t{v}\n" for k, v in expected.items()))


def trap(name: str, *forms, opsets: tuple[int, int] = (17, 17), x: dict | None = None) -> None:
    """Two nets over x, each made by a function of the net that returns its last value, and one head behind both."""
    for i, (form, opset) in enumerate(zip(forms if len(forms) == 2 else forms * 2, opsets)):
        net = Net()
        net.add("Identity", form(net), out="y")
        net.save(f"{name}-{i}", x or X, {"y": ["a", "b", "c"]}, opset, TRAPS)


def norm_of(net: Net, axis: int = -1, power: float = 2, turned: bool = False, other: bool = False, scale: int = 4) -> str:
    """The nine nodes of a layer norm, or something that looks like them."""
    x = net.add("MatMul", "x", net.const(weight(1, 8, D)))
    mean = net.add("ReduceMean", net.add("Relu", x) if other else x, axes=[axis])
    d = net.add("Sub", mean, x) if turned else net.add("Sub", x, mean)
    v = net.add("Add", net.add("ReduceMean", net.add("Pow", d, net.const(np.array(power, np.float32))), axes=[axis]),
                net.const(np.array(1e-5, np.float32)))
    y = net.add("Mul", net.add("Div", d, net.add("Sqrt", net.add("Abs", v))), net.const(weight(scale, D)))
    return net.add("Add", y, net.const(weight(5, D)))


def conv_of(net: Net, variance: float = 1, relu: bool = False, twice: bool = False) -> str:
    """A convolution and its batch norm; with something between, or another user of the convolution."""
    x = net.add("Conv", "x", net.const(weight(1, 12, 3, 3, 3)))
    y = net.add("Relu", x) if relu else x
    rows = [np.abs(weight(2, 12)) + np.float32(0.1), weight(3, 12), weight(4, 12), np.abs(weight(5, 12)) + np.float32(variance)]
    y = net.add("BatchNormalization", y, *(net.const(r) for r in rows))
    return net.add("Add", y, x) if twice else y


def traps() -> None:
    def one(op: str, *consts: np.ndarray, **attrs):
        return lambda n: n.add(op, n.add("MatMul", "x", n.const(weight(1, 8, D))), *(n.const(c) for c in consts), **attrs)

    bit = weight(7, D, D)
    other = bit.copy()
    other.view(np.uint32)[0, 0] ^= 1 << 16
    ints = lambda *v: np.array(v, np.int64)  # noqa: E731
    square, pixels = weight(7, D, D), {"x": ["batch", 3, 8, 8]}
    trap("weight_bit", one("MatMul", bit), one("MatMul", other))
    for name, how in [("root", {"root": 1.5}), ("one", {"one": 1.5}), ("half", {"half": 0.25}), ("times", {})]:
        def five(n: Net, how: dict) -> str:
            x = n.add("MatMul", "x", n.const(weight(1, 8, D)))
            times = n.add("Relu", x) if name == "times" and how is not None else ""
            return n.add("MatMul", n.gelu(x, times=times, **(how or {})), n.const(bit))
        trap(f"gelu_{name}", lambda n, f=five: f(n, None), lambda n, f=five, h=how: f(n, h))
    trap("weight_turned", one("MatMul", square), one("MatMul", np.ascontiguousarray(square.T)))
    trap("fold_transpose", *(lambda n, p=p: n.add("MatMul", n.add("MatMul", "x", n.const(weight(1, 8, D))), n.add(
        "Transpose", n.const(square), perm=p)) for p in ([0, 1], [1, 0])))
    trap("fold_slice", *(lambda n, s=s: n.add("Mul", n.add("MatMul", "x", n.const(weight(1, 8, D))), n.add(
        "Slice", n.const(weight(2, 2 * D)), n.const(ints(s)), n.const(ints(s + D)))) for s in (0, 1)))
    trap("fold_gather", *(lambda n, i=i: n.add("Mul", n.add("MatMul", "x", n.const(weight(1, 8, D))), n.add(
        "Gather", n.const(weight(2, 3, D)), n.const(ints(i)))) for i in (-1, 0)))
    trap("fold_divide", *(lambda n, i=i: n.add("Mul", n.add("MatMul", "x", n.const(weight(1, 8, D))), n.add(
        "Cast", n.add("Div", n.const(ints(i)), n.const(ints(2))), to=F)) for i in (5, 7)))
    trap("fold_root", *(lambda n, v=v: n.add("Mul", n.add("MatMul", "x", n.const(weight(1, 8, D))), n.add(
        "Cast", n.add("Sqrt", n.const(np.array(v))), to=F)) for v in (0.3, 0.31)))
    trap("fold_cast", *(lambda n, v=v: n.add("Mul", n.add("MatMul", "x", n.const(weight(1, 8, D))), n.add(
        "Cast", n.add("Cast", n.const(np.array(v, np.float32)), to=I), to=F)) for v in (2.9, 3.0)))
    trap("softmax_default", one("Softmax"), one("Softmax"), opsets=(12, 13))
    trap("softmax_axis", one("Softmax", axis=-1), one("Softmax"), opsets=(12, 12))
    trap("softmax_middle", one("Softmax", axis=1), one("Softmax", axis=1), opsets=(12, 13))
    trap("logsoftmax_axis", one("LogSoftmax", axis=2), one("LogSoftmax", axis=1), opsets=(12, 13))
    trap("norm_epsilon", one("LayerNormalization", weight(2, D), epsilon=1e-5), one("LayerNormalization", weight(2, D), epsilon=1e-3))
    trap("norm_axis", one("LayerNormalization", weight(2, 5, D), axis=-2), one("LayerNormalization", weight(2, D), axis=-1))
    for name, how in [("axis", {"axis": 1}), ("power", {"power": 3}), ("turned", {"turned": True}), ("other", {"other": True}),
                      ("scale", {"scale": 6})]:
        trap(f"nine_{name}", norm_of, lambda n, how=how: norm_of(n, **how))
    def residual(n: Net, seed: int) -> str:
        """Two blocks; the runtime adds to a convolution's sums where both are in one module."""
        def conv(y: str, seed: int, width: int = 16) -> str:
            return n.add("Conv", y, n.const(weight(seed, 16, width, 3, 3)), n.const(weight(seed + 1, 16)), pads=[1] * 4)
        y = n.add("Relu", conv("x", 20, 3))
        for first, second in ((22, 24), (26, seed)):
            y = n.add("Relu", n.add("Add", conv(n.add("Relu", conv(y, first)), second), y))
        return y
    trap("conv_added", lambda n: residual(n, 28), lambda n: residual(n, 30), x=pixels)

    def between(n: Net, norm) -> str:
        """A norm between two Transposes: the runtime moves the first one through nine nodes to the other."""
        y = norm(n, n.add("Transpose", n.add("MatMul", "x", n.const(weight(9, 8, 5))), perm=[0, 2, 1]), 1, 1e-5)
        return n.add("Relu", n.add("Transpose", y, perm=[0, 2, 1]))
    trap("nine_behind", lambda n: between(n, Net.norm), lambda n: between(n, Net.norm_nine), opsets=(17, 13),
         x={"x": ["batch", D, 8]})
    for name, how in [("variance", {"variance": 1.5}), ("between", {"relu": True}), ("twice", {"twice": True})]:
        trap(f"batch_{name}", conv_of, lambda n, how=how: conv_of(n, **how), x=pixels)
    for name, op, first, second in [
            ("leaky", "LeakyRelu", {"alpha": 0.01}, {"alpha": 0.02}), ("elu", "Elu", {"alpha": 1.0}, {"alpha": 1.1}),
            ("cast", "Cast", {"to": TensorProto.FLOAT16}, {"to": TensorProto.BFLOAT16}),
            ("keepdims", "ReduceMean", {"axes": [1], "keepdims": 1}, {"axes": [0], "keepdims": 1}),
            ("flatten", "Transpose", {"perm": [0, 2, 1]}, {"perm": [2, 0, 1]})]:
        cast = (lambda n, v: n.add("Cast", v, to=F)) if op == "Cast" else (lambda n, v: v)
        trap(f"attr_{name}", *(lambda n, a=a, op=op, cast=cast: cast(n, one(op, **a)(n)) for a in (first, second)))
    trap("gelu", one("Gelu"), one("Gelu", approximate="tanh"), opsets=(20, 20))
    trap("clip", one("Clip", np.float32(-1), np.float32(1)), one("Clip", np.float32(-1), np.float32(1.5)))
    trap("operands", *(lambda n, t=t: n.add("Sub", *(["x", n.add("Relu", "x")][::t])) for t in (1, -1)))
    trap("pads", *(lambda n, p=p: n.add("Conv", "x", n.const(weight(1, 4, 3, 3, 3)), pads=p) for p in ([1, 1, 0, 0], [0, 0, 1, 1])), x=pixels)
    trap("dilations", *(lambda n, d=d: n.add("Conv", "x", n.const(weight(1, 4, 3, 3, 3)), dilations=d, pads=[d[0]] * 4) for d in ([1, 1], [2, 2])), x=pixels)
    trap("count_pad", *(lambda n, c=c: n.add("AveragePool", "x", kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=c) for c in (0, 1)), x=pixels)
    trap("split", *(lambda n, p=p: parted(n, p) for p in ((8, 16), (16, 8))))
    trap("shape_most", *(lambda n, m=m: longest(n, m) for m in (True, False)))
    (TRAPS / "list.txt").write_text("".join(f"{p.stem[:-2]}\n" for p in sorted(TRAPS.glob("*-0.onnx"))))


def parted(net: Net, parts: tuple[int, int]) -> str:
    x = net.add("MatMul", "x", net.const(weight(1, 8, D)))
    net.nodes.append(node("Split", [x, net.const(np.array(parts, np.int64))], ["p", "q"], axis=-1, name="parts"))
    return net.add("Concat", "q", "p", axis=-1)


def longest(net: Net, computed: bool) -> str:
    """At least 77 rows: computed, or what comes out for a batch that is small."""
    seven = net.const(np.array([77], np.int64))
    rows = net.add("Max", net.add("Mul", net.add("Gather", net.add("Shape", "x"), net.const(np.array([0], np.int64))),
                                  net.const(np.array([40], np.int64))), seven) if computed else seven
    y = net.add("Expand", net.const(np.array(1, np.float32)), rows)
    y = net.add("Mul", net.add("ReduceSum", y), net.add("MatMul", "x", net.const(weight(1, 8, D))))
    return net.add("MatMul", y, net.const(weight(2, D, D)))


def main() -> None:
    for folder in (SMALL, HOSTILE, TRAPS):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    towers()
    decoders()
    shapes()
    words()
    masks()
    crossed()
    apart()
    rare()
    convolutions()
    bindings()
    forms()
    orders()
    halves()
    defaults()
    nested()
    traps()
    hostile()


if __name__ == "__main__":
    main()

"""Hostile ONNX that is too large to be kept as files: `s2m3 inspect` ends soon, in little memory, and says what is wrong
(small cases: tests/golden/onnx/hostile).  Files are written byte by byte: no library would make them.
"""
from __future__ import annotations

import os
import resource
import signal
import struct
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BINARY = os.environ.get("S2M3", str(ROOT / "build" / "s2m3"))
SECONDS = 120  # a bound for a busy machine: it takes up to 5
MEMORY = 1 << 30  # bytes
F, I, S = 1, 7, 8  # element types
AXIS, INT, INTS, GRAPH = 3, 2, 7, 5


def varint(n: int) -> bytes:
    out = bytearray()
    n &= (1 << 64) - 1
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes(out) + bytes([n])


def text(field: int, data: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(data)) + data


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def node(op: bytes, inputs: list[bytes], outputs: list[bytes], attrs: bytes = b"", domain: bytes = b"") -> bytes:
    return text(1, b"".join(text(1, i) for i in inputs) + b"".join(text(2, o) for o in outputs) + text(4, op) + attrs +
                text(7, domain))


def attr(name: bytes, kind: int, value: bytes) -> bytes:
    return text(5, text(1, name) + value + number(20, kind))


def info(name: bytes, dims: tuple[int, ...] = (2, 4)) -> bytes:
    shape = b"".join(text(1, number(1, d)) for d in dims)
    return text(1, name) + text(2, text(1, number(1, F) + text(2, shape)))


def tensor(name: bytes, kind: int, dims: tuple[int, ...], data: bytes) -> bytes:
    return text(5, b"".join(number(1, d) for d in dims) + number(2, kind) + text(8, name) + text(9, data))


def graph(nodes: bytes, more: bytes = b"", inputs: dict[bytes, tuple] | None = None, outputs: int = 1) -> bytes:
    ports = {b"x": (2, 4)} if inputs is None else inputs
    return nodes + text(2, b"g") + more + b"".join(text(11, info(n, d)) for n, d in ports.items()) + text(12, info(b"y")) * outputs


def model(body: bytes, functions: bytes = b"", opsets: int = 1) -> bytes:
    local = text(8, text(1, b"local") + number(2, 1)) if functions else b""
    return number(1, 8) + text(8, text(1, b"") + number(2, 17)) * opsets + local + text(7, body) + functions


def chain(count: int, backwards: bool = False) -> bytes:
    one = node(b"Relu", [b"v%07d"], [b"v%07d"]).replace(b"\x05v%07d", b"\x08v%07d")
    one = one[:1] + bytes([one[1] + 6]) + one[2:]  # names are three bytes longer than their patterns
    steps = range(count - 1, -1, -1) if backwards else range(count)
    return model(graph(b"".join([one % (i, i + 1) for i in steps]) + node(b"Relu", [b"v%07d" % count], [b"y"]),
                       inputs={b"v0000000": (2, 4)}))


def fan_out(count: int) -> bytes:
    one = node(b"Relu", [b"x"], [b"v%07d"]).replace(b"\x05v%07d", b"\x08v%07d")
    one = one[:1] + bytes([one[1] + 3]) + one[2:]
    return model(graph(b"".join([one % i for i in range(count)]) + node(b"Relu", [b"v0000003"], [b"y"])))


def every_one_of_all(count: int) -> bytes:
    nodes = [node(b"Sum", [b"x", *(b"v%d" % k for k in range(i))], [b"v%d" % i]) for i in range(count)]
    return model(graph(b"".join(nodes) + node(b"Relu", [b"v%d" % (count - 1)], [b"y"])))


def branch(body: bytes) -> bytes:
    return attr(b"then_branch", GRAPH, text(6, body))


def nested(levels: int, backwards: bool = False) -> bytes:
    """Sub-graphs in sub-graphs.  From the inside out, what stands before and what stands behind, so that nothing is copied
    once for each level.  backwards: before each If stands a node that uses what it makes."""
    inner = node(b"Identity", [b"x"], [b"o"]) + text(12, info(b"o"))
    before, behind, size = [inner], [], len(inner)
    for i in range(levels + 1):
        out = b"o%d" % i if i < levels else b"y"
        use = node(b"Relu", [out], [b"r%d" % i]) if backwards else b""
        end, tail = number(20, GRAPH), text(12, info(out)) if i < levels else b""
        head = b""
        for opening in (varint(6 << 3 | 2), text(1, b"then_branch"), varint(5 << 3 | 2), text(1, b"f") + text(2, out) + text(4, b"If"),
                        varint(1 << 3 | 2)):
            if opening == text(1, b"then_branch"):
                size += len(end)
            if len(opening) == 1:  # a tag: of all that follows
                opening += varint(size)
            head = opening + head
            size += len(opening)
        before.append(use + head)
        behind.append(end + tail)
        size += len(use) + len(tail)
    return model(graph(b"".join(before[::-1] + behind), inputs={b"x": (2, 4), b"f": ()}))


def sum_of_products(count: int) -> bytes:
    nodes = b"".join(node(b"MatMul", [b"x", b"w%d" % i], [b"m%d" % i]) for i in range(count))
    weights = b"".join(tensor(b"w%d" % i, F, (4, 4), struct.pack("<16f", *[i + 1] * 16)) for i in range(count))
    return model(graph(nodes + node(b"Sum", [b"m%d" % i for i in range(count)], [b"y"]), weights))


def beside(count: int) -> bytes:
    one = branch(node(b"Relu", [b"x"], [b"o"]) + text(12, info(b"o")))
    nodes = b"".join(node(b"If", [b"f"], [b"v%d" % i], one) for i in range(count))
    return model(graph(nodes + node(b"Relu", [b"v3"], [b"y"]), inputs={b"x": (2, 4), b"f": ()}))


def grows(op: bytes, steps: int, times: int, attrs: bytes) -> bytes:
    nodes = b"".join(node(op, [b"c%d" % i] * times, [b"c%d" % (i + 1)], attrs) for i in range(steps))
    return model(graph(nodes + node(b"Add", [b"x", b"c%d" % steps], [b"y"]), tensor(b"c0", F, (160, 160), bytes(160 * 160 * 4))))


def functions(count: int, calls: int, itself: bool = False) -> bytes:
    made = b""
    for k in range(count):
        callee = b"F%d" % (k if itself else k - 1)
        names = [b"p", *(b"m%d" % i for i in range(calls - 1)), b"q"]
        call = text(4, callee) + text(7, b"local") if k or itself else text(4, b"Relu")
        body = b"".join(text(7, text(1, a) + text(2, b) + call) for a, b in zip(names, names[1:]))
        made += text(25, text(1, b"F%d" % k) + text(10, b"local") + text(4, b"p") + text(5, b"q") + body +
                     text(9, text(1, b"") + number(2, 17)) + text(9, text(1, b"local") + number(2, 1)))
    return model(graph(node(b"F%d" % (count - 1), [b"x"], [b"y"], domain=b"local")), made)


RELU = node(b"Relu", [b"x"], [b"y"])
CASES = {
    "a chain of a million nodes": (lambda: chain(1_000_000), "nodes: more than the limit"),
    "a chain written backwards": (lambda: chain(50_000, True), ""),
    "a million users of one value": (lambda: fan_out(1_000_000), "nodes: more than the limit"),
    "one node with 300,000 inputs": (lambda: model(graph(node(b"Sum", [b"x"] * 300_000, [b"y"]))), ""),
    "each node uses all before it": (lambda: every_one_of_all(600), ""),
    "sub-graphs in sub-graphs": (lambda: nested(100_000), "nested deeper than 16"),
    "sub-graphs in sub-graphs, as deep as may be": (lambda: nested(15), ""),
    "sub-graphs in sub-graphs, written backwards": (lambda: nested(20_000, True), "nested deeper than 16"),
    "a sum of 4,000 products": (lambda: sum_of_products(4_000), ""),
    "a thousand attributes at each node": (lambda: model(graph(b"".join(node(b"Relu", [b"x"], [b"v%d" % i], b"".join(
        attr(b"attribute%03d" % k, INT, number(3, k)) for k in range(1000))) for i in range(100)) + RELU)), ""),
    "a hundred thousand sub-graphs": (lambda: beside(100_000), "graphs: more than the limit of 10000"),
    "a constant that grows 16 times with each node": (lambda: grows(b"Concat", 12, 16, attr(b"axis", INT, number(3, 0))), ""),
    "a long chain over a constant": (lambda: grows(b"Transpose", 20_000, 1, attr(b"perm", INTS, number(8, 1) + number(8, 0))), ""),
    "functions that double": (lambda: functions(24, 2), "deeper than 16"),
    "many calls of functions": (lambda: functions(10, 3), ""),
    "a function that calls itself": (lambda: functions(1, 1, True), "in a cycle"),
    "many attributes": (lambda: model(graph(node(b"Relu", [b"x"], [b"y"], b"".join(
        attr(b"a%d" % i, INT, number(3, i)) for i in range(20_000))))), "more attributes than the limit"),
    "many inputs": (lambda: model(graph(RELU, inputs={b"x": (2, 4), **{b"i%d" % i: (2,) for i in range(20_000)}})), "at most 1024"),
    "many outputs": (lambda: model(graph(RELU, outputs=100_000)), "at most 1024"),
    "many operator sets": (lambda: model(graph(RELU), opsets=100_000), "operator sets: more than the limit"),
    "a name of 16 MB": (lambda: model(graph(node(b"Relu", [b"x"], [b"n" * (16 << 20)]))), "limit 2048"),
    "a documentation of 16 MB": (lambda: model(graph(RELU)) + text(6, b"d" * (16 << 20)), ""),
    "a string of which 1 GB is said": (lambda: model(graph(RELU))[:-8] + varint(6 << 3 | 2) + varint(1 << 30), "cut short"),
    "a billion strings": (lambda: model(graph(node(b"Identity", [b"w"], [b"y"]), tensor(b"w", S, (1 << 30,), b""))), "strings"),
    "dims of 2^63": (lambda: model(graph(RELU, tensor(b"w", F, (1 << 31, 1 << 31, 2), bytes(64)))), "product of its dims"),
    "no elements and dims of 2^126": (lambda: model(graph(RELU, tensor(b"w", F, (0, (1 << 63) - 1, (1 << 63) - 1), b""))), "product"),
    "an input of 2^124 elements": (lambda: model(graph(RELU, inputs={b"x": (1 << 62, 1 << 62)})), "input 'x': the product"),
    "an input with a negative dim": (lambda: model(graph(RELU, inputs={b"x": (-4, 4)})), "input 'x'"),
    "an input with a thousand dims": (lambda: model(graph(RELU, inputs={b"x": (1,) * 1000})), "input 'x'"),
    "a tensor of 2^120 made by a node": (lambda: model(graph(
        node(b"ConstantOfShape", [b"s"], [b"c"]) + node(b"Add", [b"x", b"c"], [b"y"]),
        tensor(b"s", I, (3,), struct.pack("<3q", *[1 << 40] * 3)))), ""),
    "a range of 2^40": (lambda: model(graph(
        node(b"Range", [b"a", b"b", b"c"], [b"r"]) + node(b"Cast", [b"r"], [b"k"], attr(b"to", INT, number(3, F))) +
        node(b"Add", [b"x", b"k"], [b"y"]), b"".join(tensor(n, I, (), struct.pack("<q", v)) for n, v in
                                                     ((b"a", 0), (b"b", 1 << 40), (b"c", 1))))), ""),
    "a branch with more outputs than its If": (lambda: model(graph(
        node(b"If", [b"f"], [b"y"], branch(node(b"Relu", [b"x"], [b"a"]) + node(b"Relu", [b"x"], [b"b"]) +
                                           text(12, info(b"a")) + text(12, info(b"b")))),
        inputs={b"x": (2, 4), b"f": ()})), "another number of outputs"),
    "a name that a sub-graph takes again": (lambda: model(graph(
        node(b"If", [b"f"], [b"y"], branch(node(b"Relu", [b"x"], [b"x"]) + text(12, info(b"x")))),
        inputs={b"x": (2, 4), b"f": ()})), "defined twice"),
    "a lie about a shape": (lambda: model(graph(
        node(b"MatMul", [b"x", b"w"], [b"m"]) + node(b"Relu", [b"m"], [b"y"]),
        tensor(b"w", F, (4, 4), bytes(64)) + text(13, info(b"m", (7, 7, 7))))), ""),
}


def test_a_full_disk_is_an_error(tmp_path: Path) -> None:
    """No more than 64 KiB can be written to a file: the module's weights are larger."""
    def full() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 10, 64 << 10))
    path = tmp_path / "model.onnx"
    path.write_bytes(model(graph(node(b"MatMul", [b"x", b"w"], [b"y"]), tensor(b"w", F, (4, 30_000), bytes(480_000)))))
    child = subprocess.run([BINARY, "inspect", "--write", str(tmp_path / "out"), str(path)], capture_output=True, text=True,
                           preexec_fn=full, timeout=SECONDS)
    assert child.returncode == 1 and not list(tmp_path.glob("out/*/module.onnx"))
    assert "/weights.bin: File too large" in child.stderr and child.stdout == ""


@pytest.mark.parametrize("name", CASES)
def test_ends_soon_and_says_why(tmp_path: Path, name: str) -> None:
    make, said = CASES[name]
    path = tmp_path / "model.onnx"
    path.write_bytes(make())
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        child = subprocess.Popen([BINARY, "inspect", "--json", "--min-share", "0", str(path)], stdout=out, stderr=err,
                                 preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS)))
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    message = (tmp_path / "err").read_text(errors="replace")
    assert child.returncode == (1 if said else 0), message[:300]
    assert said in message
    assert used.ru_maxrss * 1024 < MEMORY

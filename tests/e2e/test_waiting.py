"""A thousand calls wait for inputs that others deliver, while the only lane is busy: deliveries, pings and
heartbeats are served, and every call gets its own answer."""
from __future__ import annotations

import http.client
import struct
import threading
import time

import numpy
import onnxruntime

from conftest import MODELS, Fleet, ask, call, cases, until

WAITING = 1000
WAIT_S = 240
RESERVE = 4096
KIND_CALL, KIND_DELIVERY = 1, 3
FLOAT32 = 1


def text(value: str) -> bytes:
    return struct.pack("<H", len(value)) + value.encode()


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


def frame(kind: int, fields: bytes, *parts: bytes) -> bytes:
    table = struct.pack("<BH", kind, len(parts)) + b"".join(u64(len(p)) for p in parts) + fields
    size = (8 + len(table) + 7) // 8 * 8
    return b"S2F2" + struct.pack("<I", size) + table + bytes(size - 8 - len(table)) + b"".join(parts)


def waiting_call(number: int, module: str) -> bytes:
    fields = text(f"r{number}") + text("head") + u64(1) + text(module) + text("") + text("") + u64(1000 * WAIT_S)
    fields += u64(RESERVE) + b"\0" + struct.pack("<I", 0)
    fields += u64(2) + b"\2" + text("in0") + b"\2" + text("in1") + u64(0) + u64(1) + text("out0")
    return frame(KIND_CALL, fields)


def delivery(number: int, port: str, values: numpy.ndarray) -> bytes:
    fields = text(f"r{number}") + text("head") + u64(1) + text(port) + u64(RESERVE) + u64(1000 * WAIT_S)
    fields += struct.pack("<BB", FLOAT32, 2) + u64(1) + u64(len(values))
    return frame(KIND_DELIVERY, fields, values.astype(numpy.float32).tobytes())


def post(connection: http.client.HTTPConnection, path: str, body: bytes) -> tuple[int, bytes]:
    connection.request("POST", path, body, {"Content-Type": "application/x-s2m3-frame"})
    answer = connection.getresponse()
    return answer.status, answer.read()


class Waiter(threading.Thread):
    def __init__(self, address: str, number: int, module: str) -> None:
        super().__init__(daemon=True)
        self.address, self.number, self.module = address, number, module
        self.status, self.body, self.sent = 0, b"", threading.Event()

    def run(self) -> None:
        connection = http.client.HTTPConnection(self.address, timeout=WAIT_S)
        connection.connect()
        self.sent.set()
        self.status, self.body = post(connection, "/s2m3/v1/call", waiting_call(self.number, self.module))
        connection.close()


def test_a_thousand_waiting_calls(fleet: Fleet) -> None:
    device = fleet.up("--lanes", "1")
    model = next(c["model"] for c in cases() if c["task"] == "visual-question-answering")
    fleet.add(MODELS / model)
    modules = fleet.get("/s2m3/v1/modules")["modules"]
    head = next(m["digest"] for m in modules if m["name"].endswith("_head"))
    session = onnxruntime.InferenceSession(str(device.folder / "data" / "modules" / head / "module.onnx"),
                                           providers=["CPUExecutionProvider"])
    ports = {i.name: i.shape[-1] for i in session.get_inputs()}
    assert set(ports) == {"in0", "in1"}
    address = device.peer_url.removeprefix("http://")
    threading.stack_size(256 * 1024)
    waiters = [Waiter(address, i, head) for i in range(WAITING)]
    for waiter in waiters:
        waiter.start()
    for waiter in waiters:
        assert waiter.sent.wait(WAIT_S)

    # The lane is kept busy with whole requests all along.
    stop = threading.Event()
    case = next(c for c in cases() if c["task"] == "visual-question-answering")
    answered: list[int] = []

    def load() -> None:
        while not stop.is_set():
            answered.append(ask(device, case, fresh=True).status)

    busy = [threading.Thread(target=load) for _ in range(4)]
    for thread in busy:
        thread.start()
    start = time.monotonic()
    assert call(device.peer_url + "/s2m3/v1/ping").status == 200
    assert time.monotonic() - start < 5

    seed = numpy.random.default_rng(5)
    values = {name: seed.normal(size=(WAITING, width)) for name, width in ports.items()}
    connection = http.client.HTTPConnection(address, timeout=WAIT_S)
    for number in range(WAITING):
        assert post(connection, "/s2m3/v1/deliver", delivery(number, "in1", values["in1"][number]))[0] == 200
    assert all(waiter.status == 0 for waiter in waiters), "an answer before all inputs had come"
    for number in reversed(range(WAITING)):
        assert post(connection, "/s2m3/v1/deliver", delivery(number, "in0", values["in0"][number]))[0] == 200
    for waiter in waiters:
        waiter.join(WAIT_S)
        assert waiter.status == 200, (waiter.number, waiter.status, waiter.body[:200])
    stop.set()
    for thread in busy:
        thread.join(60)
    assert answered and set(answered) == {200}

    for waiter in waiters[::97]:
        wanted = session.run(None, {n: v[[waiter.number]].astype(numpy.float32) for n, v in values.items()})[0]
        got = numpy.frombuffer(waiter.body[-wanted.nbytes:], dtype=numpy.float32)
        assert numpy.allclose(got, wanted[0], atol=1e-5), waiter.number
    until(lambda: fleet.get("/s2m3/v1/status")["devices_alive"] == 1, 60, "heartbeats")

"""Whole fleets of real processes on free ports, in folders of their own.

S2M3 names the release build, S2M3_ASAN the one with address sanitizer (used where the test is about
robustness).  Every process that a test starts is ended by it, by its pid.
"""
from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Callable, Iterator

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "models"
HELD_OUT = MODELS / "held-out"
BINARY = os.environ.get("S2M3", str(ROOT / "build" / "s2m3"))
ASAN = os.environ.get("S2M3_ASAN", BINARY)
START_S = 120  # bounds here are for a machine that is slow and busy


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "full: long proofs, run by make test-full")


class Device:
    """One `s2m3 up` or `s2m3 join`."""

    def __init__(self, folder: Path, name: str, *options: str, coordinator: str = "", binary: str = BINARY) -> None:
        self.name = name
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.log_path = folder / "log.txt"
        ready = folder / "ready.json"
        ready.unlink(missing_ok=True)
        command = [binary, "join", "--coordinator", coordinator] if coordinator else [binary, "up"]
        command += ["--name", name, "--data-dir", str(folder / "data"), "--ready-file", str(ready), "--threads", "1"]
        if "--listen" not in options:
            command += ["--listen", "127.0.0.1:0"]
        command += list(options)
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        end = time.monotonic() + START_S
        while not ready.exists():
            assert self.process.poll() is None, f"{name} ended:\n{self.log()}"
            assert time.monotonic() < end, f"{name} is not ready:\n{self.log()}"
            time.sleep(0.01)
        said = json.loads(ready.read_text())
        self.public_url: str = said["public_url"]
        self.peer_url: str = said["peer_url"]

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
        return self.process.returncode

    def children(self) -> list[int]:
        """Pids of its runner processes."""
        found: list[int] = []
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            try:
                found += [int(p) for p in (task / "children").read_text().split()]
            except (FileNotFoundError, ProcessLookupError):
                pass  # a thread that has ended meanwhile
        return sorted(set(found))


class Fleet:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.devices: list[Device] = []

    def up(self, *options: str, name: str = "first", binary: str = BINARY) -> Device:
        device = Device(self.folder / name, name, *options, binary=binary)
        self.devices.append(device)
        return device

    def join(self, name: str, *options: str, binary: str = BINARY) -> Device:
        device = Device(self.folder / name, name, *options, coordinator=self.devices[0].peer_url, binary=binary)
        self.devices.append(device)
        return device

    def get(self, path: str) -> dict:
        return json.loads(call(self.devices[0].public_url + path).body)

    def add(self, *folders: Path) -> None:
        for folder in folders:
            run(BINARY, "add", str(folder), "--url", self.devices[0].public_url)
        until(lambda: self.settled(), 120, "models to be ready")

    def settled(self) -> bool:
        modules = self.get("/s2m3/v1/modules")["modules"]
        return all(m["ready"] for m in self.get("/s2m3/v1/models")["models"]) and all(
            d["state"] == "ready" for m in modules for d in m["devices"] if d["desired"])

    def stop(self) -> None:
        for device in reversed(self.devices):
            device.stop()


class Answer:
    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)


def call(url: str, body: bytes | None = None, kind: str = "", method: str = "", timeout: float = 60,
         **headers: str) -> Answer:
    """HTTP by the standard library; an error status is an answer, not an exception."""
    request = urllib.request.Request(url, data=body, method=method or None)
    if kind:
        request.add_header("Content-Type", kind)
    for name, value in headers.items():
        request.add_header(name.replace("_", "-"), value)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as r:
            return Answer(r.status, dict(r.headers), r.read())
    except urllib.error.HTTPError as e:
        return Answer(e.code, dict(e.headers), e.read())


def run(*command: str, code: int = 0, timeout: float = 240) -> subprocess.CompletedProcess:
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)
    assert done.returncode == code, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def until(condition: Callable[[], object], seconds: float, what: str) -> float:
    start = time.monotonic()
    while not condition():
        assert time.monotonic() < start + seconds, f"waited {seconds} s for {what}"
        time.sleep(0.02)
    return time.monotonic() - start


def model_folders() -> list[Path]:
    return sorted(p.parent for p in MODELS.glob("*/config.json"))


def cases() -> list[dict]:
    return [json.loads(line) for line in (HELD_OUT / "cases.jsonl").read_text().splitlines()]


def read64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def body_of(case: dict) -> tuple[bytes, str]:
    task = case["task"]
    if task == "visual-question-answering":
        inputs = {"image": read64(HELD_OUT / case["image"]), "question": case["text"]}
        return json.dumps({"inputs": inputs}).encode(), "application/json"
    if task.startswith("zero-shot"):
        media = HELD_OUT / (case.get("image") or case["audio"])
        parameters = {"candidate_labels": case["labels"]}
        return json.dumps({"inputs": read64(media), "parameters": parameters}).encode(), "application/json"
    if "image" in case:
        return (HELD_OUT / case["image"]).read_bytes(), "image/png"
    return (HELD_OUT / case["audio"]).read_bytes(), "audio/wav"


def best(answer) -> str:
    first = answer[0] if isinstance(answer, list) else answer
    for key in ("generated_text", "answer", "label"):
        if key in first:
            return first[key].strip()
    raise AssertionError(answer)


def ask(device: Device, case: dict, timeout: float = 60, fresh: bool = False) -> Answer:
    body, kind = body_of(case)
    headers = {"Cache_Control": "no-store"} if fresh else {}
    return call(f"{device.public_url}/pipeline/{case['task']}/{case['model']}", body, kind, timeout=timeout, **headers)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path)
    try:
        yield made
    finally:
        for device in reversed(made.devices):
            if device.process.poll() is None:
                device.stop()


@pytest.fixture(scope="session")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three devices with the five models, shared by the tests that change nothing."""
    made = Fleet(tmp_path_factory.mktemp("three"))
    try:
        made.up(name="one")
        made.join("two")
        made.join("three")
        made.add(*model_folders())
        yield made
    finally:
        for device in reversed(made.devices):
            if device.process.poll() is None:
                device.stop()

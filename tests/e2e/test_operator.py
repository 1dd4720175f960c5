"""Clumsy operators: wrong options, folders and ports that are taken, full disks, signals at any time."""
from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from conftest import ASAN, BINARY, MODELS, Fleet, call, model_folders, run, until
from test_failures import Load, small_cases


def said(*command: str, code: int) -> str:
    return run(*command, code=code).stderr


def test_wrong_options_are_usage_errors(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    up = (ASAN, "up", "--data-dir", str(folder))
    join = (ASAN, "join", "--data-dir", str(folder))
    rows = [
        (up, ("--listen", "127.0.0.1"), "--listen"),
        (up, ("--listen", "127.0.0.1:99999"), "--listen"),
        (up, ("--listen", "0.0.0.0:0"), "certificates"),
        (up, ("--peer-listen", "nowhere.example:1"), "--peer-listen"),
        (up, ("--memory", "0"), "--memory"),
        (up, ("--memory", "512Q"), "--memory"),
        (up, ("--threads", "1.5"), "--threads"),
        (up, ("--threads", "1025"), "1024"),
        (up, ("--lanes", "0"), "--lanes"),
        (up, ("--name", "a\nb"), "--name"),
        (up, ("--name", b"\xff"), "UTF-8"),
        (up, ("--name", " "), "--name"),
        (up, ("--emulate", "speed=2"), "--emulate: speed"),
        (up, ("--data-dir", ""), "--data-dir"),
        (up, ("more",), "1 argument"),
        ((ASAN, "add", "."), ("--tolerance", "much"), "--tolerance"),
        ((ASAN, "add", "."), ("--pin", "image_encoder"), "--pin"),
        (join, (), "--coordinator"),
        (join, ("--coordinator", "127.0.0.1:1"), "--coordinator"),
        (join, ("--coordinator", "http://"), "--coordinator"),
        (join, ("--coordinator", "http://127.0.0.1:1/path"), "--coordinator"),
    ]
    for command, options, what in rows:
        text = said(*command, *options, code=2)
        assert what in text and "--help" in text, (options, text)
    assert not folder.exists()
    assert "--url" in said(BINARY, "models", "--url", "nowhere", code=1)


def test_messages_say_what_and_where(tmp_path: Path) -> None:
    junk = tmp_path / "junk.png"
    junk.write_text("junk")
    text = said(BINARY, "run", "image-classification", "--model", str(MODELS / "garment-class"), "--image", str(junk),
                code=1)
    assert "image: 4 bytes" in text and "image: image" not in text
    folder = tmp_path / "data"
    assert str(folder) in run(BINARY, "doctor", "--data-dir", str(folder)).stdout and not folder.exists()


def test_what_is_taken_is_named(fleet: Fleet) -> None:
    first = fleet.up(binary=ASAN)
    data = first.folder / "data"
    assert str(data) in said(ASAN, "up", "--data-dir", str(data), "--listen", "127.0.0.1:0", code=1)
    assert str(data) in said(ASAN, "join", "--data-dir", str(data), "--listen", "127.0.0.1:0", "--coordinator",
                             first.peer_url, code=1)
    address = first.public_url.removeprefix("http://")
    text = said(ASAN, "up", "--data-dir", str(fleet.folder / "other"), "--listen", address, code=1)
    assert f"--listen {address}" in text and "in use" in text, text
    assert call(first.public_url + "/healthz").status == 200
    # The lock ends with the process, also when that is killed.
    first.kill()
    fleet.up(binary=ASAN)


def test_a_data_folder_that_is_none(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for folder in (file, file / "below", Path("/proc/self/nowhere")):
        text = said(ASAN, "up", "--data-dir", str(folder), "--listen", "127.0.0.1:0", code=1)
        assert str(folder) in text, text


def test_stopping_a_device_that_looks_for_its_coordinator(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and never listens
        log = tmp_path / "log"
        with open(log, "wb") as out:
            process = subprocess.Popen([ASAN, "join", "--data-dir", str(tmp_path / "data"), "--listen", "127.0.0.1:0",
                                        "--coordinator", f"http://127.0.0.1:{nobody.getsockname()[1]}"],
                                       stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        until(lambda: "node:" in log.read_text() or process.poll() is not None, 60, "the node to start")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 1
        assert "stopped by a signal" in log.read_text(), log.read_text()


def test_every_signal_ends_a_device_in_order(fleet: Fleet) -> None:
    fleet.up(binary=ASAN)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        device = fleet.join("second", binary=ASAN)
        device.process.send_signal(signal.SIGPIPE)
        device.process.send_signal(number)
        assert device.process.wait(60) == 0, device.log()
        fleet.devices.remove(device)
        assert fleet.get("/s2m3/v1/status")["devices"] == 1


def test_a_device_that_stops_under_load_costs_nobody_an_answer(fleet: Fleet) -> None:
    fleet.up("--no-node", name="coordinator")
    fleet.join("one")
    fleet.join("two")
    fleet.add(*model_folders())
    holders = {d["device"] for m in fleet.get("/s2m3/v1/modules")["modules"] for d in m["devices"] if d["desired"]}
    leaver = next(d for d in fleet.devices if d.name in holders)
    load = Load([d for d in fleet.devices if d is not leaver], small_cases(), 6)
    until(lambda: load.right > 50, 60, "answers")
    assert leaver.stop() == 0
    before = load.right
    until(lambda: load.right > before + 50, 60, "answers after it")
    load.end()
    assert not load.errors and not load.hung and load.wrong == 0, (load.errors, load.hung, load.wrong)


def test_what_failed_for_want_of_room_makes_room(fleet: Fleet) -> None:
    """A file system that refuses files: old uploads that no model uses go, those of a moment ago stay."""
    first = fleet.up("--memory", "256M")
    data = first.folder / "data"

    def upload(content: bytes) -> Path:
        digest = hashlib.sha256(content).hexdigest()
        url = f"{first.public_url}/s2m3/v1/uploads/{digest}?offset=0&last=1"
        answer = call(url, content, "application/octet-stream", method="PUT")
        assert (answer.status == 200) == (data / "partial").is_dir(), answer.body
        return data / "blobs" / digest

    fleet.add(MODELS / "garment-class")
    old, young = upload(b"of ten minutes ago"), upload(b"of now")
    used = set((data / "blobs").iterdir()) - {old, young}
    for file in (old, *used):
        os.utime(file, (time.time() - 600,) * 2)
    (data / "partial").rmdir()
    (data / "partial").write_text("no folder")
    assert not upload(b"refused").exists()
    assert set((data / "blobs").iterdir()) == {young, *used}
    (data / "partial").unlink()
    (data / "partial").mkdir()
    assert upload(b"refused").exists()

"""Hostile clients and clumsy operators (the build with address sanitizer): what once broke stays mended."""
from __future__ import annotations

import hashlib
import json
import socket
from pathlib import Path

from conftest import ASAN, BINARY, MODELS, Fleet, call, cases, run, until


def model_of(task: str) -> str:
    return next(c["model"] for c in cases() if c["task"] == task)


def files_of(folder: Path) -> list[dict]:
    return [{"path": str(p.relative_to(folder)), "digest": hashlib.sha256(p.read_bytes()).hexdigest()}
            for p in sorted(folder.rglob("*")) if p.is_file()]


def upload(url: str, folder: Path) -> list[dict]:
    files = files_of(folder)
    for row in files:
        answer = call(f"{url}/s2m3/v1/uploads/{row['digest']}?offset=0&last=1", (folder / row["path"]).read_bytes(),
                      "application/octet-stream", method="PUT")
        assert answer.status == 200, answer.body
    return files


def manifest(url: str, name: str, files: list[dict]):
    return call(f"{url}/s2m3/v1/models", json.dumps({"name": name, "files": files}).encode(), "application/json")


def test_a_removal_spares_what_is_being_uploaded(fleet: Fleet) -> None:
    first = fleet.up(binary=ASAN)
    fleet.add(MODELS / model_of("image-classification"))
    files = upload(first.public_url, MODELS / model_of("visual-question-answering"))
    part = "1" * 64
    assert call(f"{first.public_url}/s2m3/v1/uploads/{part}", b"half", "application/octet-stream",
                method="PUT").status == 200
    run(BINARY, "remove", model_of("image-classification"), "--url", first.public_url)
    assert json.loads(call(f"{first.public_url}/s2m3/v1/uploads/{part}").body)["have"] == 4
    answer = manifest(first.public_url, "asked", files)
    assert answer.status == 200, answer.body
    # What the removed model alone had is gone; the other's files are there, with what was cut of them.
    blobs = {p.name for p in (first.folder / "data" / "blobs").iterdir()}
    kept = {row["digest"] for row in files}
    removed = {row["digest"] for row in files_of(MODELS / model_of("image-classification"))}
    assert kept <= blobs and not (removed - kept) & blobs


def test_manifests_of_files_that_are_not_there(fleet: Fleet) -> None:
    first = fleet.up(binary=ASAN)
    for path in ("config.json", "onnx/model.onnx"):
        answer = manifest(first.public_url, "m", [{"path": path, "digest": "3" * 64}])
        assert answer.status == 404
        reason = answer.json()["error"]
        assert path in reason and "uploaded" in reason and str(first.folder) not in reason
    assert not any((first.folder / "data" / "modules").iterdir())
    for name in (".", "..", "-rf", ".hidden", "a/b", ""):
        assert manifest(first.public_url, name, []).status == 400


def test_pages_of_other_sites_reach_no_listener(fleet: Fleet) -> None:
    """A browser on this machine finds both ports; what it sends says where the page is from."""
    first = fleet.up(binary=ASAN)
    for url, path in ((first.public_url, "/healthz"), (first.peer_url, "/s2m3/v1/ping")):
        assert call(url + path).status == 200
        for header in ({"Host": "rebound.example"}, {"Origin": "http://page.example"}, {"Origin": "null"}):
            assert call(url + path, **header).status == 403
    leave = call(first.peer_url + "/s2m3/v1/leave", b'{"device":"x"}', method="POST", Origin="http://page.example")
    assert leave.status == 403


def test_idle_clients_where_few_files_may_be_open(fleet: Fleet) -> None:
    """A process that may open few files takes few connections, and ends the idle ones of them."""
    wrapper = fleet.folder / "few"
    wrapper.write_text(f'#!/bin/sh\nulimit -n 96\nexec "{BINARY}" "$@"\n')
    wrapper.chmod(0o755)
    first = fleet.up(binary=str(wrapper))
    host, port = first.public_url.removeprefix("http://").split(":")
    idle = [socket.create_connection((host, int(port))) for _ in range(200)]

    def answers() -> bool:
        try:
            return call(first.public_url + "/healthz", timeout=5).status == 200
        except OSError:  # refused while all places are taken
            return False

    until(answers, 60, "an answer")
    for one in idle:
        one.close()

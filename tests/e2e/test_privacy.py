"""Nothing leaves the fleet: no socket but its own, no file outside of the data folder."""
from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from conftest import BINARY, HELD_OUT, MODELS, call, cases, json, run, until


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_sockets_and_files_of_a_node_that_loads_and_runs(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    log = tmp_path / "trace"
    data = tmp_path / "data"
    ready = tmp_path / "ready.json"
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "TMPDIR": str(home)}
    command = ["strace", "-f", "-qq", "-e", "trace=socket,connect,sendto,openat,open,creat,mkdir,mkdirat,rename,link",
               "-o", str(log), BINARY, "up", "--data-dir", str(data), "--listen", "127.0.0.1:0", "--threads", "1",
               "--ready-file", str(ready)]
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, cwd=home)
    try:
        until(ready.exists, 120, "the start under strace")
        said = json.loads(ready.read_text())
        case = next(c for c in cases() if c["task"] == "image-classification")
        run(BINARY, "add", str(MODELS / case["model"]), "--url", said["public_url"], timeout=300)
        body = (HELD_OUT / case["image"]).read_bytes()
        until(lambda: call(f"{said['public_url']}/models/{case['model']}", body, "image/png").status == 200, 60,
              "an answer")
        # The runtime's event client, if it were on, would look names up after some seconds.
        end = time.monotonic() + (120 if os.environ.get("S2M3_FULL") else 8)
        until(lambda: time.monotonic() > end, 200, "the runtime to show what it does when left alone")
        os.kill(said["pid"], signal.SIGTERM)
        process.wait(60)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    text = log.read_text(errors="replace")
    assert list(home.iterdir()) == [], "files in the home folder"
    strangers = [line for line in text.splitlines()
                 if "connect(" in line and "AF_INET" in line and "127.0.0.1" not in line]
    assert strangers == []
    assert not re.search(r"AF_INET6?.*htons\(53\)", text), "a name was looked up"
    created = re.findall(r'(?:openat|open|creat)\([^"]*"([^"]+)"[^)]*O_CREAT', text)
    outside = [p for p in created if not p.startswith((str(data), str(ready), "/dev/", "/proc/"))
               and not os.path.join(str(home), p).startswith(str(data))]
    assert outside == [], outside

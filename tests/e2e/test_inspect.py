"""`s2m3 inspect`: the picture of modules, and near misses in words."""
from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import MODELS, Fleet

ROOT = Path(__file__).resolve().parents[2]
BINARY = os.environ.get("S2M3_ASAN", os.environ.get("S2M3", str(ROOT / "build" / "s2m3")))
SMALL = ROOT / "tests" / "golden" / "onnx" / "small"


def inspect(*options: str, code: int = 0, path: str | None = None) -> str:
    env = {**os.environ, **({} if path is None else {"PATH": path})}
    done = subprocess.run([BINARY, "inspect", "--min-share", "0", *options], capture_output=True, text=True, timeout=60,
                          check=False, env=env)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


def test_the_picture_has_each_module_once_and_each_call(tmp_path: Path) -> None:
    names = [str(SMALL / f"{n}.onnx") for n in ("tower_a", "tower_b", "tower_twice")]
    report = json.loads(inspect("--json", *names))
    text = inspect("--dot", "-", *names)
    assert text.startswith("digraph") and text.rstrip().endswith("}")
    drawn = re.findall(r'tooltip="([0-9a-f]{64})"', text)
    assert sorted(drawn) == sorted(m["digest"] for m in report["modules"])
    filled = [line for line in text.splitlines() if "filled" in line]
    assert len(filled) == sum(len(m["models"]) > 1 for m in report["modules"]) == 1
    assert '"in left" -> ' in text and '"in right" -> ' in text
    inspect("--dot", str(tmp_path / "a.dot"), *names)
    assert (tmp_path / "a.dot").read_text() == text


def test_names_with_quotes_do_no_harm(tmp_path: Path) -> None:
    odd = tmp_path / 'a"] ; b\\.onnx'
    shutil.copy(SMALL / "tower_a.onnx", odd)
    text = inspect("--dot", "-", str(odd))
    assert 'a\\"] ; b\\\\' in text


def test_a_picture_needs_graphviz(tmp_path: Path) -> None:
    out = tmp_path / "a.svg"
    said = inspect("--dot", str(out), str(SMALL / "tower_a.onnx"), code=1, path=str(tmp_path))
    assert "graphviz" in said and list(tmp_path.iterdir()) == []
    if shutil.which("dot") is None:
        pytest.skip("graphviz is not installed")
    inspect("--dot", str(out), str(SMALL / "tower_a.onnx"))
    assert "<svg" in out.read_text()


def test_near_misses_are_named() -> None:
    report = json.loads(inspect("--json", *(str(SMALL / f"wide_{n}.onnx") for n in ("a", "eps", "changed"))))
    said = [n["why"] for n in report["near_misses"]]
    assert any("other epsilon: 1e-05 and 1e-06" in s for s in said), said
    assert "`wide_changed` differs from `wide_a` in 5 of 17 weights, all in layer 1" in said


def test_tasks_are_those_that_add_finds(fleet: Fleet) -> None:
    """Of whole models too, whose graph takes several kinds of media at once."""
    folders = [MODELS / "garment-search", MODELS / "garment-vqa", MODELS / "garment-caption"]
    report = json.loads(inspect("--json", *map(str, folders)))
    fleet.up("--memory", "256M")
    fleet.add(*folders)
    added = {m["name"]: m["tasks"] for m in fleet.get("/s2m3/v1/models")["models"]}
    assert {m["name"]: m["tasks"] for m in report["models"]} == added
    assert "zero-shot-image-classification, text-to-image-retrieval" in inspect(str(folders[0]))

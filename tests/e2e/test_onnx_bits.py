"""Each canonical form (ARCHITECTURE.md) keeps the bits: models of tests/golden/onnx/small are split by
`s2m3 inspect --write` and run piece by piece against the whole, at each level of optimisation.
"""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "golden" / "onnx"))
import check_split  # noqa: E402

BINARY = os.environ.get("S2M3", str(ROOT / "build" / "s2m3"))
GOLDEN = ROOT / "tests" / "golden" / "onnx"
SMALL, TRAPS = GOLDEN / "small", GOLDEN / "traps"
ALL, LATE, EARLY = ("off", "basic", "extended", "all"), ("extended", "all"), ("off", "basic")
FOLDED = ("basic", "extended", "all")
OTHERWISE = 2e-6  # at the other levels: nine nodes and the one that the runtime makes of them, and where it
#                   fuses more because it knows all dims

PAIRS = [
    ("tower_a", "tower_b", ALL), ("tower_a", "tower_nine", LATE), ("tower_a", "tower_changed", ALL),
    ("tower_a", "tower_turned", ALL), ("tower_a", "tower_twice", ALL), ("behind_a", "behind_b", ALL),
    ("bind_xy", "bind_yx", ALL), ("ports_xy", "ports_yx", ALL), ("form_identity", "form_turned", ALL),
    ("form_floats", "form_external", ALL), ("shape_dynamic", "shape_length", ALL), ("shape_dynamic", "shape_fixed", EARLY),
    ("words_dynamic", "words_fixed", EARLY), ("mask_dynamic", "mask_length", ALL), ("mask_dynamic", "mask_number", ALL),
    ("norm_kept", "norm_folded", FOLDED), ("bias_kept", "bias_folded", FOLDED), ("tower_a", "tower_unsorted", ALL),
    ("soft_old", "soft_new", ALL), ("soft_old", "soft_back", ALL), ("scale_root", "scale_number", ALL),
    ("half_a", "half_b", ALL), ("half_a", "half_c", ALL), ("half_b", "half_c", ALL),
    ("tower_given_a", "tower_given_b", ALL),
    ("rare_a", "rare_b", ALL), ("tower_five", "tower_gelu", LATE),
    ("tower_pair", "tower_twice", EARLY), ("cross_both", "cross_text", EARLY),
]


def split(to: Path, paths: list[Path]) -> dict:
    done = subprocess.run([BINARY, "inspect", "--json", "--min-share", "0", "--write", str(to), *map(str, paths)],
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("one,two,exact", PAIRS)
def test_pieces_give_the_bits_of_the_whole(tmp_path: Path, one: str, two: str, exact: tuple[str, ...]) -> None:
    paths = [SMALL / f"{name}.onnx" for name in (one, two)]
    report = split(tmp_path, paths)
    assert report["shared_bytes"] < report["unshared_bytes"]
    cache: dict = {}
    for model, path in zip(report["models"], paths):
        for level in ALL:
            allowed = 0 if level in exact else OTHERWISE
            assert check_split.compare(model, path, tmp_path, [level], cache, allowed) == []


@pytest.mark.parametrize("name", (TRAPS / "list.txt").read_text().split())
def test_what_differs_stays_apart(tmp_path: Path, name: str) -> None:
    """A trap: the runtime gives two answers, and each model cut to pieces still gives its own."""
    paths = [TRAPS / f"{name}-{i}.onnx" for i in (0, 1)]
    differ = False
    for batch in (1, 3):
        answers = []
        for path in paths:
            whole = check_split.session(path, "all")
            rng = np.random.default_rng(batch)
            inputs = {p.name: check_split.aligned(check_split.make_input(p, batch, rng)) for p in whole.get_inputs()}
            answers.append(whole.run(None, inputs)[0])
        differ |= answers[0].shape != answers[1].shape or answers[0].tobytes() != answers[1].tobytes()
    assert differ, "no trap: the answers are equal"
    report = split(tmp_path, paths)
    assert report["models"][0]["modules"] != report["models"][1]["modules"]
    cache: dict = {}
    for model, path in zip(report["models"], paths):
        assert check_split.compare(model, path, tmp_path, ["all"], cache, 0) == []

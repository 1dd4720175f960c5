"""speech.py - spoken phrases from espeak-ng, and their log-mel picture.

Voices are synthetic.  Sixteen voice variants are kept for tests and are never heard in training.
Output: PCM of 16 kHz, at most two seconds, values -1..1.

Not here: the log-mel inside the exported network (nets.py holds the same constants).
"""
from __future__ import annotations

import io
import subprocess
import wave
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np

from data import NAMES, phrase

RATE = 16000
SAMPLES = 32000
ACCENTS = ["en-us", "en-gb", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-gb-x-rp",
           "en-029"]
HELD_OUT_VARIANTS = 16
VARIANT_DIRS = [Path("/usr/lib/x86_64-linux-gnu/espeak-ng-data/voices/!v"),
                Path("/usr/lib/aarch64-linux-gnu/espeak-ng-data/voices/!v"),
                Path("/usr/share/espeak-ng-data/voices/!v")]


@dataclass(frozen=True)
class Clip:
    """One spoken phrase: what is said (None = not said) and how."""
    cls: int
    tone: int | None
    pattern: int | None
    voice: str
    speed: int
    pitch: int


def variants() -> list[str]:
    for folder in VARIANT_DIRS:
        if folder.is_dir():
            return sorted(p.name for p in folder.iterdir() if " " not in p.name)
    raise SystemExit("espeak-ng-data is not installed")


def choose(count: int, seed: int, held_out: bool) -> list[Clip]:
    """`count` clips; held-out clips use only the sixteen voices that training never uses."""
    rng = Random(seed)
    names = variants()
    Random(7).shuffle(names)
    names = names[:HELD_OUT_VARIANTS] if held_out else names[HELD_OUT_VARIANTS:]
    out = []
    for i in range(count):
        form = rng.random()
        tone = rng.randrange(3) if form < 0.6 else None
        pattern = rng.randrange(2) if form < 0.3 or 0.6 <= form < 0.75 else None
        voice = f"{rng.choice(ACCENTS)}+{rng.choice(names)}"
        out.append(Clip(i % len(NAMES), tone, pattern, voice, rng.randrange(150, 215, 5),
                        rng.randrange(25, 80, 5)))
    return out


def resample(x: np.ndarray, rate: int) -> np.ndarray:
    """Band-limited change of rate through the spectrum; the clips begin and end in silence."""
    if rate == RATE:
        return x
    n = round(len(x) * RATE / rate)
    spectrum = np.fft.rfft(x)[: n // 2 + 1]
    return np.fft.irfft(spectrum, n) * (n / len(x))


def speak(clip: Clip) -> np.ndarray:
    """float32 PCM of the clip, quiet ends cut, at most SAMPLES long."""
    text = phrase(clip.cls, clip.tone, clip.pattern)
    done = subprocess.run(["espeak-ng", "-v", clip.voice, "-s", str(clip.speed), "-p",
                           str(clip.pitch), "--stdout", text], check=True, capture_output=True)
    with wave.open(io.BytesIO(done.stdout)) as w:
        rate = w.getframerate()
        # espeak-ng streams: the frame count in its header is a placeholder.
        pcm = np.frombuffer(w.readframes(rate * 10), "<i2").astype(np.float64) / 32768
    x = resample(pcm, rate)
    loud = np.flatnonzero(np.abs(x) > 0.01)
    if loud.size:
        x = x[max(loud[0] - 800, 0): loud[-1] + 800]
    return x[:SAMPLES].astype(np.float32)


def to_int16(x: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(x * 32767), -32768, 32767).astype("<i2")


def write_wav(path: Path, x: np.ndarray) -> None:
    with wave.open(str(path), "wb") as w:
        w.setnchannels(1)
        w.setsampwidth(2)
        w.setframerate(RATE)
        w.writeframes(to_int16(x).tobytes())


def read_wav(path: Path) -> np.ndarray:
    """float32 PCM of a 16 kHz mono 16-bit file, as any reader gives it: value / 32768."""
    with wave.open(str(path)) as w:
        if (w.getnchannels(), w.getsampwidth(), w.getframerate()) != (1, 2, RATE):
            raise ValueError(f"{path}: not 16 kHz mono 16 bit")
        return np.frombuffer(w.readframes(w.getnframes()), "<i2").astype(np.float32) / 32768


def pad(x: np.ndarray) -> np.ndarray:
    out = np.zeros(SAMPLES, np.float32)
    out[: min(len(x), SAMPLES)] = x[:SAMPLES]
    return out


def speak_all(clips: list[Clip]) -> np.ndarray:
    """[n,SAMPLES] float32, padded with silence."""
    with ThreadPoolExecutor(2) as pool:
        return np.stack([pad(x) for x in pool.map(speak, clips)])


def mel_matrices(n_mels: int = 40, window: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Constants of the log-mel: DFT rows [2*(window/2+1), window] with the Hann window in them,
    first all cosines and then all sines; and the mel filters [n_mels, window/2+1], triangles
    between points equally spaced in mel = 2595 log10(1 + f/700) (O'Shaughnessy)."""
    bins = window // 2 + 1
    t = np.arange(window)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * t / window)
    angle = 2 * np.pi * np.outer(np.arange(bins), t) / window
    dft = np.concatenate([np.cos(angle) * hann, -np.sin(angle) * hann])
    top = 2595 * np.log10(1 + RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, n_mels + 2) / 2595) - 1)
    freq = np.arange(bins) * RATE / window
    up = (freq[None] - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    down = (edges[2:, None] - freq[None]) / (edges[2:] - edges[1:-1])[:, None]
    return dft.astype(np.float32), np.maximum(0, np.minimum(up, down)).astype(np.float32)

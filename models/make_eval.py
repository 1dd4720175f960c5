"""make_eval.py OUT [--count N] [--small] - makes held-out pictures, sounds and questions.

Pictures come from the official 10 000 test pictures of Fashion-MNIST, voices are the sixteen that
training never heard.  OUT gets images/*.png, audio/*.wav and cases.jsonl, one row a case:
id, task, model, image or audio, text (the question), labels, truth.  reference.py adds "reference".

N (default 1000) cases each for questions, classification and zero-shot; N/5 each for captions and
sounds.  --small makes the committed set: 40 pictures, 20 sounds, 200 cases.
"""
from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image

import data
import speech

EVAL_SEED, SMALL_SEED = 101, 202
COUNT_MAX = 10000


@dataclass(frozen=True)
class Sizes:
    """How many of each to make; a picture is used by several tasks."""
    images: int
    clips: int
    questions: int
    classes: int
    zero_shot: int
    captions: int


def sizes(count: int, small: bool) -> Sizes:
    if small:
        return Sizes(images=40, clips=20, questions=60, classes=40, zero_shot=40, captions=40)
    return Sizes(images=count, clips=count // 5, questions=count, classes=count,
                 zero_shot=count, captions=count // 5)


class Maker:
    """Writes the files and collects the rows."""

    def __init__(self, out: Path, seed: int) -> None:
        self.out, self.seed = out, seed
        self.rng = Random(seed)
        _, self.pictures = data.load()
        self.chosen: list[int] = []
        self.rows: list[dict[str, Any]] = []
        (out / "images").mkdir(parents=True, exist_ok=True)
        (out / "audio").mkdir(parents=True, exist_ok=True)

    def images(self, count: int) -> None:
        """An equal number of pictures of each class, mixed."""
        order = list(range(len(self.pictures.pixels)))
        self.rng.shuffle(order)
        want = [count // 10 + (c < count % 10) for c in range(10)]
        for i in order:
            cls = int(self.pictures.classes[i])
            if want[cls]:
                want[cls] -= 1
                self.chosen.append(i)
        for no, i in enumerate(self.chosen):
            Image.fromarray(self.pictures.pixels[i]).save(self.out / self.image(no), optimize=True)

    @staticmethod
    def image(no: int) -> str:
        return f"images/{no:03d}.png"

    def facts(self, no: int) -> tuple[int, int, int]:
        i, p = self.chosen[no], self.pictures
        return int(p.classes[i]), int(p.tones[i]), int(p.patterns[i])

    def add(self, task: str, model: str, **rest: Any) -> None:
        self.rows.append({"id": len(self.rows), "task": task, "model": model, **rest})

    def questions(self, count: int) -> None:
        """A quarter of the questions in wordings that the head was never trained on."""
        for n in range(count):
            no = n % len(self.chosen)
            facts = self.facts(no)
            kind = self.rng.choice(data.kinds_for(facts[0]))
            text, truth = data.question(self.rng, kind, *facts, unseen=n % 4 == 3)
            self.add("visual-question-answering", "garment-vqa", image=self.image(no), text=text,
                     truth=truth)

    def labelled(self, zero_shot: int, classes: int, captions: int) -> None:
        for no in range(zero_shot):
            self.add("zero-shot-image-classification", "garment-search", image=self.image(no),
                     labels=data.NAMES, truth=data.NAMES[self.facts(no)[0]])
        for no in range(classes):
            self.add("image-classification", "garment-class", image=self.image(no),
                     truth=data.NAMES[self.facts(no)[0]])
        for no in range(captions):
            self.add("image-to-text", "garment-caption", image=self.image(no),
                     truth=data.caption(*self.facts(no)))

    def sounds(self, count: int) -> None:
        for no, clip in enumerate(speech.choose(count, self.seed, held_out=True)):
            name = f"audio/{no:03d}.wav"
            speech.write_wav(self.out / name, speech.speak(clip))
            self.add("zero-shot-audio-classification", "garment-voice", audio=name,
                     labels=data.NAMES, truth=data.NAMES[clip.cls])


def make(out: Path, want: Sizes, seed: int) -> list[dict[str, Any]]:
    maker = Maker(out, seed)
    maker.images(want.images)
    maker.labelled(want.zero_shot, want.classes, want.captions)
    maker.questions(want.questions)
    maker.sounds(want.clips)
    return maker.rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--small", action="store_true")
    args = parser.parse_args()
    if not 10 <= args.count <= COUNT_MAX:
        parser.error(f"--count {args.count}: must be 10 to {COUNT_MAX}")
    rows = make(args.out, sizes(args.count, args.small), SMALL_SEED if args.small else EVAL_SEED)
    text = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)
    (args.out / "cases.jsonl").write_text(text)
    print(f"{args.out}: {len(rows)} cases")


if __name__ == "__main__":
    main()

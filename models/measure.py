"""measure.py [--models DIR] [--clips N] - how good the exported models are, as a table.

Runs parts of the ONNX files over the official 10 000 test pictures and over clips of voices that
training never heard, batched, and prints every figure beside a baseline.  README.md quotes its output.

Needs what reference.py needs, and the two Debian packages of the data.
"""
from __future__ import annotations

import argparse
from pathlib import Path
from random import Random

import numpy as np

import data
import speech
from reference import HERE, Model

SEED = 303


class Measured:
    """The embeddings of all test pictures, and what is true of them."""

    def __init__(self, models: Path) -> None:
        self.models = models
        _, self.pictures = data.load()
        search = Model(models / "garment-search")
        x = self.pictures.pixels.astype(np.float64) / 255
        x = ((x.astype(np.float32) - np.float32(0.5)) / np.float32(0.5))[:, None]
        rows, tokens = [], []
        see = search.part(["pixel_values"], ["image_embeds", "last_hidden_state"])
        for at in range(0, len(x), 500):
            out = see({"pixel_values": np.repeat(x[at:at + 500], 3, 1)})
            rows.append(out["image_embeds"])
            tokens.append(out["last_hidden_state"])
        self.search, self.image, self.tokens = search, np.concatenate(rows), np.concatenate(tokens)
        p = self.pictures
        self.combo = p.classes * 6 + p.tones * 2 + p.patterns

    def texts(self, texts: list[str]) -> np.ndarray:
        return np.concatenate([self.search.text(t) for t in texts])


def show(what: str, value: float, baseline: float) -> None:
    print(f"| {what} | {value:.1%} | {baseline:.1%} |", flush=True)


def commonest(values: np.ndarray, count: int = 1) -> float:
    """How often one is right who always names the commonest `count` values."""
    counts = np.sort(np.unique(values, return_counts=True)[1])
    return float(counts[-count:].sum() / len(values))


def retrieval(m: Measured) -> None:
    names = m.texts([data.TEMPLATE.format(n) for n in data.NAMES])
    top = (m.image @ names.T).argmax(1)
    show("zero-shot: class by prompt, 10 classes", (top == m.pictures.classes).mean(), 0.1)
    captions = m.texts([data.caption(c, t, p) for c in range(10) for t in range(3)
                        for p in range(2)])
    scores = m.image @ captions.T
    rank = (scores > scores[np.arange(len(scores)), m.combo][:, None]).sum(1)
    show("picture -> its caption of 60, R@1", (rank == 0).mean(), commonest(m.combo))
    show("picture -> its caption of 60, R@5", (rank < 5).mean(), commonest(m.combo, 5))
    there = np.unique(m.combo)
    order = np.argsort(-scores[:, there], 0)[:10]
    right = m.combo[order] == there[None]
    share = np.mean([(m.combo == c).mean() for c in there])
    show("caption -> picture of 10 000, top picture true", right[0].mean(), share)
    show("caption -> picture of 10 000, precision@10", right.mean(), share)


def classification(m: Measured) -> None:
    model = Model(m.models / "garment-class")
    head = model.part(["image_embeds"], ["logits"])
    top = head({"image_embeds": m.image})["logits"].argmax(1)
    show("classification, 10 classes", (top == m.pictures.classes).mean(), 0.1)


def questions(m: Measured, unseen: bool) -> None:
    model, rng, p = Model(m.models / "garment-vqa"), Random(SEED), m.pictures
    asked: list[tuple[str, str, str]] = []
    for i in range(len(p.pixels)):
        facts = (int(p.classes[i]), int(p.tones[i]), int(p.patterns[i]))
        kind = rng.choice(data.kinds_for(facts[0]))
        asked.append((kind, *data.question(rng, kind, *facts, unseen=unseen)))
    rows = np.concatenate([model.text(q) for _, q, _ in asked])
    head = model.part(["image_embeds", "text_embeds"], ["logits"])
    logits = head({"image_embeds": m.image, "text_embeds": rows})["logits"]
    labels = np.array([model.config["id2label"][str(i)] for i in logits.argmax(1)])
    truth, kinds = np.array([a for _, _, a in asked]), np.array([k for k, _, _ in asked])
    majority = sum(commonest(truth[kinds == k]) * (kinds == k).mean() for k in data.QUESTIONS)
    wording = "wording never shown to the head" if unseen else "wording seen in training"
    show(f"questions, {wording}", (labels == truth).mean(), majority)
    if not unseen:
        for k in data.QUESTIONS:
            here = kinds == k
            show(f"- {data.QUESTIONS[k][0].format('...')}", (labels == truth)[here].mean(),
                 commonest(truth[here]))


def captioning(m: Measured) -> None:
    """Greedy, batched; same steps as reference.py."""
    model = Model(m.models / "garment-caption")
    n, c = len(m.tokens), model.config
    shape = (n, c["num_attention_heads"], 0, 128 // c["num_attention_heads"])
    past = {f"past_key_values.{i}.{k}": np.zeros(shape, np.float32)
            for i in range(c["num_hidden_layers"]) for k in ("key", "value")}
    last, ids = np.full(n, data.BOS), []
    for _ in range(data.MAX_IDS - 1):
        out = model.run({"input_ids": last[:, None], "encoder_hidden_states": m.tokens, **past},
                        "decoder_model_merged")
        last = out["logits"][:, -1].argmax(-1)
        ids.append(last)
        past = {k: out[k.replace("past_key_values", "present")] for k in past}
    said = [model.tokenizer.decode([t for t in row[:(row == data.EOS).argmax()]])
            for row in np.stack(ids + [np.full(n, data.EOS)], 1)]
    p = m.pictures
    truth = [data.caption(*f) for f in zip(p.classes, p.tones, p.patterns)]
    show("captions, the exact sentence", float(np.mean([a == b for a, b in zip(said, truth)])),
         commonest(m.combo))
    for what, values, names in (("class", p.classes, data.CAPTION_NAMES),
                                ("tone", p.tones, data.TONES),
                                ("pattern", p.patterns, data.PATTERNS)):
        right = [f" {names[v]} " in f" {s} " for v, s in zip(values, said)]
        show(f"- the {what} word", float(np.mean(right)), commonest(values))


def voices(m: Measured, count: int) -> None:
    model = Model(m.models / "garment-voice")
    clips = speech.choose(count, SEED, held_out=True)
    pcm = speech.to_int16(speech.speak_all(clips)).astype(np.float32) / 32768
    hear = model.part(["input_values"], ["audio_embeds"])
    audio = np.concatenate([hear({"input_values": pcm[i:i + 50]})["audio_embeds"]
                            for i in range(0, count, 50)])
    names = m.texts([data.TEMPLATE.format(n) for n in data.NAMES])
    said = np.array([c.cls for c in clips])
    show("spoken phrase -> class, new voices", ((audio @ names.T).argmax(1) == said).mean(), 0.1)
    p, hits, base = m.pictures, [], []
    for row, clip in zip((audio @ m.image.T).argmax(1), clips):
        true = p.classes == clip.cls
        true &= (p.tones == clip.tone) if clip.tone is not None else True
        true &= (p.patterns == clip.pattern) if clip.pattern is not None else True
        hits.append(true[row])
        base.append(true.mean())
    show("spoken phrase -> picture of 10 000, top picture true of every word",
         float(np.mean(hits)), float(np.mean(base)))
    top = said[(m.image @ audio.T).argmax(1)]
    show("picture -> a clip of its class", (top == p.classes).mean(), 0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=HERE)
    parser.add_argument("--clips", type=int, default=600)
    args = parser.parse_args()
    measured = Measured(args.models)
    print("| what | result | baseline |\n|---|---|---|")
    retrieval(measured)
    classification(measured)
    questions(measured, unseen=False)
    questions(measured, unseen=True)
    captioning(measured)
    voices(measured, args.clips)


if __name__ == "__main__":
    main()

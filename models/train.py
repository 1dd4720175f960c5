"""train.py STEP [--work DIR] - trains the demo family; STEP is speech, joint, text or heads.

  speech  speaks the training clips and keeps their log-mel pictures
  joint   picture, text and sound encoders together (contrastive)
  text    the text encoder again, beside the other two, which stay as they are: questions apart
  heads   classifier, question answerer and caption decoder on the frozen encoders

All seeds are fixed; one thread gives the same weights again on the same machine.
Results are DIR/mel.npz, DIR/joint.pt, DIR/encoders.pt and DIR/heads.pt.

Loss of the encoders.  A text or a clip is true of several pictures of a batch, so the target of
the contrastive loss is spread evenly over all true pairs (both ways, for picture-text,
picture-sound and sound-text).  A second loss asks the words of a sentence back from its
embedding, questions included: without it a frozen text encoder need not keep questions apart.
That alone leaves all questions within a narrow cone, where a head does not generalise from one
wording to the next; so the step "text" also draws wordings of one question together and pushes
different questions apart.
"""
from __future__ import annotations

import argparse
import math
import os
import time
from pathlib import Path
from random import Random

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

import data
import nets
import speech

EPOCHS, BATCH, CLIPS_A_BATCH, QUESTIONS_A_BATCH = 4, 256, 96, 64
N_CLIPS, SEED = 5000, 20
MAX_SCALE = math.log(100)   # of the logarithm of the similarities' scale


def normalise(pixels: Tensor) -> Tensor:
    """uint8 [b,28,28] -> float [b,3,28,28] in -1..1, as preprocessor_config.json says."""
    return ((pixels.float() / 255 - 0.5) / 0.5)[:, None].expand(-1, 3, -1, -1)


def shaken(pixels: Tensor, gen: torch.Generator) -> Tensor:
    """Mirrored half of the time and moved by up to two pixels."""
    n = len(pixels)
    flip = torch.rand(n, generator=gen) < 0.5
    x = torch.where(flip[:, None, None], pixels.flip(2), pixels)
    x = F.pad(x, (2, 2, 2, 2))
    dy, dx = torch.randint(0, 5, (2, n), generator=gen)
    span = torch.arange(28)
    rows = (dy[:, None] + span)[:, :, None]
    cols = (dx[:, None] + span)[:, None, :]
    return x[torch.arange(n)[:, None, None], rows, cols]


def masked_mel(mel: Tensor, gen: torch.Generator) -> Tensor:
    """Louder or softer, later, and with a band and a stretch of time hidden (SpecAugment)."""
    x = mel.float() + (torch.rand(len(mel), 1, 1, generator=gen) - 0.5) * 0.8
    floor = math.log(1e-4) * 0.25
    x = x.clamp(min=floor) + torch.randn(x.shape, generator=gen) * 0.05
    for row in range(len(x)):
        late, band, when = (int(torch.randint(0, n, (1,), generator=gen)) for n in (20, 34, 183))
        x[row] = x[row].roll(late, 1)
        x[row, band:band + 6] = floor
        x[row, :, when:when + 15] = floor
    return x


def spread_loss(scores: Tensor, true: Tensor) -> Tensor:
    """Cross entropy against an even spread over the true pairs, both ways; rows without any are
    left out."""
    total = scores.new_zeros(())
    for s, t in ((scores, true), (scores.t(), true.t())):
        count = t.sum(1)
        rows = (-(s.log_softmax(1) * t).sum(1) / count.clamp(min=1))
        total = total + (rows * (count > 0)).sum() / (count > 0).sum().clamp(min=1)
    return total / 2


def truth(a: Tensor, b: Tensor) -> Tensor:
    """[n,m]: 1 where the facts of a row of `a` and of `b` meet in all three groups."""
    groups = (slice(0, 10), slice(10, 13), slice(13, 15))
    return torch.stack([(a[:, g] @ b[:, g].t() > 0) for g in groups]).all(0).float()


def implies(a: Tensor, b: Tensor) -> Tensor:
    """[n,m]: 1 where everything that text `a` allows is allowed by text `b`, or the reverse."""
    forth = (a @ (1 - b).t()) == 0
    back = ((1 - a) @ b.t()) == 0
    return (forth | back).float()


class Optimiser:
    """AdamW with warm-up and cosine; gradients cut at length 1."""

    def __init__(self, params: list[Tensor], rate: float, steps: int, warm: int = 100) -> None:
        self.params, self.step_no = params, 0
        self.adam = torch.optim.AdamW(params, lr=rate, weight_decay=0.02, betas=(0.9, 0.98))
        self.plan = torch.optim.lr_scheduler.LambdaLR(
            self.adam, lambda i: min((i + 1) / warm,
                                     0.02 + 0.49 * (1 + math.cos(math.pi * min(i / steps, 1)))))

    def step(self, loss: Tensor) -> None:
        self.adam.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.params, 1.0)
        self.adam.step()
        self.plan.step()


class Encoders(torch.nn.Module):
    """The three encoders, the scale of the scores, and the words asked back (training only)."""

    def __init__(self, n_words: int) -> None:
        super().__init__()
        self.vision = nets.VisionEncoder()
        self.text = nets.TextEncoder(n_words, data.MAX_IDS)
        self.audio = nets.AudioEncoder()
        self.logit_scale = torch.nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.recall = torch.nn.Linear(nets.WIDTH, n_words)


class Batches:
    """Draws the pictures, texts, clips and questions of one step."""

    def __init__(self, work: Path) -> None:
        self.pictures, _ = data.load()
        self.pixels = torch.from_numpy(self.pictures.pixels)
        self.facts = torch.from_numpy(self.pictures.facts())
        self.rng = Random(SEED)
        self.gen = torch.Generator().manual_seed(SEED)
        self.index = {w: i for i, w in enumerate(data.vocabulary())}
        stored = np.load(work / "mel.npz")
        self.mel = torch.from_numpy(stored["mel"])
        self.clip_facts = torch.from_numpy(stored["facts"])

    def order(self) -> Tensor:
        return torch.randperm(len(self.pixels), generator=self.gen)

    def three(self, i: int) -> tuple[int, int, int]:
        p = self.pictures
        return int(p.classes[i]), int(p.tones[i]), int(p.patterns[i])

    def texts(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """A true text of each chosen picture, and QUESTIONS_A_BATCH questions after them; facts
        of the texts only.  One word in thirty is hidden, so that unknown words do no harm."""
        sentences, facts = [], []
        for i in chosen.tolist():
            text, fact = data.prompt(self.rng, *self.three(i))
            sentences.append(text)
            facts.append(fact)
        for i in chosen[:QUESTIONS_A_BATCH].tolist():
            three = self.three(i)
            kind = self.rng.choice(data.kinds_for(three[0]))
            sentences.append(data.question(self.rng, kind, *three,
                                           unseen=self.rng.random() < 0.25)[0])
        ids = torch.from_numpy(data.encode(sentences, self.index))
        return ids, torch.from_numpy(np.stack(facts))

    def clips(self) -> tuple[Tensor, Tensor]:
        pick = torch.randint(0, len(self.mel), (CLIPS_A_BATCH,), generator=self.gen)
        return masked_mel(self.mel[pick], self.gen), self.clip_facts[pick]


def recall_loss(model: Encoders, rows: Tensor, ids: Tensor) -> Tensor:
    """Which words does the sentence of each embedding have?"""
    said = torch.zeros(len(ids), model.recall.out_features).scatter_(1, ids, 1.0)
    said[:, :data.EOS + 1] = 0
    return F.binary_cross_entropy_with_logits(model.recall(rows), said)


def encoder_loss(model: Encoders, batches: Batches, chosen: Tensor) -> Tensor:
    image, _ = model.vision(normalise(shaken(batches.pixels[chosen], batches.gen)))
    ids, text_facts = batches.texts(chosen)
    hidden = (torch.rand(ids.shape, generator=batches.gen) < 1 / 30) & (ids > data.EOS)
    every = model.text(ids.masked_fill(hidden, data.UNK), (ids != data.PAD).long())
    text = every[:len(chosen)]
    mel, clip_facts = batches.clips()
    audio = model.audio.from_mel(mel)
    scale = model.logit_scale.clamp(max=MAX_SCALE).exp()
    facts = batches.facts[chosen]
    loss = spread_loss(scale * image @ text.t(), truth(facts, text_facts))
    loss = loss + 0.5 * spread_loss(scale * image @ audio.t(), truth(facts, clip_facts))
    loss = loss + 0.5 * spread_loss(scale * audio @ text.t(), implies(clip_facts, text_facts))
    return loss + 10 * recall_loss(model, every, ids)


def train_speech(work: Path) -> None:
    clips = speech.choose(N_CLIPS, SEED, held_out=False)
    logmel = nets.LogMel()
    mels, facts = [], []
    for at in range(0, len(clips), 200):
        part = clips[at:at + 200]
        with torch.no_grad():
            mels.append(logmel(torch.from_numpy(speech.speak_all(part))).half().numpy())
        for c in part:
            facts.append(data.allow([c.cls], c.tone, c.pattern))
    np.savez(work / "mel.npz", mel=np.concatenate(mels), facts=np.stack(facts))


def train_joint(work: Path) -> None:
    torch.manual_seed(SEED)
    batches = Batches(work)
    model = Encoders(len(batches.index))
    per_epoch = len(batches.pixels) // BATCH
    opt = Optimiser(list(model.parameters()), 1.5e-3, EPOCHS * per_epoch)
    start, seen = time.time(), []
    for epoch in range(EPOCHS):
        order = batches.order()
        for i in range(per_epoch):
            loss = encoder_loss(model, batches, order[i * BATCH:(i + 1) * BATCH])
            opt.step(loss)
            seen.append(float(loss))
            if i % 20 == 19:
                print(f"epoch {epoch} step {i + 1}/{per_epoch} loss {np.mean(seen[-20:]):.3f} "
                      f"{time.time() - start:.0f} s", flush=True)
        part = work / "encoders.part"
        torch.save(model.state_dict(), part)
        os.replace(part, work / ("joint.pt" if epoch == EPOCHS - 1 else f"epoch{epoch}.pt"))


def load_encoders(work: Path, file: str = "encoders.pt") -> Encoders:
    model = Encoders(len(data.vocabulary()))
    model.load_state_dict(torch.load(work / file))
    return model.eval()


def embed_fixed(model: Encoders, batches: Batches) -> tuple[Tensor, Tensor]:
    """Embeddings of all training pictures and clips."""
    with torch.no_grad():
        images = [model.vision(normalise(part))[0] for part in batches.pixels.split(500)]
        clips = [model.audio.from_mel(part.float()) for part in batches.mel.split(500)]
    return torch.cat(images), torch.cat(clips)


def question_loss(model: Encoders, batches: Batches) -> Tensor:
    """Two wordings of one question belong together, all others apart."""
    drawn = [data.any_question(batches.rng) for _ in range(QUESTIONS_A_BATCH * 2)]
    ids = torch.from_numpy(data.encode([q for q, _ in drawn], batches.index))
    rows = model.text(ids, (ids != data.PAD).long())
    same = torch.tensor([[float(a == b and i != j) for j, (_, b) in enumerate(drawn)]
                         for i, (_, a) in enumerate(drawn)])
    scores = 20 * rows @ rows.t() - torch.eye(len(rows)) * 1e4
    return spread_loss(scores, same)


def text_loss(model: Encoders, batches: Batches, chosen: Tensor, image: Tensor, clips: Tensor
              ) -> Tensor:
    ids, text_facts = batches.texts(chosen)
    hidden = (torch.rand(ids.shape, generator=batches.gen) < 1 / 30) & (ids > data.EOS)
    every = model.text(ids.masked_fill(hidden, data.UNK), (ids != data.PAD).long())
    text = every[:len(chosen)]
    pick = torch.randint(0, len(clips), (CLIPS_A_BATCH,), generator=batches.gen)
    scale = model.logit_scale.detach().clamp(max=MAX_SCALE).exp()
    loss = spread_loss(scale * image[chosen] @ text.t(), truth(batches.facts[chosen], text_facts))
    loss = loss + 0.5 * spread_loss(scale * clips[pick] @ text.t(),
                                    implies(batches.clip_facts[pick], text_facts))
    loss = loss + 10 * recall_loss(model, every, ids)
    return loss + 0.5 * question_loss(model, batches)


def train_text(work: Path, steps: int = 700) -> None:
    torch.manual_seed(SEED)
    batches, model = Batches(work), load_encoders(work, "joint.pt")
    image, clips = embed_fixed(model, batches)
    opt = Optimiser([*model.text.parameters(), *model.recall.parameters()], 1e-3, steps)
    order = batches.order()
    for i in range(steps):
        at = i * BATCH % (len(order) - BATCH)
        loss = text_loss(model, batches, order[at:at + BATCH], image, clips)
        opt.step(loss)
        if i % 50 == 49:
            print(f"text {i + 1}/{steps} loss {float(loss):.3f}", flush=True)
    torch.save(model.state_dict(), work / "encoders.pt")


class Frozen:
    """What the frozen encoders say of the training pictures, and of their mirror images."""

    def __init__(self, work: Path) -> None:
        self.encoders = load_encoders(work)
        self.pictures, _ = data.load()
        pixels = torch.from_numpy(self.pictures.pixels)
        rows, tokens = [], []
        with torch.no_grad():
            for at in range(0, len(pixels), 500):
                for part in (pixels[at:at + 500], pixels[at:at + 500].flip(2)):
                    e, t = self.encoders.vision(normalise(part))
                    rows.append(e)
                    tokens.append(t.half())
        even, odd = slice(0, None, 2), slice(1, None, 2)
        self.embeds = torch.stack([torch.cat(rows[even]), torch.cat(rows[odd])])
        self.tokens = torch.stack([torch.cat(tokens[even]), torch.cat(tokens[odd])])

    def draw(self, n: int, gen: torch.Generator) -> tuple[Tensor, Tensor]:
        """Which mirror side and which picture, n of each."""
        return (torch.randint(0, 2, (n,), generator=gen),
                torch.randint(0, self.embeds.shape[1], (n,), generator=gen))


def train_classifier(frozen: Frozen, steps: int = 1500) -> nets.Classifier:
    torch.manual_seed(SEED)
    gen = torch.Generator().manual_seed(SEED)
    head = nets.Classifier(len(data.NAMES))
    classes = torch.from_numpy(frozen.pictures.classes)
    opt = Optimiser(list(head.parameters()), 5e-2, steps)
    for _ in range(steps):
        side, pick = frozen.draw(512, gen)
        opt.step(F.cross_entropy(head(frozen.embeds[side, pick]), classes[pick]))
    return head.eval()


class QuestionBank:
    """Every question that the head may be asked in training, with its text embedding."""

    def __init__(self, encoders: Encoders) -> None:
        self.wordings = {k: w[:-1] + data.MORE_QUESTIONS[k] for k, w in data.QUESTIONS.items()}
        texts = [w.format(n) for ws in self.wordings.values() for w in ws
                 for n in (data.NAMES if "{}" in w else [""])]
        self.row_of = {t: i for i, t in enumerate(texts)}
        index = {w: i for i, w in enumerate(data.vocabulary())}
        ids = torch.from_numpy(data.encode(texts, index))
        with torch.no_grad():
            self.rows = encoders.text(ids, (ids != data.PAD).long())

    def draw(self, rng: Random, cls: int, tone: int, pattern: int) -> tuple[int, str]:
        kind = rng.choice(data.kinds_for(cls))
        text, answer = data.ask(rng, rng.choice(self.wordings[kind]), kind, cls, tone, pattern)
        return self.row_of[text], answer


def train_answerer(frozen: Frozen, steps: int = 2500) -> nets.Answerer:
    torch.manual_seed(SEED)
    gen, rng = torch.Generator().manual_seed(SEED), Random(SEED)
    bank = QuestionBank(frozen.encoders)
    answer_no = {a: i for i, a in enumerate(data.ANSWERS)}
    head, p = nets.Answerer(len(data.ANSWERS)), frozen.pictures
    opt = Optimiser(list(head.parameters()), 2e-3, steps)
    for step in range(steps):
        side, pick = frozen.draw(512, gen)
        asked, answers = [], []
        for i in pick.tolist():
            row, answer = bank.draw(rng, int(p.classes[i]), int(p.tones[i]), int(p.patterns[i]))
            asked.append(row)
            answers.append(answer_no[answer])
        # A little noise on the question stands for wordings that were never seen.
        text = bank.rows[asked] + torch.randn(512, nets.WIDTH, generator=gen) * 0.02
        loss = F.cross_entropy(head(frozen.embeds[side, pick], text), torch.tensor(answers))
        opt.step(loss)
        if step % 250 == 249:
            print(f"answerer {step + 1} loss {float(loss):.3f}", flush=True)
    return head.eval()


def train_decoder(frozen: Frozen, steps: int = 1400, batch: int = 128) -> nets.Decoder:
    torch.manual_seed(SEED)
    gen = torch.Generator().manual_seed(SEED)
    vocab = data.vocabulary()
    index = {w: i for i, w in enumerate(vocab)}
    p = frozen.pictures
    table = torch.from_numpy(data.encode([data.caption(c, t, q) for c in range(10)
                                          for t in range(3) for q in range(2)], index))
    which = torch.from_numpy(p.classes * 6 + p.tones * 2 + p.patterns)
    table = table[:, :int((table != data.PAD).sum(1).max())]
    model = nets.Decoder(len(vocab), data.MAX_IDS)
    opt = Optimiser(list(model.parameters()), 2e-3, steps)
    for step in range(steps):
        side, pick = frozen.draw(batch, gen)
        ids = table[which[pick]]
        logits = model(ids[:, :-1], frozen.tokens[side, pick].float(), *nets.no_past(batch))[0]
        loss = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(),
                               ignore_index=data.PAD)
        opt.step(loss)
        if step % 100 == 99:
            print(f"decoder {step + 1} loss {float(loss):.4f}", flush=True)
    return model.eval()


def train_heads(work: Path) -> None:
    frozen = Frozen(work)
    heads = {"classifier": train_classifier(frozen), "answerer": train_answerer(frozen),
             "decoder": train_decoder(frozen)}
    torch.save({k: v.state_dict() for k, v in heads.items()}, work / "heads.pt")


STEPS = {"speech": train_speech, "joint": train_joint, "text": train_text, "heads": train_heads}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--work", type=Path, default=Path(__file__).parents[1] / "build/models")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    STEPS[args.step](args.work)


if __name__ == "__main__":
    main()

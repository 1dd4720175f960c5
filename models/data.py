"""data.py - what is known about the pictures, and every text made about them.

Reads Fashion-MNIST (Debian package dataset-fashion-mnist), works out the tone and the pattern of
each picture from its pixels, and writes prompts, captions, spoken phrases and questions.  A text
carries the set of facts it is true of, so that a batch knows which texts fit which pictures.

Not here: sound (speech.py), networks (nets.py).

Facts.  15 numbers of 0 or 1: 10 classes, 3 tones, 2 patterns.  A picture has exactly one of each
group; a text allows some of each group.  A text is true of a picture when all three are allowed.
"""
from __future__ import annotations

import gzip
import re
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np

FASHION = Path("/usr/share/datasets/fashion-mnist")
NAMES = ["t-shirt", "trousers", "pullover", "dress", "coat",
         "sandal", "shirt", "sneaker", "bag", "ankle boot"]
# A caption is read back from single words, so it uses a name without a hyphen.
CAPTION_NAMES = ["tee"] + NAMES[1:]
SYNONYMS = [["t-shirt", "tee"], ["trousers", "pants"], ["pullover", "sweater"], ["dress"],
            ["coat", "jacket"], ["sandal"], ["shirt"], ["sneaker", "trainer"],
            ["bag", "handbag"], ["ankle boot", "boot"]]
PLURAL = {"trousers", "pants"}
TONES = ["light", "grey", "dark"]
PATTERNS = ["plain", "patterned"]
KINDS = ["clothing", "footwear", "accessory"]
KIND_OF = [0, 0, 0, 0, 0, 1, 0, 1, 2, 1]
PLACES = ["upper body", "legs", "whole body", "feet", "hand"]
PLACE_OF = [0, 1, 0, 2, 0, 3, 0, 3, 4, 3]
SLEEVES = ["short", "long", "none"]
SLEEVE_OF = [0, 2, 1, None, 1, 2, 1, 2, 2, 2]  # nothing in the data says how a dress's sleeves are
ANSWERS = NAMES + TONES + PATTERNS + SLEEVES + ["yes", "no"] + PLACES + KINDS
TEMPLATE = "a photo of a {}."

PAD, UNK, BOS, EOS = 0, 1, 2, 3
SPECIALS = ["[PAD]", "[UNK]", "[BOS]", "[EOS]"]
MAX_IDS = 16
N_FACTS = 15


@dataclass
class Pictures:
    """Pictures of one official part: pixels [n,28,28] uint8 and the three facts of each, int64."""
    pixels: np.ndarray
    classes: np.ndarray
    tones: np.ndarray
    patterns: np.ndarray

    def facts(self) -> np.ndarray:
        """[n,15] float32, three ones a row."""
        out = np.zeros((len(self.pixels), N_FACTS), np.float32)
        rows = np.arange(len(out))
        out[rows, self.classes] = 1
        out[rows, 10 + self.tones] = 1
        out[rows, 13 + self.patterns] = 1
        return out


def read_idx(path: Path) -> np.ndarray:
    """An IDX file of unsigned bytes: magic 0,0,8,rank; big-endian sizes; the bytes."""
    raw = gzip.decompress(path.read_bytes())
    rank = raw[3]
    dims = np.frombuffer(raw, ">u4", rank, 4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(dims).copy()


def measure(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean brightness of the garment's pixels, and mean step between neighbours inside it."""
    x = pixels.astype(np.float32)
    on = x > 20
    count = np.maximum(on.sum((1, 2)), 1)
    tone = (x * on).sum((1, 2)) / count
    core = on[:, 1:-1, 1:-1] & on[:, :-2, 1:-1] & on[:, 2:, 1:-1]
    core &= on[:, 1:-1, :-2] & on[:, 1:-1, 2:]
    down = np.abs(x[:, 2:, 1:-1] - x[:, 1:-1, 1:-1])
    right = np.abs(x[:, 1:-1, 2:] - x[:, 1:-1, 1:-1])
    step = ((down + right) * core).sum((1, 2)) / np.maximum(core.sum((1, 2)), 1)
    return tone, step


def load() -> tuple[Pictures, Pictures]:
    """The official 60 000 and 10 000; thresholds of tone and pattern come from the 60 000 only."""
    parts = []
    for part in ("train", "t10k"):
        pixels = read_idx(FASHION / f"{part}-images-idx3-ubyte.gz")
        classes = read_idx(FASHION / f"{part}-labels-idx1-ubyte.gz").astype(np.int64)
        parts.append((pixels, classes, *measure(pixels)))
    dark, light = np.quantile(parts[0][2], [1 / 3, 2 / 3])
    busy = np.quantile(parts[0][3], 0.6)
    out = []
    for pixels, classes, tone, step in parts:
        tones = np.where(tone > light, 0, np.where(tone > dark, 1, 2)).astype(np.int64)
        out.append(Pictures(pixels, classes, tones, (step > busy).astype(np.int64)))
    return out[0], out[1]


def allow(classes: list[int], tone: int | None = None, pattern: int | None = None) -> np.ndarray:
    """The facts of a text; None = any."""
    out = np.zeros(N_FACTS, np.float32)
    out[classes] = 1
    out[[10, 11, 12] if tone is None else [10 + tone]] = 1
    out[[13, 14] if pattern is None else [13 + pattern]] = 1
    return out


def noun(tone: int | None, pattern: int | None, name: str) -> str:
    words = [] if tone is None else [TONES[tone]]
    words += [] if pattern is None else [PATTERNS[pattern]]
    return " ".join(words + [name])


def article(text: str, plural: bool) -> str:
    if plural:
        return "a pair of " + text
    return ("an " if text[0] in "aeiou" else "a ") + text


def caption(cls: int, tone: int, pattern: int) -> str:
    """The full caption: 60 different ones."""
    name = CAPTION_NAMES[cls]
    return "a photo of " + article(noun(tone, pattern, name), name in PLURAL)


GROUPS = [
    (["clothing", "a piece of clothing", "something to wear on the body"],
     [c for c in range(10) if KIND_OF[c] == 0]),
    (["footwear", "a shoe", "something to wear on the feet"],
     [c for c in range(10) if KIND_OF[c] == 1]),
    (["accessory", "something to carry in the hand"], [8]),
    (["a garment for the upper body", "a garment for the upper body"], [0, 2, 4, 6]),
    (["a garment with long sleeves", "something with long sleeves"], [2, 4, 6]),
]


def prompt(rng: Random, cls: int, tone: int, pattern: int) -> tuple[str, np.ndarray]:
    """A text that is true of a picture with these facts, and all facts that it is true of."""
    roll = rng.random()
    if roll < 0.1:
        texts, classes = rng.choice([g for g in GROUPS if cls in g[1]])
        return frame(rng, rng.choice(texts), plain=True), allow(classes)
    said_tone = tone if rng.random() < 0.55 else None
    said_pattern = pattern if rng.random() < 0.5 else None
    if roll < 0.2 and (said_tone is not None or said_pattern is not None):
        text = noun(said_tone, said_pattern, rng.choice(["thing", "garment", "item"]))
        return frame(rng, text), allow(list(range(10)), said_tone, said_pattern)
    name = NAMES[cls] if rng.random() < 0.6 else rng.choice(SYNONYMS[cls])
    text = noun(said_tone, said_pattern, name)
    facts = allow([cls], said_tone, said_pattern)
    if name in PLURAL and rng.random() < 0.6:
        return frame(rng, "pair of " + text), facts
    return frame(rng, text), facts


def frame(rng: Random, text: str, plain: bool = False) -> str:
    """One of the sentences that people and programs put around a name."""
    if plain or rng.random() < 0.25:
        return rng.choice(["{}", "a photo of {}", "a photo of {}."]).format(text)
    form = rng.choice(["a photo of a {}.", "a photo of a {}", "a picture of a {}", "this is a {}.",
                       "a {}", "an image of a {}.", "{} on a black background"])
    return form.format(text)


def phrase(cls: int, tone: int | None, pattern: int | None) -> str:
    """What a voice says; at most five short words so that it fits into two seconds."""
    return noun(tone, pattern, NAMES[cls])


# Questions: kind -> wordings.  The last wording of each kind is never shown to the VQA head.
QUESTIONS: dict[str, list[str]] = {
    "name": ["what is it?", "what is this?", "what is in the photo?", "which garment is shown?",
             "what does the picture show?"],
    "tone": ["what tone is it?", "is it light, grey or dark?", "how dark is it?",
             "what shade is this garment?", "which tone does it have?"],
    "pattern": ["is it plain or patterned?", "does it have a pattern or is it plain?",
                "is the garment plain or patterned?", "what is the pattern?",
                "plain or patterned?"],
    "sleeves": ["how long are the sleeves?", "what sleeves does it have?",
                "are the sleeves short or long?", "which sleeves does this garment have?",
                "what length are the sleeves?"],
    "shoe": ["is it footwear?", "is this a shoe?", "is it worn on the feet?",
             "does the photo show footwear?", "is this footwear?"],
    "place": ["where is it worn?", "on which part of the body is it worn?",
              "which part of the body is it for?", "where do people wear it?",
              "where is this worn?"],
    "is": ["is it a {}?", "is this a {}?", "does the photo show a {}?", "is there a {}?",
           "does the picture show a {}?"],
    "kind": ["what kind of thing is it?", "is it clothing, footwear or an accessory?",
             "what kind of item is this?", "which kind is it?", "which kind of thing is this?"],
}


# More wordings, for the steps after the joint training of the encoders; no new words.
MORE_QUESTIONS: dict[str, list[str]] = {
    "name": ["what thing is this?", "which item is it?", "what is shown?",
             "what is shown in the picture?", "what does the photo show?", "what garment is this?",
             "which thing is in the picture?", "what is the garment?", "what item is shown?",
             "what is there in the picture?", "what is it"],
    "tone": ["what is the tone?", "which shade is it?", "is this light, grey or dark?",
             "what shade does it have?", "what tone does this garment have?",
             "is the garment light or dark?", "what is the shade?", "which tone is this?",
             "how light is it?", "light, grey or dark?", "how dark is this garment?"],
    "pattern": ["is this plain or patterned?", "is the item plain or patterned?",
                "which pattern does it have?", "what pattern is it?", "is it patterned or plain?",
                "patterned or plain?", "what pattern does this garment have?",
                "is there a pattern or is it plain?", "does the garment have a pattern?",
                "is it plain or is there a pattern?"],
    "sleeves": ["how long are the sleeves of this?", "are there long or short sleeves?",
                "does it have short or long sleeves?", "what sleeves are there?",
                "which sleeves are shown?", "short or long sleeves?",
                "how short are the sleeves?", "what is the length of the sleeves?"],
    "shoe": ["is this thing footwear?", "is it a shoe?", "does the picture show a shoe?",
             "is there footwear in the photo?", "is this worn on the feet?",
             "is there a shoe in the picture?", "is this item footwear?",
             "do people wear it on the feet?"],
    "place": ["on what part of the body is this worn?", "where do people wear this?",
              "what part of the body is this for?", "where is the garment worn?",
              "which part of the body is it worn on?", "where on the body is it worn?",
              "on which part of the body do people wear it?", "where is this item worn?"],
    "is": ["is the thing a {}?", "is the garment a {}?", "does it show a {}?", "a {}?",
           "is there a {} in the picture?", "is the item in the photo a {}?",
           "is this thing a {}?", "is a {} shown?"],
    "kind": ["what kind is it?", "what kind of thing is shown?", "which kind of item is it?",
             "is this clothing, footwear or an accessory?", "clothing, footwear or accessory?",
             "what kind of item is shown in the photo?", "of which kind is it?",
             "is the item clothing, footwear or an accessory?"],
}


def any_question(rng: Random) -> tuple[str, str]:
    """A question in any wording, and what it asks: equal for two wordings of one question."""
    kind = rng.choice(list(QUESTIONS))
    text = rng.choice(QUESTIONS[kind] + MORE_QUESTIONS[kind])
    if kind != "is":
        return text, kind
    name = rng.choice(NAMES)
    return text.format(name), f"is {name}"


def question(rng: Random, kind: str, cls: int, tone: int, pattern: int, unseen: bool = False
             ) -> tuple[str, str]:
    """(question, answer); kind "sleeves" must not be asked of a dress."""
    text = QUESTIONS[kind][-1] if unseen else rng.choice(QUESTIONS[kind][:-1])
    return ask(rng, text, kind, cls, tone, pattern)


def ask(rng: Random, text: str, kind: str, cls: int, tone: int, pattern: int) -> tuple[str, str]:
    """The wording `text` asked of a picture with these facts."""
    if kind == "is":
        asked = cls if rng.random() < 0.5 else rng.randrange(10)
        return text.format(NAMES[asked]), "yes" if asked == cls else "no"
    answer = {"name": NAMES[cls], "tone": TONES[tone], "pattern": PATTERNS[pattern],
              "shoe": "yes" if KIND_OF[cls] == 1 else "no", "place": PLACES[PLACE_OF[cls]],
              "kind": KINDS[KIND_OF[cls]],
              "sleeves": SLEEVES[SLEEVE_OF[cls] or 0]}[kind]
    return text, answer


def kinds_for(cls: int) -> list[str]:
    return [k for k in QUESTIONS if k != "sleeves" or SLEEVE_OF[cls] is not None]


def words(text: str) -> list[str]:
    """The same pieces as the tokenizer's Lowercase and Whitespace steps."""
    return re.findall(r"\w+|[^\w\s]+", text.lower())


def vocabulary() -> list[str]:
    """All words of every text that can be made, after the special ones, in sorted order."""
    found: set[str] = set()
    texts = ["a photo of a pair of thing garment item on a black background. an image of a picture",
             "this is a", "top shoe"]
    texts += [t for g in GROUPS for t in g[0]] + TONES + PATTERNS + ANSWERS
    texts += [n for names in SYNONYMS for n in names]
    texts += [q for qs in [*QUESTIONS.values(), *MORE_QUESTIONS.values()] for q in qs]
    for text in texts:
        found.update(words(text.replace("{}", " ")))
    return SPECIALS + sorted(found)


def encode(texts: list[str], index: dict[str, int], length: int = MAX_IDS) -> np.ndarray:
    """[n,length] int64: BOS, words, EOS, PAD; cut as the tokenizer does."""
    out = np.full((len(texts), length), PAD, np.int64)
    for row, text in enumerate(texts):
        ids = [BOS] + [index.get(w, UNK) for w in words(text)][:length - 2] + [EOS]
        out[row, :len(ids)] = ids
    return out

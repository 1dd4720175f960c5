"""nets.py - the six networks, in the form in which they are exported.

Embeddings have WIDTH numbers and length 1.  Attention is written by hand (heads by split and
stack, so that no shape arithmetic gets into the graph).  Every network takes and gives tensors
whose first axis is the batch.

Not here: losses and optimisers (train.py), files (export.py).
"""
from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speech import mel_matrices

WIDTH = 128
HEADS = 4
HEAD_DIM = WIDTH // HEADS
TOKENS = 16          # 4 x 4 places of the picture
LAYERS = 2           # of the decoder
MEL = 40
NEVER = -1e4         # added to scores that must not count


def heads(x: Tensor) -> Tensor:
    """[b,s,WIDTH] -> [b,HEADS,s,HEAD_DIM]"""
    return torch.stack(x.split(HEAD_DIM, -1), 1)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Heads in, [b,s,WIDTH] out; the mask is added to the scores."""
    scores = torch.matmul(q, k.transpose(-1, -2)) * (1 / math.sqrt(HEAD_DIM))
    if mask is not None:
        scores = scores + mask
    out = torch.matmul(scores.softmax(-1), v)
    return torch.cat(out.unbind(1), -1)


def unit(x: Tensor) -> Tensor:
    return x / (x.pow(2).sum(-1, keepdim=True) + 1e-12).sqrt()


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.up = nn.Linear(WIDTH, 2 * WIDTH)
        self.down = nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).split(WIDTH, -1)
        x = x + self.out(attend(heads(q), heads(k), heads(v), mask))
        return x + self.down(F.relu(self.up(self.norm2(x))))


class VisionEncoder(nn.Module):
    """pixel_values [b,3,28,28] -> image_embeds [b,WIDTH], last_hidden_state [b,TOKENS,WIDTH]"""

    def __init__(self) -> None:
        super().__init__()
        plan = [(3, 32, 1), (32, 64, 2), (64, 64, 1), (64, 128, 2), (128, WIDTH, 2)]
        layers: list[nn.Module] = []
        for come, go, stride in plan:
            layers += [nn.Conv2d(come, go, 3, stride, 1, bias=False), nn.BatchNorm2d(go),
                       nn.ReLU()]
        self.convs = nn.Sequential(*layers)
        self.place = nn.Parameter(torch.randn(1, TOKENS, WIDTH) * 0.02)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.norm = nn.LayerNorm(WIDTH)
        self.project = nn.Linear(WIDTH, WIDTH)

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        x = self.convs(pixel_values).reshape(-1, WIDTH, TOKENS)
        x = x.transpose(1, 2).contiguous() + self.place
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return unit(self.project(x.mean(1))), x


class TextEncoder(nn.Module):
    """input_ids, attention_mask [b,s] int64 -> text_embeds [b,WIDTH]; s at most 16"""

    def __init__(self, n_words: int, length: int) -> None:
        super().__init__()
        self.words = nn.Embedding(n_words, WIDTH)
        self.place = nn.Embedding(length, WIDTH)
        nn.init.normal_(self.words.weight, std=0.3)
        nn.init.normal_(self.place.weight, std=0.1)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.norm = nn.LayerNorm(WIDTH)
        self.project = nn.Linear(WIDTH, WIDTH)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        at = torch.arange(input_ids.shape[1], device=input_ids.device)
        x = self.words(input_ids) + self.place(at)
        keep = attention_mask.to(x.dtype)
        mask = (1 - keep)[:, None, None, :] * NEVER
        for block in self.blocks:
            x = block(x, mask)
        x = self.norm(x) * keep[:, :, None]
        return unit(self.project(x.sum(1) / keep.sum(1, keepdim=True).clamp(min=1)))


class LogMel(nn.Module):
    """PCM [b,n] of 16 kHz -> log-mel [b,MEL,frames]; windows of 400, steps of 160."""

    def __init__(self) -> None:
        super().__init__()
        dft, mel = mel_matrices(MEL)
        self.register_buffer("dft", torch.from_numpy(dft)[:, None])
        self.register_buffer("mel", torch.from_numpy(mel)[:, :, None])

    def forward(self, pcm: Tensor) -> Tensor:
        real, imag = F.conv1d(pcm[:, None], self.dft, stride=160).split(201, 1)
        power = F.conv1d(real * real + imag * imag, self.mel)
        return (power + 1e-4).log() * 0.25


class AudioEncoder(nn.Module):
    """input_values [b,samples] -> audio_embeds [b,WIDTH].  Training starts from the log-mel."""

    def __init__(self) -> None:
        super().__init__()
        self.logmel = LogMel()
        self.convs = nn.Sequential(
            nn.Conv1d(MEL, 96, 5, 2, 2, bias=False), nn.BatchNorm1d(96), nn.ReLU(),
            nn.Conv1d(96, WIDTH, 5, 2, 2, bias=False), nn.BatchNorm1d(WIDTH), nn.ReLU(),
            nn.Conv1d(WIDTH, WIDTH, 5, 2, 2, bias=False), nn.BatchNorm1d(WIDTH), nn.ReLU())
        # Order in time: neighbours within about half a second are mixed before attention.
        self.near = nn.Conv1d(WIDTH, WIDTH, 7, 1, 3, groups=WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.norm = nn.LayerNorm(WIDTH)
        self.score = nn.Linear(WIDTH, 1)
        self.project = nn.Linear(WIDTH, WIDTH)

    def from_mel(self, mel: Tensor) -> Tensor:
        x = self.convs(mel)
        x = (x + self.near(x)).transpose(1, 2).contiguous()
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return unit(self.project((x * self.score(x).softmax(1)).sum(1)))

    def forward(self, input_values: Tensor) -> Tensor:
        return self.from_mel(self.logmel(input_values))


class Classifier(nn.Module):
    """image_embeds [b,WIDTH] -> logits [b,classes]"""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, classes)

    def forward(self, image_embeds: Tensor) -> Tensor:
        return self.linear(image_embeds)


class Answerer(nn.Module):
    """image_embeds, text_embeds [b,WIDTH] -> logits [b,answers]"""

    def __init__(self, answers: int, hidden: int = 256) -> None:
        super().__init__()
        self.image = nn.Linear(WIDTH, hidden)
        self.text = nn.Linear(WIDTH, hidden)
        self.mix = nn.Linear(3 * hidden, hidden)
        self.answer = nn.Linear(hidden, answers)

    def forward(self, image_embeds: Tensor, text_embeds: Tensor) -> Tensor:
        a = F.relu(self.image(image_embeds))
        b = F.relu(self.text(text_embeds))
        return self.answer(F.relu(self.mix(torch.cat([a, b, a * b], -1))))


class DecoderLayer(nn.Module):
    """Causal attention over the words so far, then attention over the picture's tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out1 = nn.Linear(WIDTH, WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.q = nn.Linear(WIDTH, WIDTH)
        self.kv = nn.Linear(WIDTH, 2 * WIDTH)
        self.out2 = nn.Linear(WIDTH, WIDTH)
        self.norm3 = nn.LayerNorm(WIDTH)
        self.up = nn.Linear(WIDTH, 2 * WIDTH)
        self.down = nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: Tensor, seen: Tensor, past_k: Tensor, past_v: Tensor, mask: Tensor
                ) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.qkv(self.norm1(x)).split(WIDTH, -1)
        k = torch.cat([past_k, heads(k)], 2)
        v = torch.cat([past_v, heads(v)], 2)
        x = x + self.out1(attend(heads(q), k, v, mask))
        ck, cv = self.kv(seen).split(WIDTH, -1)
        x = x + self.out2(attend(heads(self.q(self.norm2(x))), heads(ck), heads(cv), None))
        return x + self.down(F.relu(self.up(self.norm3(x)))), k, v


class Decoder(nn.Module):
    """input_ids [b,s], encoder_hidden_states [b,TOKENS,WIDTH], past key and value of each layer
    [b,HEADS,P,HEAD_DIM] with P = 0 allowed -> logits [b,s,words] and the grown keys and values."""

    def __init__(self, n_words: int, length: int) -> None:
        super().__init__()
        self.words = nn.Embedding(n_words, WIDTH)
        self.place = nn.Embedding(length, WIDTH)
        nn.init.normal_(self.words.weight, std=0.3)
        nn.init.normal_(self.place.weight, std=0.1)
        self.layers = nn.ModuleList(DecoderLayer() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)
        self.predict = nn.Linear(WIDTH, n_words)

    def forward(self, input_ids: Tensor, encoder_hidden_states: Tensor, *past: Tensor
                ) -> tuple[Tensor, ...]:
        before, now = past[0].shape[2], input_ids.shape[1]
        at = torch.arange(before + now, device=input_ids.device)
        mine = at[before:]
        mask = (at[None, :] > mine[:, None]).to(torch.float32) * NEVER
        x = self.words(input_ids) + self.place(mine)
        present: list[Tensor] = []
        for i, layer in enumerate(self.layers):
            x, k, v = layer(x, encoder_hidden_states, past[2 * i], past[2 * i + 1], mask)
            present += [k, v]
        return (self.predict(self.norm(x)), *present)


def no_past(batch: int) -> list[Tensor]:
    return [torch.zeros(batch, HEADS, 0, HEAD_DIM) for _ in range(2 * LAYERS)]

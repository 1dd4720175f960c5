"""Golden data of src/media/{audio,mel,processor_audio}*: see README.md.
Writes in/*.{wav,flac,ogg,mp3}, out/*.f32 and audio.json."""
import json
import os

import numpy as np
import soundfile
from transformers import ASTFeatureExtractor, Wav2Vec2FeatureExtractor, WhisperFeatureExtractor
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

HERE = os.path.dirname(os.path.abspath(__file__))
RATE = 16000


def sound(count, seed):
    """Two tones that fade, a click, noise: 16-bit values, as float32."""
    rng = np.random.default_rng(seed)
    t = np.arange(count) / RATE
    x = .4 * np.sin(2 * np.pi * 440 * t) * np.exp(-3 * t) + .2 * np.sin(2 * np.pi * 2500 * t * (1 + t))
    x += rng.normal(0, .003, count)
    x[count // 3] += .5
    return (np.round(np.clip(x, -1, .9999) * 32767) / 32768).astype(np.float32)


def write(name, data, rate, **options):
    soundfile.write(os.path.join(HERE, "in", name), data, rate, **options)


def stored(name, array):
    """Saves as float32 and returns its row."""
    array = np.asarray(array, dtype=np.float32)
    array.tofile(os.path.join(HERE, "out", name))
    return {"out": name, "shape": list(array.shape)}


def ast(settings, samples):
    """ASTFeatureExtractor needs torch only to pad, so its steps are made from its own parts here."""
    e = ASTFeatureExtractor(**settings)
    filters = mel_filter_bank(257, e.num_mel_bins, 20, e.sampling_rate // 2, e.sampling_rate, norm=None,
                              mel_scale="kaldi", triangularize_in_mel_space=True)
    bands = spectrogram(samples, window_function(400, "hann", periodic=False), 400, 160, fft_length=512,
                        power=2.0, center=False, preemphasis=0.97, mel_filters=filters, log_mel="log",
                        mel_floor=1.192092955078125e-07, remove_dc_offset=True).T[:e.max_length]
    bands = np.pad(bands, ((0, e.max_length - len(bands)), (0, 0)))
    return e.normalize(bands)[None] if e.do_normalize else bands[None]


def cases(samples):
    raw = Wav2Vec2FeatureExtractor
    for settings, call in (
            ({"do_normalize": False}, {"padding": "max_length", "max_length": 5000, "truncation": True}),
            ({"do_normalize": False}, {"padding": "max_length", "max_length": 3000, "truncation": True}),
            ({}, {}),
            ({}, {"padding": "max_length", "max_length": 5000, "truncation": True}),
            ({"return_attention_mask": True, "padding_value": 0.25},
             {"padding": "max_length", "max_length": 5000, "truncation": True}),
            ({"return_attention_mask": True}, {"max_length": 4100, "truncation": True})):
        got = raw(**settings)(samples, sampling_rate=RATE, return_tensors="np", **call)
        config = dict(settings, **call, feature_extractor_type="Wav2Vec2FeatureExtractor")
        yield config, "input_values", got["input_values"], got.get("attention_mask")
    for settings in ({"chunk_length": 1},
                     {"chunk_length": 1, "feature_size": 40, "n_fft": 512, "hop_length": 300,
                      "return_attention_mask": True},
                     {"chunk_length": 1, "feature_size": 20, "n_fft": 390, "hop_length": 370}):
        e = WhisperFeatureExtractor(**settings)
        got = e(samples, sampling_rate=RATE, return_tensors="np",
                return_attention_mask=settings.get("return_attention_mask", False))
        config = dict(settings, feature_extractor_type="WhisperFeatureExtractor")
        yield config, "input_features", got["input_features"], got.get("attention_mask")
    for settings in ({"max_length": 30, "num_mel_bins": 64}, {"max_length": 9, "do_normalize": False}):
        config = dict(settings, feature_extractor_type="ASTFeatureExtractor")
        yield config, "input_values", ast(settings, samples), None


def main():
    for folder in ("in", "out"):
        os.makedirs(os.path.join(HERE, folder), exist_ok=True)
    samples = sound(4096, 1)
    stereo = np.stack([samples, np.roll(samples, 7) * np.float32(.5)], axis=1)
    write("sound.wav", samples, RATE, subtype="PCM_16")
    write("sound24.wav", samples[:1000], RATE, subtype="PCM_24")
    write("float.wav", stereo[:1000], RATE, subtype="FLOAT")
    write("stereo.wav", stereo[:1500], RATE, subtype="PCM_16")
    write("sound.flac", samples, RATE, subtype="PCM_16")
    write("sound.ogg", samples, RATE, format="OGG", subtype="VORBIS")
    write("sound.mp3", samples, RATE, format="MP3", subtype="MPEG_LAYER_III")
    pcm = (np.round(stereo * 32768) / 32768).astype(np.float32)
    stored("sound.f32", samples)
    decode = [{"file": "sound.wav", "out": "sound.f32", "count": 4096, "bound": 0},
              {"file": "sound24.wav", "out": "sound.f32", "count": 1000, "bound": 0},
              {"file": "sound.flac", "out": "sound.f32", "count": 4096, "bound": 0},
              {"file": "sound.ogg", "out": "sound.f32", "count": 4096, "bound": 0.08},
              dict(stored("float.f32", stereo[:1000].mean(axis=1)), file="float.wav", count=1000, bound=0),
              dict(stored("stereo.f32", pcm[:1500].mean(axis=1)), file="stereo.wav", count=1500,
                   bound=2e-5)]
    rows = []
    for i, (config, name, values, mask) in enumerate(cases(samples)):
        row = dict(stored(f"case{i}.f32", values), file="sound.wav", config=config, name=name)
        if mask is not None:
            row["mask_shape"], row["mask_sum"] = list(mask.shape), int(mask.sum())
        rows.append(row)
    with open(os.path.join(HERE, "audio.json"), "w", encoding="utf-8") as f:
        for key, part in (("{\n\"decode\"", decode), (",\n\"processor\"", rows)):
            f.write(key + ": [\n" + ",\n".join(json.dumps(r) for r in part) + "\n]")
        f.write("\n}\n")


if __name__ == "__main__":
    main()

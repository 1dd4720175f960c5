"""Golden data of src/media/image*: see README.md.  Writes in/*.{jpg,png,webp} and image.json."""
import hashlib
import io
import json
import os
import struct
import zlib

import numpy as np
from PIL import Image
from transformers import (BlipImageProcessor, CLIPImageProcessor, ConvNextImageProcessor,
                          DeiTImageProcessor, SiglipImageProcessor, ViTImageProcessor)

HERE = os.path.dirname(os.path.abspath(__file__))
PROCESSORS = {c.__name__: c for c in (BlipImageProcessor, CLIPImageProcessor, ConvNextImageProcessor,
                                      DeiTImageProcessor, SiglipImageProcessor, ViTImageProcessor)}
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def picture(width, height, channels, seed):
    """Waves with noise: smooth and rough places, and values at both ends."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    planes = [127 + 150 * np.sin(x / (3.0 + c) + seed) * np.cos(y / (5.0 - c % 3)) +
              rng.normal(0, 25, (height, width)) for c in range(channels)]
    return np.clip(np.stack(planes, axis=2), 0, 255).astype(np.uint8)


def png(width, height, depth, colour, rows, interlaced=False):
    """A PNG of rows(x0, y0, dx, dy) -> list of packed rows; Pillow writes no such kinds."""
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    data = b"".join(b"\0" + row for p in passes if p[0] < width and p[1] < height for row in rows(*p))
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(data, 9)) +
            chunk(b"IEND", b""))


def png_of(array, depth, colour, interlaced=False):
    """array: (height, width, channels) of samples below 2**depth."""
    height, width, _ = array.shape

    def rows(x0, y0, dx, dy):
        for line in array[y0::dy, x0::dx]:
            if depth == 16:
                yield line.astype(">u2").tobytes()
            else:
                bits = "".join(format(int(v), f"0{depth}b") for v in line.ravel())
                bits += "0" * (-len(bits) % 8)
                yield bytes(int(bits[i:i + 8], 2) for i in range(0, len(bits), 8))
    return png(width, height, depth, colour, rows, interlaced)


def saved(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def inputs():
    rgb = Image.fromarray(picture(61, 47, 3, 1))
    wide = Image.fromarray(picture(150, 40, 3, 2))
    rgba = Image.fromarray(picture(33, 29, 4, 3), "RGBA")
    grey = Image.fromarray(picture(40, 31, 1, 4)[:, :, 0])
    deep = picture(19, 23, 4, 5).astype(np.uint16) * 257
    deep[::3] = deep[::3] // 251 + 7
    exif = Image.Exif()
    exif[0x0112] = 6
    palette = wide.quantize(37)
    yield "rgb.jpg", saved(rgb, "JPEG", quality=88)
    yield "wide444.jpg", saved(wide, "JPEG", quality=92, subsampling=0, progressive=True)
    yield "h2v1.jpg", saved(rgb, "JPEG", quality=70, subsampling=1)
    yield "grey.jpg", saved(grey, "JPEG", quality=85)
    yield "cmyk.jpg", saved(Image.fromarray(picture(27, 21, 4, 6), "CMYK"), "JPEG", quality=90)
    yield "turned.jpg", saved(grey, "JPEG", exif=exif)
    yield "rgb.png", saved(rgb, "PNG")
    yield "wide.png", saved(wide, "PNG")
    yield "rgba.png", saved(rgba, "PNG")
    yield "la.png", saved(rgba.convert("LA"), "PNG")
    yield "grey.png", saved(grey, "PNG")
    yield "bits1.png", saved(grey.convert("1"), "PNG")
    yield "palette.png", saved(palette, "PNG")
    yield "palette4.png", saved(wide.quantize(11), "PNG", transparency=3)
    yield "grey2.png", png_of(picture(21, 13, 1, 7) >> 6, 2, 0)
    yield "grey4.png", png_of(picture(21, 13, 1, 8) >> 4, 4, 0)
    yield "grey16.png", png_of(deep[:, :, :1], 16, 0)
    yield "la16.png", png_of(deep[:, :, :2], 16, 4)
    yield "rgb16.png", png_of(deep[:, :, :3], 16, 2)
    yield "rgba16.png", png_of(deep, 16, 6)
    yield "adam7.png", png_of(picture(30, 19, 3, 9), 8, 2, interlaced=True)
    yield "lossy.webp", saved(rgb, "WEBP", quality=80)
    yield "lossless.webp", saved(wide, "WEBP", lossless=True)
    yield "alpha.webp", saved(rgba, "WEBP", lossless=True, exact=True)
    yield "alphalossy.webp", saved(rgba, "WEBP", quality=75)


def digest(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def case(image, **more):
    return dict(more, width=image.width, height=image.height, sha256=digest(np.array(image)))


def resizes(read):
    for name in ("rgb.png", "wide.png"):
        for size in ((32, 32), (28, 61), (61, 20), (224, 96), (7, 5), (1, 1), (200, 47)):
            for resample in range(6):
                image = read(name).resize(size, resample)
                yield case(image, file=name, filter=resample)
    big = Image.fromarray(np.tile(picture(61, 47, 3, 1), (7, 9, 1)))  # 549 x 329
    for resample in range(6):
        yield case(big.resize((50, 43), resample), file="rgb.png", filter=resample, tile=[9, 7])


def configs():
    square = {"height": 20, "width": 24}
    yield "ViTImageProcessor", {"size": {"height": 28, "width": 28}, "image_mean": [.5, .5, .5],
                                "image_std": [.5, .5, .5]}
    yield "ViTImageProcessor", {"size": square, "do_rescale": False}
    yield "ViTImageProcessor", {"size": square, "do_rescale": False, "do_normalize": False, "resample": 3}
    yield "ViTImageProcessor", {"size": square, "do_normalize": False, "resample": 0}
    yield "ViTImageProcessor", {"size": 32, "rescale_factor": 0.0078125, "resample": 1}
    yield "CLIPImageProcessor", {"size": {"shortest_edge": 30}, "crop_size": {"height": 30, "width": 30}}
    yield "CLIPImageProcessor", {"size": 30, "crop_size": 24}
    yield "CLIPImageProcessor", {"size": square, "crop_size": {"height": 33, "width": 11}}
    yield "CLIPImageProcessor", {"do_resize": False, "crop_size": {"height": 64, "width": 50}}
    yield "CLIPImageProcessor", {"size": {"shortest_edge": 33}, "do_center_crop": False}
    yield "SiglipImageProcessor", {"size": square}
    yield "BlipImageProcessor", {"size": square}
    yield "DeiTImageProcessor", {"size": {"height": 40, "width": 40}, "crop_size": {"height": 32, "width": 32}}
    yield "ConvNextImageProcessor", {"size": {"shortest_edge": 28}}
    yield "ConvNextImageProcessor", {"size": {"shortest_edge": 384}, "crop_pct": 0.9}
    yield "CLIPImageProcessor", {}


def processed(read):
    for kind, settings in configs():
        for name in ("rgb.jpg", "wide.png"):
            values = PROCESSORS[kind](**settings)(read(name), return_tensors="np")["pixel_values"]
            yield {"file": name, "config": dict(settings, image_processor_type=kind),
                   "dtype": str(values.dtype), "shape": list(values.shape), "sha256": digest(values),
                   "first": [float(v) for v in values.ravel()[:4]]}


def main():
    os.makedirs(os.path.join(HERE, "in"), exist_ok=True)
    names = []
    for name, data in inputs():
        names.append(name)
        with open(os.path.join(HERE, "in", name), "wb") as f:
            f.write(data)

    def read(name):
        return Image.open(os.path.join(HERE, "in", name)).convert("RGB")
    golden = {"decode": [case(read(n), file=n) for n in names], "resize": list(resizes(read)),
              "processor": list(processed(read))}
    with open(os.path.join(HERE, "image.json"), "w", encoding="utf-8") as f:
        f.write("{\n")
        for i, (key, rows) in enumerate(golden.items()):
            f.write(f'"{key}": [\n' + ",\n".join(json.dumps(r) for r in rows))
            f.write("\n]" + (",\n" if i + 1 < len(golden) else "\n}\n"))


if __name__ == "__main__":
    main()

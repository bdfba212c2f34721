"""Room ``cli``: the dataset of the demo: generated, small, the same every time."""

from __future__ import annotations

from pathlib import Path
from random import Random

IMAGES = 300
WEIGHTS_BYTES = 64 * 1024 * 1024


def write_dataset(root: Path) -> None:
    """Images and labels in folders by class, an index of them, and one large binary."""
    random = Random(20240229)  # noqa: S311 - the same data every time, not a secret
    rows = ["image,label,split"]
    for number in range(IMAGES):
        label = ("cat", "dog", "owl")[number % 3]
        name = f"{label}/{number:04}"
        image = root / "images" / f"{name}.jpg"
        text = root / "labels" / f"{name}.txt"
        for file in (image, text):
            file.parent.mkdir(parents=True, exist_ok=True)
        image.write_bytes(b"\xff\xd8\xff\xe0" + random.randbytes(random.randint(2_000, 6_000)))
        text.write_text(f"{label} {random.random():.4f} {random.random():.4f}\n")
        rows.append(f"images/{name}.jpg,{label},{'val' if number % 10 == 0 else 'train'}")
    (root / "index.csv").write_text("\n".join(rows) + "\n")
    with (root / "weights.bin").open("wb") as weights:
        for _ in range(WEIGHTS_BYTES // 2**20):
            weights.write(random.randbytes(2**20))

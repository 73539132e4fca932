"""Train a small model of pictures, give it the top halves of new ones, and let it complete the bottoms.

    python examples/complete_image.py                        # drawn discs and bars: about a minute on a laptop
    python examples/complete_image.py --folder PHOTOGRAPHS   # your own pictures, made small and grey

A picture is a sequence of bytes, row by row, and the two axes of its positions are those of the picture. Writes
completed.png: in each row the original, what the model was given, and what it made of it. Needs 'reformer-torch[train]'
(Pillow comes with matplotlib).
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from reformer.generation import SamplingConfig, generate
from reformer.models import ReformerConfig, ReformerLM


def draw(n: int, side: int, seed: int) -> np.ndarray:
    """``n`` pictures [n, side, side] (uint8): one bright disc on a ground that is darker at one end."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    pictures = np.empty((n, side, side), np.uint8)
    for picture in pictures:
        centre = random.uniform(side / 3, 2 * side / 3, 2)
        is_disc = np.hypot(y - centre[0], x - centre[1]) < random.uniform(side / 6, side / 3)
        picture[:] = np.where(is_disc, 224, 32 + 64 * (x * 2 // side) * random.integers(0, 2))
    return pictures


def load(folder: Path, side: int) -> np.ndarray:
    """The pictures below ``folder`` [n, side, side], grey, in 16 levels: a small model cannot learn all 256."""
    files = sorted(
        p for p in folder.rglob("*") if p.suffix.lower() in (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp")
    )
    if len(files) < 8:
        raise SystemExit(f"error: {folder} holds {len(files)} pictures, expected at least 8, better a thousand")
    grey = [np.asarray(Image.open(file).convert("L").resize((side, side))) for file in files]
    return np.stack(grey) // 16 * 16


def train(model: ReformerLM, pictures: torch.Tensor, steps: int, batch_size: int) -> None:
    """Next-byte prediction on ``pictures`` [n, side²]."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
    for step in range(1, steps + 1):
        batch = pictures[torch.randint(0, len(pictures), (batch_size,))]
        loss = model(model.shift_right(batch), targets=batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == steps:
            print(f"step {step}: {loss.item() / np.log(2):.3f} bits per pixel")


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Train, complete, write; returns the share of pixels that are wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="pictures of your own")
    parser.add_argument("--out", type=Path, default=Path("completed.png"))
    parser.add_argument("--side", type=int, default=20, help="pixels")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--n-completed", type=int, default=6)
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    side, half = options.side, options.side * (options.side // 2)
    pictures = draw(2000, side, seed=1) if options.folder is None else load(options.folder, side)
    n = min(options.n_completed, len(pictures) // 4)
    seen, new = torch.from_numpy(pictures).long().flatten(1).split([len(pictures) - n, n])

    # Local layers see the row above; the LSH layer finds like pixels wherever they are.
    config = ReformerConfig(
        d_model=96,
        d_ff=192,
        n_heads=4,
        attention=("local", "lsh", "local"),
        local_chunk_len=2 * side,
        lsh_chunk_len=32,
        n_hashes=4,
        axial_shape=(side, side),
    )
    model = ReformerLM(config)
    train(model, seen, options.steps, options.batch_size)

    tops = [bytes(picture[:half].tolist()) for picture in new]
    bottoms = generate(model.eval(), tops, side * side - half, SamplingConfig(temperature=0.0))
    completed = torch.tensor([[*top, *bottom] for top, bottom in zip(tops, bottoms)])
    last_row_repeated = new[:, half - side : half].repeat(1, side - side // 2)
    wrong = {
        "Reformer": (completed != new)[:, half:].float().mean().item(),
        "last row repeated": (last_row_repeated != new[:, half:]).float().mean().item(),
    }
    given = new.clone()
    given[:, half:] = 0
    sheet = torch.stack([new, given, completed], dim=1).view(n, 3, side, side).transpose(1, 2).reshape(n * side, -1)
    Image.fromarray(sheet.numpy().astype(np.uint8)).resize((3 * side * 6, n * side * 6), 0).save(options.out)
    print("wrong pixels in the bottom halves: " + ", ".join(f"{name} {share:.1%}" for name, share in wrong.items()))
    print(f"written: {options.out} (original, given, completed)")
    return wrong


if __name__ == "__main__":
    main()

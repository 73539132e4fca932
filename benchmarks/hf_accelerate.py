"""Time of transformers' Reformer before and after ``reformer.hf.accelerate``, taking turns in one process.

    python benchmarks/hf_accelerate.py                              # L 4,096 and 16,384, forward and backward, 2 threads
    python benchmarks/hf_accelerate.py --lengths 4096 --repeats 1

One LSH and one local layer of the released enwik8 checkpoint's kind (8 heads of 64, chunks of 64, 4 rounds), random
weights, float32, no dropout. Prints the median and the range of the seconds of each. Run it on a quiet machine.
"""

import argparse
import copy
import statistics
import time

import torch
import transformers

from reformer.hf import accelerate


def build(length: int) -> torch.nn.Module:
    """transformers' model, in training mode: its backward pass refuses evaluation mode."""
    torch.manual_seed(0)
    side = int(length**0.5)
    config = transformers.ReformerConfig(
        attn_layers=["local", "lsh"],
        is_decoder=True,
        vocab_size=258,
        hidden_size=512,
        num_attention_heads=8,
        attention_head_size=64,
        feed_forward_size=1024,
        num_hashes=4,
        num_buckets=[16, 2 * length // 64 // 16],
        axial_pos_shape=[side, length // side],
        axial_pos_embds_dim=[128, 384],
        max_position_embeddings=length,
        hidden_dropout_prob=0.0,
        lsh_attention_probs_dropout_prob=0.0,
        local_attention_probs_dropout_prob=0.0,
        use_cache=False,
    )
    return transformers.ReformerModelWithLMHead(config).train()


def seconds(model: torch.nn.Module, tokens: torch.Tensor) -> float:
    """Of one forward and backward pass."""
    model.zero_grad()
    start = time.perf_counter()
    model(tokens, labels=tokens).loss.backward()
    return time.perf_counter() - start


def main() -> None:
    """Warm up once, then let both take turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[4096, 16384])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for length in options.lengths:
        before = build(length)
        after = copy.deepcopy(before)
        accelerate(after)
        tokens = torch.randint(0, 256, (1, length))
        times: dict[str, list[float]] = {"transformers": [], "accelerated": []}
        for repeat in range(options.repeats + 1):
            for name, model in zip(times, (before, after)):
                taken = seconds(model, tokens)
                if repeat:
                    times[name].append(taken)
        for name, taken_all in times.items():
            middle = statistics.median(taken_all)
            print(f"L {length:>6}  {name:<12}  median {middle:.3f} s  ({min(taken_all):.3f} to {max(taken_all):.3f})")


if __name__ == "__main__":
    main()

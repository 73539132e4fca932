"""Fine-tune a converted checkpoint with transformers' Trainer, then let it write.

    python examples/finetune_converted.py --checkpoint FOLDER --data TEXT_FILE

FOLDER is a Reformer as transformers saves it, with ids that are bytes (google/reformer-enwik8, downloaded; it wants
--seq-len 65536 and an accelerator). Without it a tiny one with random weights is made, so that everything can be tried on a
laptop in a minute. Needs 'reformer-torch[train,hf]'.
"""

import argparse
import math
import sysconfig
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    ReformerConfig,
    ReformerModelWithLMHead,
    Trainer,
    TrainingArguments,
    default_data_collator,
)

import reformer.hf  # noqa: F401 - registers our classes with the Auto classes
from reformer.cli.main import main as reformer_command


def make_tiny(folder: Path, seq_len: int) -> None:
    """A random model of the released enwik8 checkpoint's kind: local and LSH layers, axial positions, bytes + 2."""
    rows = 2 ** (int(math.log2(seq_len)) // 2)
    config = ReformerConfig(
        vocab_size=258,
        hidden_size=64,
        num_attention_heads=2,
        attention_head_size=32,
        feed_forward_size=128,
        attn_layers=["local", "lsh"],
        num_hashes=2,
        num_buckets=16,
        axial_pos_shape=[rows, seq_len // rows],
        axial_pos_embds_dim=[32, 32],
        axial_norm_std=0.1,
        initializer_range=0.1,
        max_position_embeddings=seq_len,
        is_decoder=True,
        eos_token_id=1,
        pad_token_id=0,
        hidden_dropout_prob=0.0,
        local_attention_probs_dropout_prob=0.0,
    )
    ReformerModelWithLMHead(config).save_pretrained(folder)


def windows(text: bytes, length: int, tokenizer) -> list[dict]:
    """The text, cut into pieces that the model predicts byte by byte."""
    ids = torch.tensor([byte + tokenizer.offset for byte in text[: len(text) // length * length]]).view(-1, length)
    return [{"input_ids": row, "labels": row} for row in ids]


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Convert, fine-tune, save, generate; returns bits per byte before and after."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="folder of a transformers Reformer; default: a tiny random one")
    parser.add_argument("--data", type=Path, default=Path(sysconfig.get_paths()["stdlib"]) / "argparse.py")
    parser.add_argument("--out", type=Path, default=Path("runs/fine-tuned"))
    parser.add_argument("--seq-len", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    checkpoint, converted = options.checkpoint, options.out / "converted"
    if checkpoint is None:
        checkpoint = options.out / "transformers"
        make_tiny(checkpoint, options.seq_len)

    # The same as on the command line: reformer convert FROM TO.
    if not converted.exists() and reformer_command(["convert", str(checkpoint), str(converted)]) != 0:
        raise SystemExit(2)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(converted), AutoTokenizer.from_pretrained(converted)

    pieces = windows(options.data.read_bytes(), options.seq_len, tokenizer)
    n_test = max(1, len(pieces) // 10)
    trainer = Trainer(
        model,
        TrainingArguments(
            output_dir=str(options.out),
            max_steps=options.steps,
            per_device_train_batch_size=4,
            per_device_eval_batch_size=4,
            learning_rate=3e-3,
            warmup_steps=5,
            logging_steps=20,
            save_strategy="no",
            report_to=[],
            use_cpu=not torch.cuda.is_available(),
            dataloader_pin_memory=torch.cuda.is_available(),
        ),
        train_dataset=pieces[:-n_test],
        eval_dataset=pieces[-n_test:],
        data_collator=default_data_collator,
        processing_class=tokenizer,
    )
    bits = {"before": trainer.evaluate()["eval_loss"] / math.log(2)}
    trainer.train()
    bits["after"] = trainer.evaluate()["eval_loss"] / math.log(2)
    trainer.save_model(str(options.out / "model"))
    print(f"bits per byte: {bits['before']:.2f} before, {bits['after']:.2f} after, on the last {n_test} pieces")

    prompt = tokenizer("    def ", return_tensors="pt").to(model.device)
    written = model.generate(**prompt, max_new_tokens=min(200, options.seq_len // 2), do_sample=True, top_p=0.9)
    print(tokenizer.decode(written[0], skip_special_tokens=True))
    return bits


if __name__ == "__main__":
    main()

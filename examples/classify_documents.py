"""Tell long documents apart with transformers' Trainer: source, documentation, bytecode or syntax tree?

    python examples/classify_documents.py

A minute or two on a laptop. The documents are made of Python's own library: of each file its text, its docstrings, the
listing of its bytecode and its syntax tree, 2,048 bytes of each. The files that test it are not those that trained it. Saves
model and tokenizer in --out, from where `transformers.pipeline("text-classification", model=...)` reads them after
`import reformer.hf`. Needs 'reformer-torch[hf]'.
"""

import argparse
import ast
import dis
import io
import sysconfig
from collections import Counter
from pathlib import Path

import torch
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

from reformer.hf import ReformerByteTokenizer, ReformerTorchConfig, ReformerTorchForSequenceClassification

KINDS = ("source", "documentation", "bytecode", "tree")


def views(source: str, name: str) -> tuple[str, str, str, str]:
    """The documents of one file, in the order of ``KINDS``."""
    tree = ast.parse(source)
    named = [n for n in ast.walk(tree) if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef)]
    documentation = "\n\n".join(filter(None, map(ast.get_docstring, named)))
    listing = io.StringIO()
    dis.dis(compile(source, name, "exec", dont_inherit=True), file=listing)
    return source, documentation, listing.getvalue(), ast.dump(tree)


def documents(length: int, n_files: int) -> tuple[list, list]:
    """(text, label) pairs for training and for testing; every fourth file is for testing."""
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))[:n_files]
    train, test = [], []
    for number, file in enumerate(files):
        for label, text in enumerate(views(file.read_text(errors="replace"), file.name)):
            # From its middle. A short one is padded, which is no part of what the model sees.
            piece = text[len(text) // 2 :][:length]
            if piece:
                (test if number % 4 == 0 else train).append((piece, label))
    return train, test


def accuracy(found) -> dict[str, float]:
    """Of Trainer's predictions."""
    return {"accuracy": float((found.predictions.argmax(-1) == found.label_ids).mean())}


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Train, test, save; returns the accuracies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/classify"))
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--length", type=int, default=2048, help="characters of a document")
    parser.add_argument("--n-files", type=int, default=100)
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    # Bytes as tokens; the bidirectional model's tokenizer pads on the right.
    tokenizer = ReformerByteTokenizer(masked=True)
    train, test = documents(options.length, options.n_files)

    def encoded(pairs: list) -> list[dict]:
        return [
            {**tokenizer(text, truncation=True, max_length=options.length), "labels": label} for text, label in pairs
        ]

    config = ReformerTorchConfig(
        d_model=64,
        d_ff=128,
        n_heads=4,
        attention=("local", "lsh"),
        causal=False,
        n_hashes=2,
        positions="sinusoidal",
        embedding_std=1.0,
        pad_token_id=tokenizer.pad_token_id,
        id2label=dict(enumerate(KINDS)),
        label2id={kind: label for label, kind in enumerate(KINDS)},
    )
    model = ReformerTorchForSequenceClassification(config)
    settings = TrainingArguments(
        output_dir=str(options.out),
        max_steps=options.steps,
        per_device_train_batch_size=8,
        per_device_eval_batch_size=8,
        learning_rate=2e-3,
        warmup_steps=5,
        logging_steps=10,
        save_strategy="no",
        report_to=[],
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    trainer = Trainer(
        model,
        settings,
        train_dataset=encoded(train),
        eval_dataset=encoded(test),
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        compute_metrics=accuracy,
    )
    trainer.train()
    trainer.save_model(str(options.out))
    most_common = Counter(label for _, label in train).most_common(1)[0][0]
    shares = {
        "Reformer": trainer.evaluate()["eval_accuracy"],
        "always the most common": sum(label == most_common for _, label in test) / len(test),
    }
    for name, share in shares.items():
        print(f"{name}: {share:.1%} of {len(test)} documents right")
    return shares


if __name__ == "__main__":
    main()

"""Tell long documents apart with transformers' Trainer: from which package of Python's library is this source?

    python examples/classify_documents.py

About two minutes on a laptop. Documents are pieces of 2,048 bytes; the files that test it are not those that trained it.
Saves model and tokenizer in --out, from where `transformers.pipeline("text-classification", model=...)` reads them after
`import reformer.hf`. Needs 'reformer-torch[hf]'.
"""

import argparse
import sysconfig
from collections import Counter
from pathlib import Path

import torch
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

from reformer.hf import ReformerByteTokenizer, ReformerTorchConfig, ReformerTorchForSequenceClassification

PACKAGES = ("asyncio", "email", "encodings", "multiprocessing", "unittest", "xml")


def documents(length: int) -> tuple[list, list]:
    """(text, label) pairs for training and for testing; every fourth file of a package is for testing."""
    library = Path(sysconfig.get_paths()["stdlib"])
    train, test = [], []
    for label, package in enumerate(PACKAGES):
        files = [p for p in sorted((library / package).rglob("*.py")) if "test" not in p.parts]
        for number, file in enumerate(files):
            text = file.read_text(errors="replace")
            # The last piece may be short: padding is no part of what the model sees.
            pieces = [text[start : start + length] for start in range(0, len(text), length)]
            (test if number % 4 == 0 else train).extend((piece, label) for piece in pieces[:8])
    return train, test


def accuracy(found) -> dict[str, float]:
    """Of Trainer's predictions."""
    return {"accuracy": float((found.predictions.argmax(-1) == found.label_ids).mean())}


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Train, test, save; returns the accuracies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/classify"))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--length", type=int, default=2048, help="characters of a document")
    parser.add_argument("--n-test", type=int, default=200, help="documents to test with")
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    # Bytes as tokens; the bidirectional model's tokenizer pads on the right.
    tokenizer = ReformerByteTokenizer(masked=True)
    train, test = documents(options.length)
    test = [test[i] for i in torch.randperm(len(test))[: options.n_test]]

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
        id2label=dict(enumerate(PACKAGES)),
        label2id={package: label for label, package in enumerate(PACKAGES)},
    )
    model = ReformerTorchForSequenceClassification(config)
    settings = TrainingArguments(
        output_dir=str(options.out),
        max_steps=options.steps,
        per_device_train_batch_size=8,
        per_device_eval_batch_size=8,
        learning_rate=2e-3,
        warmup_steps=10,
        logging_steps=25,
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

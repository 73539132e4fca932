"""Figure 3: shared against separate queries and keys, and reversible against ordinary layers, on text and pictures.

    reformer reproduce figure3 --scale laptop

Three layers of full attention, as in the paper: the base shares queries and keys and is reversible. "separate QK" has keys
of its own (a projection more a layer, logits over the root of the head size); "ordinary" is the Transformer of one stream,
x + f(x), with as many parameters as the base. In the paper the curves of each pair lie on one another. On text, laptop and gpu
train the reversible and the ordinary model also with embeddings and head four times as fast, the laptop also at half and at
twice their width: how far they are apart depends on both. (The head reads two streams; the ordinary model's are one and the
same, so that at equal learning rates its head learns twice as fast.) On pictures the laptop trains the two for twice as long
once more: ordinary layers are ahead while the curves are steep.
Hardware and time for each line and seed. smoke: any CPU, seconds. laptop: two CPU cores, two lines at a time on one thread each,
7 to 44 minutes by machine and line. gpu: one accelerator, 20 seconds of training on text on an H200 (pictures not timed). paper: 8
accelerators in the paper; ``--estimate`` says what it takes here.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from reformer.tasks.text import TextConfig
from reproduction.case import Case
from reproduction.experiments import image_models, text_models
from reproduction.experiments.experiment import Experiment
from reproduction.experiments.image_models import image_case, image_config
from reproduction.experiments.lines import Line, difference
from reproduction.experiments.text_models import text_case, text_config

_LINES: dict[str, dict[str, Any]] = {
    "shared QK, reversible": {},
    "separate QK, reversible": {"shared_qk": False},
    "shared QK, ordinary": {"reversible": False, "streams": 1},
}
_ORDINARY = _LINES["shared QK, ordinary"]
_TEXT, _IMAGES = "enwik8, bits per byte", "images, bits per dim"
_N_LAYERS = 3
# Full attention on two cores: a small model, so that it sees some millions of bytes.
_MODELS: dict[str, dict[str, Any]] = {"laptop": {"d_model": 96, "d_ff": 256, "n_heads": 3}}
# Changes of the model, and of the optimizer.
_Setting = tuple[dict[str, Any], dict[str, Any]]
_FASTER_HEAD: dict[str, _Setting] = {"faster head": ({}, {"others_lr_scale": 0.8})}
# What the reversible and the ordinary model are trained with once more, on text.
_OTHER_SETTINGS: dict[str, dict[str, _Setting]] = {
    "laptop": {
        "d_model 48": ({"d_model": 48, "d_ff": 128}, {}),
        "d_model 192": ({"d_model": 192, "d_ff": 512}, {}),
    }
    | _FASTER_HEAD,
    "gpu": _FASTER_HEAD,
}
# How long those two are trained on pictures once more, in steps.
_LONGER: dict[str, int] = {"laptop": 2000}
_SHAPES: dict[str, dict[str, Any]] = {
    "laptop": {"seq_len": 512, "batch_size": 8, "steps": 1000, "eval_every": 125},
    "gpu": {"seq_len": 4096, "batch_size": 16, "steps": 480, "eval_every": 120, "eval_bytes": 131_072},
}


def _text(scale: str, seed: int, changes: dict[str, Any], optimizer: dict[str, Any]) -> TextConfig:
    base = text_config(scale, seed)
    # The base's positions live in its local layers, of which there are none here.
    own: dict[str, Any] = {"positions": "rotary", "max_len": 65_536} if scale != "paper" else {}
    own |= _MODELS.get(scale, {}) | changes
    config = replace(base, model=replace(base.model, attention=("full",) * _N_LAYERS, **own))
    return replace(config, optimizer=replace(config.optimizer, **optimizer), **_SHAPES.get(scale, {}))


def cases(scale: str, seed: int) -> list[Case]:
    """Each kind of model on text, the reversible and the ordinary one in other settings, then each on pictures."""
    on_text: dict[str, _Setting] = {name: (model, {}) for name, model in _LINES.items()}
    for setting, (model, optimizer) in _OTHER_SETTINGS.get(scale, {}).items():
        on_text[f"{setting}, reversible"] = model, optimizer
        on_text[f"{setting}, ordinary"] = model | _ORDINARY, optimizer
    on_images = {name: image_config(scale, seed, kind="full", **changes) for name, changes in _LINES.items()}
    if steps := _LONGER.get(scale):
        for kind in ("reversible", "ordinary"):
            config = on_images[f"shared QK, {kind}"]
            on_images[f"{steps:,} steps, {kind}"] = replace(config, steps=steps, eval_every=steps // 8)
    return [
        text_case(f"enwik8, {name}", _text(scale, seed, *changes), scale, _TEXT) for name, changes in on_text.items()
    ] + [image_case(f"images, {name}", config, scale, _IMAGES) for name, config in on_images.items()]


def finding(lines: Mapping[str, Line]) -> list[str]:
    """How far the other models end from the shared, reversible one, on each kind of data."""
    base, *others = _LINES
    pairs = [("enwik8", other, base, _TEXT) for other in others]
    pairs += [("enwik8", f"{each}, ordinary", f"{each}, reversible", _TEXT) for each in _OTHER_SETTINGS["laptop"]]
    pairs += [("images", other, base, _IMAGES) for other in others]
    pairs += [
        ("images", f"{steps:,} steps, ordinary", f"{steps:,} steps, reversible", _IMAGES) for steps in _LONGER.values()
    ]
    found = []
    for data, other, of, column in pairs:
        compared = difference(lines, f"{data}, {other}", f"{data}, {of}", column)
        if compared is not None:
            found.append(f"{column}: {other} less {of} is {compared.value:+.3f} ({compared.verdict}).")
    return found


_IN_THE_PAPER = "in the paper the curves of each pair coincide; separate QK has a projection more"
_TEXT_NOTES = text_models.NOTES | {
    "laptop": "enwik8, d_model 96 (or 48, or 192 where a line says so; faster head: embeddings and head learn four times as "
    "fast) and windows of 512 bytes, 1,000 steps of 8 (4.1 MB), where the paper has d_model 1,024 and windows of 65,536",
    "gpu": "enwik8, d_model 512 and windows of 4,096 bytes, 480 steps of 16 (31 MB); faster head: as on a laptop",
    "paper": "enwik8, d_model 1,024 and windows of 65,536 bytes, 20,000 steps of 8",
}
_PICTURE_NOTES = image_models.NOTES | {"laptop": f"{image_models.NOTES['laptop']}; 2,000 steps where a line says so"}

EXPERIMENT = Experiment(
    name="figure3",
    title="Figure 3: shared and separate QK, reversible and ordinary layers; three layers of full attention",
    metric="bits per byte (enwik8, test split) or dim (images, validation split)",
    better="lower",
    columns=(_TEXT, _IMAGES),
    cases=cases,
    seeds={"smoke": 1, "laptop": 3, "gpu": 3, "paper": 1},
    notes={
        scale: f"text: {note}; pictures: {_PICTURE_NOTES[scale]}; {_IN_THE_PAPER}"
        for scale, note in _TEXT_NOTES.items()
    },
    digits=3,
    curve=("step", "validation bits per byte or dim"),
    finding=finding,
    headline=("enwik8, shared QK, ordinary", _TEXT),
)

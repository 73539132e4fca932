"""PEFT's LoRA on every kind of module: what is trained is what is merged and saved."""

import pytest
import torch
from torch import Tensor, nn

from reformer.models import ReformerLM

from .factory import assert_same, loss_and_gradients, some_tokens, tiny

peft = pytest.importorskip("peft")

OPTIONS = {"attention": ("local", "lsh", "full")}
TARGETS = {
    "attention": ["to_q", "to_v", "to_out"],
    "feed-forward": ["w_in", "w_out"],
    "head": ["head"],
    "embeddings": ["embedding"],
    "everything": ["to_q", "to_v", "to_out", "w_in", "w_out", "head", "embedding"],
}


def adapted(targets: str, *, dropout: float = 0.0, **changes) -> tuple[ReformerLM, nn.Module]:
    """(the model, PEFT's wrapping of it), the adapters off zero."""
    model = tiny(**OPTIONS | changes).float()
    config = peft.LoraConfig(r=2, lora_alpha=4, lora_dropout=dropout, target_modules=TARGETS[targets])
    torch.manual_seed(1)
    wrapped = peft.get_peft_model(model, config)
    with torch.no_grad():
        for name, p in wrapped.named_parameters():
            if "lora_" in name:
                p.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(len(name))) * 0.3)
    return model, wrapped.train().double()


def loss_of(model: nn.Module) -> Tensor:
    tokens = some_tokens()
    torch.manual_seed(7)
    return model(tokens, targets=tokens.roll(-1, 1), seed=3)


def gradients_of(wrapped: nn.Module) -> dict[str, Tensor | None]:
    return loss_and_gradients(wrapped, loss_of)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("targets", sorted(TARGETS))
def test_gradients_are_those_of_ordinary_autograd(targets: str, dropout: float):
    found = gradients_of(adapted(targets, dropout=dropout)[1])
    expected = gradients_of(adapted(targets, dropout=dropout, reversible=False)[1])
    assert_same(found, expected)
    learned = [name for name, g in found.items() if g is not None and name != "loss"]
    assert learned and all("lora_" in name for name in learned)
    assert all(found[name].abs().max() > 0 for name in learned)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("targets", sorted(TARGETS))
def test_loss_and_logits_are_those_of_merged_weights(targets: str, tied: bool):
    if tied and targets in ("head", "everything"):
        with pytest.raises(ValueError, match="not supported"):
            adapted("head", tie_embeddings=True)
        return
    model, wrapped = adapted(targets, tie_embeddings=tied)
    plain = float(loss_of(tiny(tie_embeddings=tied, **OPTIONS)).detach())
    before, logits = loss_of(wrapped).detach(), wrapped(some_tokens(), seed=3).detach()
    merged = wrapped.merge_and_unload()
    assert merged is model or isinstance(merged, ReformerLM)
    if not (tied and targets == "embeddings"):
        torch.testing.assert_close(loss_of(merged).detach(), before)
        torch.testing.assert_close(merged(some_tokens(), seed=3).detach(), logits)
    assert abs(float(before) - plain) > 1e-4


def test_tied_embeddings_with_an_adapter_read_it_in_the_head_too():
    model, wrapped = adapted("embeddings", tie_embeddings=True)
    logits = wrapped(some_tokens(), seed=3).detach()
    torch.testing.assert_close(wrapped.merge_and_unload()(some_tokens(), seed=3).detach(), logits)


def test_modules_to_save_are_trained():
    model = tiny(**OPTIONS)
    config = peft.LoraConfig(r=2, target_modules=["to_q"], modules_to_save=["head", "norm"])
    wrapped = peft.get_peft_model(model, config).train()
    loss_of(wrapped).backward()
    for name, p in wrapped.named_parameters():
        trained = "modules_to_save" in name or "lora_B" in name
        assert not trained or (p.grad is not None and p.grad.abs().max() > 0), name
        assert trained or "lora_A" in name or p.grad is None, name


def test_adapters_count_in_decoding():
    model, wrapped = adapted("everything")
    model.eval()
    state = model.decoding_state(2, seed=3)
    found = [model.decode(part, state) for part in (some_tokens(), some_tokens(length=1))]
    merged = wrapped.merge_and_unload()
    state = merged.decoding_state(2, seed=3)
    for part, value in zip((some_tokens(), some_tokens(length=1)), found, strict=True):
        torch.testing.assert_close(merged.decode(part, state), value)


def test_training_with_adapters_lowers_the_loss():
    _, wrapped = adapted("everything", dropout=0.1)
    optimizer = torch.optim.Adam([p for p in wrapped.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = loss_of(wrapped)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.5

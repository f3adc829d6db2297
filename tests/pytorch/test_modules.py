"""An nn.Module around the operators: training, state, copies."""

from __future__ import annotations

import copy
import io
import pickle

import pytest

import diffsort

from .helpers import assert_close, point, torch, torch_internals

pytestmark = torch_internals


class SoftRank(torch.nn.Module):
    """Scores by a linear layer, ranks with a strength that is learnt in log space."""

    def __init__(self, features, regularization="l2", strength=0.5):
        super().__init__()
        self.linear = torch.nn.Linear(features, 1)
        self.log_strength = torch.nn.Parameter(torch.tensor(strength).log())
        self.regularization = regularization
        self.operator = diffsort.soft_rank

    def forward(self, x):
        return self.operator(
            self.linear(x).squeeze(-1),
            regularization=self.regularization,
            regularization_strength=self.log_strength.exp(),
        )


def _data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 4, generator=generator)
    score = x @ torch.tensor([1.0, -2.0, 0.5, 0.0])
    return x, score.argsort().argsort() + 1.0


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
@pytest.mark.parametrize("regularization", ["l2", "kl"])
def test_training_lowers_the_loss_and_moves_the_strength(regularization, optimizer):
    torch.manual_seed(0)
    x, target = _data()
    module = SoftRank(4, regularization)
    before = copy.deepcopy(module.state_dict())
    step = {"SGD": 1e-3, "Adam": 3e-2}[optimizer]
    update = getattr(torch.optim, optimizer)(module.parameters(), lr=step)
    losses = []
    for _ in range(60):
        update.zero_grad()
        loss = ((module(x) - target) ** 2).mean()
        loss.backward()
        update.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    for name, parameter in module.named_parameters():
        if name != "linear.bias":  # ranks do not change with a shift
            assert (parameter - before[name]).abs().max() > 1e-4, name
    if optimizer == "SGD":  # Adam would scale the rounding errors of this zero gradient up
        torch.testing.assert_close(module.linear.bias.detach(), before["linear.bias"])


def test_strength_alone_is_learnt():
    # The target was made with strength 2; the mean squared error has its minimum there.
    x = point(grad=False)
    target = diffsort.soft_rank(x, regularization_strength=2.0)
    strength = torch.nn.Parameter(torch.tensor(1.0, dtype=torch.float64))
    optimizer = torch.optim.Adam([strength], lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        ((diffsort.soft_rank(x, regularization_strength=strength) - target) ** 2).sum().backward()
        optimizer.step()
    assert abs(strength.item() - 2.0) < 1e-3


def test_state_dict_round_trip():
    torch.manual_seed(1)
    first, second = SoftRank(4), SoftRank(4, strength=2.0)
    x, _ = _data()
    assert not torch.equal(first(x), second(x))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file))
    assert torch.equal(first(x), second(x))


@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))],
    ids=["deepcopy", "pickle"],
)
def test_copies_compute_the_same_and_are_independent(duplicate):
    torch.manual_seed(1)
    module, (x, target) = SoftRank(4, "kl"), _data()
    ((module(x) - target) ** 2).mean().backward()
    other = duplicate(module)
    assert torch.equal(module(x), other(x))
    other.zero_grad()
    ((other(x) - target) ** 2).mean().backward()
    for mine, theirs in zip(module.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine.grad, theirs.grad)
    with torch.no_grad():
        other.log_strength.add_(1.0)
    assert not torch.equal(module(x), other(x))


def test_whole_module_is_saved_and_loaded():
    torch.manual_seed(1)
    module, (x, _) = SoftRank(4), _data()
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(x), module(x))


def test_dtype_and_mode_switches():
    module, (x, _) = SoftRank(4), _data()
    assert module.double()(x.double()).dtype == torch.float64
    assert module.to(torch.bfloat16)(x.bfloat16()).dtype == torch.bfloat16
    module.float().eval()
    assert_close(module(x), module.train()(x).double(), rtol=0, atol=0)


@pytest.mark.parametrize("foreach", [False, True])
def test_gradient_clipping_and_accumulation(foreach):
    torch.manual_seed(1)
    module, (x, target) = SoftRank(4), _data()
    for _ in range(2):
        ((module(x) - target) ** 2).mean().backward()
    twice = [p.grad.clone() for p in module.parameters()]
    module.zero_grad()
    ((module(x) - target) ** 2).mean().backward()
    for once, double in zip(module.parameters(), twice, strict=True):
        torch.testing.assert_close(2 * once.grad, double)
    norm = torch.nn.utils.clip_grad_norm_(module.parameters(), 1e-3, foreach=foreach)
    assert norm > 1e-3
    clipped = torch.stack([p.grad.norm() for p in module.parameters()]).norm()
    assert abs(clipped.item() - 1e-3) < 1e-6

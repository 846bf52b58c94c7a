"""Adam in one pass: torch's Adam and max-norm to rounding, copies that are the weights, exact resumption."""

from __future__ import annotations

import copy
import math

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from lib.adam import MixedAdam, limit_norms_  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def weights(generator, shape=(3, 40, 50), long=2.0):
    """Rows of very different lengths, one of zeros."""
    made = torch.randn(shape, generator=generator) / shape[-1] ** 0.5
    made[0, 0] = 0
    made[0, 1:5] *= long
    return made


def reference(weight, gradients, max_norm, **options):
    """torch's Adam on the same gradients, and max-norm after each update."""
    weight = weight.clone().requires_grad_()
    optimizer = torch.optim.Adam([weight], **options)
    for gradient in gradients:
        weight.grad = gradient.to(weight.dtype)
        optimizer.step()
        if max_norm:
            limit_norms_(weight.detach(), max_norm)
    return weight.detach(), optimizer.state[weight]


@pytest.mark.parametrize("shape", [(3, 40, 50), (7, 33), (19,), ()], ids=str)
@pytest.mark.parametrize("max_norm", [0.0, 1.05])
def test_one_pass_is_torchs_adam(generator, shape, max_norm):
    """Weights, moments and the copy, for any shape, with a rate that changes, after one step and after many."""
    start = torch.randn(shape, generator=generator) / max(math.prod(shape[-1:]), 1) ** 0.5
    if len(shape) == 3:
        start = weights(generator, shape)
    max_norm *= len(shape) > 1
    options = {"lr": 0.02, "betas": (0.8, 0.99), "eps": 1e-6}
    gradients = [torch.randn(shape, generator=generator).bfloat16() for _ in range(30)]
    mine = nn.Parameter(start.clone())
    optimizer = MixedAdam([mine], **options, max_norm=max_norm)
    for steps, gradient in enumerate(gradients, 1):
        narrow = optimizer.narrow(mine)
        assert narrow.dtype == torch.bfloat16 and narrow.is_leaf and mine.grad is None
        narrow.grad = gradient
        optimizer.step()
        assert torch.equal(narrow, mine.detach().bfloat16()) and optimizer.narrow(mine) is narrow
        if steps in (1, 30):
            theirs, state = reference(start, gradients[:steps], max_norm, **options)
            torch.testing.assert_close(mine.detach(), theirs, rtol=2e-5, atol=2e-6)
            for name in ("step", "exp_avg", "exp_avg_sq"):
                torch.testing.assert_close(optimizer.state[mine][name], state[name], rtol=1e-5, atol=1e-7)
    if max_norm:
        norms = mine.detach().norm(dim=-1)
        assert (norms <= max_norm + 1e-5).all() and (norms > max_norm - 1e-4).any()
        assert (norms < max_norm - 1e-2).any()


def test_the_copy_rounds_to_the_nearest_and_ties_to_even():
    """No update of weights that have no gradient: every word of 16 bits, and the numbers half-way between two."""
    words = torch.arange(0x0080, 0x7F7F, dtype=torch.int32)
    bits = torch.cat([words << 16, (words << 16) + 0x8000, (words << 16) + 0x8001, (words << 16) + 0x7FFF])
    numbers = bits.view(torch.float32)
    numbers = torch.cat(
        [numbers, -numbers, torch.tensor([0.0, -0.0, float("inf"), -float("inf"), float("nan")])]
    )
    weight = nn.Parameter(numbers.clone())
    optimizer = MixedAdam([weight])
    narrow = optimizer.narrow(weight)
    narrow.grad = torch.zeros_like(narrow)
    optimizer.step()
    assert torch.equal(weight.detach().view(torch.int32), numbers.view(torch.int32))
    assert narrow[-1].isnan() and torch.equal(narrow.detach()[:-1], numbers.bfloat16()[:-1])


def test_gradients_reach_the_weight_through_its_copy(generator):
    """Through autograd; weights without a copy go on as in torch's Adam, and a weight may be left out of a step."""
    one, two, other = (nn.Parameter(torch.randn(4, 5, generator=generator)) for _ in range(3))
    optimizer = MixedAdam([{"params": [one, two], "max_norm": 1.5}, {"params": [other]}], lr=0.1)
    before = [p.detach().clone() for p in (one, two, other)]
    inputs = torch.randn(6, 5, generator=generator)
    (inputs.bfloat16() @ optimizer.narrow(one).mT + inputs.bfloat16() @ other.bfloat16().mT).sum().backward()
    gradient = optimizer.narrow(one).grad
    assert gradient.dtype == torch.bfloat16 and one.grad is None and other.grad.dtype == torch.float32
    optimizer.step()
    torch.testing.assert_close(
        one.detach(), reference(before[0], [gradient], 1.5, lr=0.1)[0], rtol=1e-5, atol=1e-6
    )
    torch.testing.assert_close(other.detach(), reference(before[2], [other.grad], 0, lr=0.1)[0])
    assert torch.equal(two, before[1]) and two not in optimizer.state
    optimizer.zero_grad()
    assert optimizer.narrow(one).grad is None and other.grad is None
    optimizer.step()
    assert optimizer.state[one]["step"] == 1


def test_a_weight_that_others_change_has_a_new_copy(generator):
    weight = nn.Parameter(torch.randn(4, 5, generator=generator))
    optimizer = MixedAdam([weight])
    first = optimizer.narrow(weight)
    assert optimizer.narrow(weight) is first
    with torch.no_grad():
        weight.mul_(2)
    assert torch.equal(optimizer.narrow(weight), 2 * first)
    weight.data = torch.ones(3, 4, 5)
    optimizer.forget()
    assert torch.equal(optimizer.narrow(weight), torch.ones(3, 4, 5))


def test_gradients_of_the_weight_itself(generator):
    """In float32, as where nobody asks for a copy; the limit holds all the same, and the next copy is of the new weight."""
    start = weights(generator)
    weight = nn.Parameter(start.clone())
    optimizer = MixedAdam([weight], lr=0.01, max_norm=1.05)
    optimizer.narrow(weight)
    gradients = [torch.randn(start.shape, generator=generator) for _ in range(3)]
    for gradient in gradients:
        optimizer.zero_grad()
        weight.grad = gradient
        optimizer.step()
    torch.testing.assert_close(weight.detach(), reference(start, gradients, 1.05, lr=0.01, fused=True)[0])
    assert torch.equal(optimizer.narrow(weight), weight.detach().bfloat16())


@pytest.mark.parametrize(
    "make", [lambda w: w.mT.contiguous().mT, torch.Tensor.double], ids=["turned", "double"]
)
def test_what_lies_otherwise_in_memory_is_updated_by_torch(generator, make):
    """A weight that is not contiguous, or of another type: the same update."""
    start = make(weights(generator, (3, 40, 50)))
    weight = nn.Parameter(start.clone())
    optimizer = MixedAdam([weight], lr=0.01, max_norm=1.05)
    gradients = [torch.randn(start.shape, generator=generator).bfloat16() for _ in range(3)]
    for gradient in gradients:
        optimizer.zero_grad()
        optimizer.narrow(weight).grad = gradient
        optimizer.step()
        assert torch.equal(optimizer.narrow(weight), weight.detach().bfloat16())
    torch.testing.assert_close(
        weight.detach(), reference(start.contiguous(), gradients, 1.05, lr=0.01)[0], rtol=1e-5, atol=1e-6
    )


def test_resumed_is_uninterrupted_bit_for_bit(generator):
    start = weights(generator)
    gradients = [torch.randn(start.shape, generator=generator).bfloat16() for _ in range(6)]

    def run(weight, optimizer, part):
        for gradient in part:
            optimizer.narrow(weight).grad = gradient
            optimizer.step()

    whole, first = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    run(whole, MixedAdam([whole], max_norm=1.0), gradients)
    optimizer = MixedAdam([first], max_norm=1.0)
    run(first, optimizer, gradients[:3])
    state = copy.deepcopy(optimizer.state_dict())
    second = nn.Parameter(first.detach().clone())
    resumed = MixedAdam([second], lr=1.0)
    resumed.load_state_dict(state)
    run(second, resumed, gradients[3:])
    assert torch.equal(whole, second)


def test_a_closure_is_called_with_gradients(generator):
    weight = nn.Parameter(torch.randn(4, 5, generator=generator))
    optimizer = MixedAdam([weight], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = optimizer.narrow(weight).square().sum()
        loss.backward()
        return loss

    losses = [optimizer.step(closure).item() for _ in range(20)]
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize("bad", [-1.0, float("nan")])
def test_a_limit_that_is_none(bad):
    with pytest.raises(ValueError, match="max_norm is"):
        MixedAdam([nn.Parameter(torch.zeros(2, 2))], max_norm=bad)


def test_max_norm(generator):
    weight = torch.randn(20, 50, generator=generator)
    weight[3] = 0
    weight[4] *= 0.01
    before = weight.clone()
    limit_norms_(weight, 2.0)
    norms = weight.norm(dim=1)
    assert (norms <= 2 + 1e-5).all() and torch.isfinite(weight).all()
    assert torch.equal(weight[3:5], before[3:5])
    long = before.norm(dim=1) > 2
    assert long.any()
    assert torch.allclose(nn.functional.cosine_similarity(weight[long], before[long]), torch.tensor(1.0))
    once = weight.clone()
    limit_norms_(weight, 2.0)
    assert torch.allclose(weight, once, atol=1e-6)
    with pytest.raises(ValueError, match="limit is 0"):
        limit_norms_(weight, 0)

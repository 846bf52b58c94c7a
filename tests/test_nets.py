"""Networks: torch's initial weights, gradients that are autograd's, members that never reach one another."""

from __future__ import annotations

from itertools import pairwise

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from lib.nets import ByteDropout, StackedMLP, initialise_linear, mlp  # noqa: E402

SHAPES = [(12, 5), (12, 7, 5), (12, 9, 7, 5), (12, 9, 8, 7, 5)]


def linears(network):
    return [layer for layer in network if isinstance(layer, nn.Linear)]


def stack_of(sizes, members, *, double=True, spread=True):
    """A stack with other weights for each member; in double precision gradients can be compared to many digits."""
    stack = StackedMLP(sizes, members)
    stack.initialise(torch.Generator().manual_seed(3))
    if spread:
        stack.parameters.mul_(torch.linspace(0.5, 3, members)[:, None])
    if double:
        stack._use(stack.parameters.double())
    return stack


def autograd(network, inputs, target):
    """Loss and flat gradient of one module, by torch."""
    loss = nn.functional.cross_entropy(network(inputs), target)
    return loss.detach(), torch.cat([g.flatten() for g in torch.autograd.grad(loss, [*network.parameters()])])


# --- initial weights -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", SHAPES)
def test_initial_weights_are_those_of_nn_linear(sizes):
    """From the same generator state, bit for bit, layer by layer."""
    torch.manual_seed(5)
    theirs = [nn.Linear(n_in, n_out) for n_in, n_out in pairwise(sizes)]
    torch.manual_seed(5)
    globally = mlp(sizes)
    seeded = mlp(sizes, generator=torch.Generator().manual_seed(5))
    for network in (globally, seeded):
        for layer, reference in zip(linears(network), theirs, strict=True):
            assert torch.equal(layer.weight, reference.weight) and torch.equal(layer.bias, reference.bias)


def test_a_stack_begins_as_the_module_does():
    """Every member has the same initial weights, those of `mlp` from the same seed."""
    stack = StackedMLP((12, 9, 7, 5), 4)
    stack.initialise(torch.Generator().manual_seed(5))
    network = mlp((12, 9, 7, 5), generator=torch.Generator().manual_seed(5))
    flat = torch.cat([p.detach().flatten() for p in network.parameters()])
    assert torch.equal(stack.parameters, flat.expand(4, -1))


def test_initial_weights_do_not_touch_the_global_generator():
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    mlp((4, 3), generator=torch.Generator().manual_seed(0))
    StackedMLP((4, 3), 2).initialise(torch.Generator().manual_seed(0))
    assert torch.equal(torch.rand(2), expected)


def test_bounds_of_initial_weights():
    weight, bias = torch.empty(500, 64), torch.empty(500)
    initialise_linear(weight, bias, torch.Generator().manual_seed(0))
    assert weight.abs().max() <= 1 / 8 and bias.abs().max() <= 1 / 8
    assert weight.abs().max() > 0.999 / 8 and bias.abs().max() > 0.99 / 8
    assert weight.std().item() == pytest.approx(1 / 8 / 3**0.5, rel=0.01)


# --- forward and backward ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", SHAPES)
@pytest.mark.parametrize("members", [1, 3])
def test_gradients_are_autograds(sizes, members, generator):
    """Every parameter of every member, in double precision; a second batch overwrites the first one's gradients."""
    stack = stack_of(sizes, members)
    for batch in (8, 3, 8, 1):
        inputs = torch.randn(batch, 3, 2, 2, generator=generator).double()
        labels = torch.randint(5, (batch,), generator=generator)
        losses = stack.backward(inputs, labels)
        for member in range(members):
            loss, gradient = autograd(stack.module(member).double(), inputs, labels)
            torch.testing.assert_close(losses[member], loss, rtol=1e-6, atol=0)
            torch.testing.assert_close(stack.gradients[member], gradient, rtol=1e-5, atol=1e-8)


def test_gradients_in_double_precision_are_exact(generator):
    """`module` keeps float32 weights: with weights that float32 holds, twelve digits agree."""
    stack = stack_of((12, 9, 7, 5), 2, spread=False)
    inputs, labels = torch.randn(8, 12, generator=generator).double(), torch.arange(8) % 5
    stack.backward(inputs, labels)
    for member in range(2):
        _, gradient = autograd(stack.module(member).double(), inputs, labels)
        torch.testing.assert_close(stack.gradients[member], gradient, rtol=1e-12, atol=1e-14)


def test_gradients_of_distributions_are_autograds(generator):
    """Soft targets; one-hot ones give what classes give."""
    stack = stack_of((12, 7, 5), 2, spread=False)
    inputs = torch.randn(8, 12, generator=generator).double()
    soft = torch.rand(8, 5, generator=generator).double()
    soft /= soft.sum(1, keepdim=True)
    losses = stack.backward(inputs, soft)
    for member in range(2):
        loss, gradient = autograd(stack.module(member).double(), inputs, soft)
        torch.testing.assert_close(losses[member], loss)
        torch.testing.assert_close(stack.gradients[member], gradient, rtol=1e-12, atol=1e-14)
    labels = torch.arange(8) % 5
    stack.backward(inputs, labels)
    hard = stack.gradients.clone()
    stack.backward(inputs, nn.functional.one_hot(labels, 5).double())
    torch.testing.assert_close(stack.gradients, hard, rtol=1e-12, atol=1e-14)


def test_gradient_where_relu_is_exactly_zero(generator):
    """Units at 0 pass nothing on, as in torch."""
    stack = stack_of((12, 7, 5), 1, spread=False)
    stack.weights[0][:, :4] = 0
    stack.biases[0][:, :4] = 0
    inputs, labels = torch.randn(8, 12, generator=generator).double(), torch.arange(8) % 5
    stack.backward(inputs, labels)
    _, gradient = autograd(stack.module(0).double(), inputs, labels)
    torch.testing.assert_close(stack.gradients[0], gradient, rtol=1e-12, atol=1e-14)
    assert (gradient[: 4 * 12] == 0).all()


def test_huge_logits_have_finite_gradients():
    """Cross-entropy through log-softmax: no overflow where the softmax would have one."""
    stack = stack_of((12, 7, 5), 1, double=False)
    stack.parameters.mul_(1e6)
    losses = stack.backward(torch.ones(2, 12), torch.tensor([0, 1]))
    assert torch.isfinite(losses).all() and torch.isfinite(stack.gradients).all()


def test_logits_are_the_modules(generator):
    stack = stack_of((12, 9, 7, 5), 3, double=False)
    inputs = torch.randn(11, 3, 4, generator=generator)
    answers = stack.logits(inputs)
    assert answers.shape == (3, 11, 5)
    for member in range(3):
        torch.testing.assert_close(answers[member], stack.module(member)(inputs).detach())


@pytest.mark.parametrize("sizes", SHAPES)
def test_members_never_reach_one_another(sizes, generator):
    """Other weights in one member leave the losses and gradients of the rest as they were, bit for bit."""
    inputs, labels = torch.randn(8, 12, generator=generator), torch.arange(8) % 5
    one, two = stack_of(sizes, 3, double=False), stack_of(sizes, 3, double=False)
    two.parameters[1] = torch.nan
    losses, others = one.backward(inputs, labels), two.backward(inputs, labels)
    assert torch.equal(losses[[0, 2]], others[[0, 2]]) and torch.isnan(others[1])
    assert torch.equal(one.gradients[[0, 2]], two.gradients[[0, 2]])


# --- taking members out and in -------------------------------------------------------------------------------------


def test_keep_and_load(generator):
    stack = stack_of((12, 7, 5), 4, double=False)
    inputs, labels = torch.randn(8, 12, generator=generator), torch.arange(8) % 5
    losses = stack.backward(inputs, labels).clone()
    whole = stack.parameters.clone()
    stack.keep([3, 1])
    assert stack.members == 2 and torch.equal(stack.parameters, whole[[3, 1]])
    assert torch.equal(stack.backward(inputs, labels), losses[[3, 1]])
    mine = whole[:3].clone()
    stack.load(mine)
    stack.parameters.zero_()
    assert stack.members == 3 and torch.equal(mine, whole[:3]), "load must copy"


def test_a_module_is_a_copy():
    stack = stack_of((12, 7, 5), 1, double=False)
    before = stack.parameters.clone()
    with torch.no_grad():
        linears(stack.module(0))[0].weight.zero_()
    assert torch.equal(stack.parameters, before)


@pytest.mark.parametrize("sizes", [(5,), (), (5, 0, 3), (-1, 3)])
def test_bad_sizes(sizes):
    with pytest.raises(ValueError, match="sizes"):
        mlp(sizes)
    with pytest.raises(ValueError, match="sizes"):
        StackedMLP(sizes, 2)


def test_bad_members_and_parameters():
    with pytest.raises(ValueError, match="members is 0"):
        StackedMLP((3, 2), 0)
    stack = StackedMLP((3, 2), 2)
    with pytest.raises(ValueError, match=r"\(members, 8\)"):
        stack.load(torch.zeros(2, 7))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.5, 0.25, 3 / 256])
def test_bytes_drop_the_share_that_was_asked_for(p, dtype):
    """Each unit by itself, the kept ones scaled; gradients go where values went."""
    torch.manual_seed(0)
    x = torch.ones(400, 501, dtype=dtype, requires_grad=True)
    out = ByteDropout(p)(x)
    out.sum().backward()
    kept = out.detach() != 0
    scale = torch.tensor(1 / (1 - p), dtype=dtype)
    assert torch.equal(out.detach(), kept * scale) and torch.equal(x.grad, out.detach())
    n = x.numel()
    assert abs(kept.float().mean().item() - (1 - p)) < 4.5 * (p * (1 - p) / n) ** 0.5
    # neighbours, and the eight bytes of a word, know nothing of one another
    coins = kept.flatten()[: n // 8 * 8].view(-1, 8).float()
    together = torch.corrcoef(coins.T).fill_diagonal_(0)
    assert together.abs().max() < 5 / len(coins) ** 0.5
    assert (coins.mean(0) - (1 - p)).abs().max() < 4.5 * (p * (1 - p) / len(coins)) ** 0.5


def test_dropout_is_off_where_it_should_be():
    x = torch.randn(5, 7)
    assert ByteDropout(0.5).eval()(x) is x and ByteDropout(0)(x) is x
    assert ByteDropout(0.5)(x.double()).dtype == torch.float64 and ByteDropout(0.5)(x[:0]).shape == (0, 7)


def test_dropout_comes_from_torchs_generator():
    layer, x = ByteDropout(0.5), torch.ones(9, 9)
    first, second = (torch.manual_seed(3) and layer(x) for _ in range(2))
    assert torch.equal(first, second) and not torch.equal(first, layer(x))


@pytest.mark.parametrize("p", [-0.5, 1.0, 1.5, 0.1, float("nan")])
def test_shares_that_bytes_cannot_drop_are_refused(p):
    with pytest.raises(ValueError, match="multiple of 1/256"):
        ByteDropout(p)

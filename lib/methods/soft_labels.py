"""Learning from another network's answers: temperature, soft cross-entropy, cached labels, and the bias of a missing class.

    probabilities = soften(teacher_logits, temperature=4)                  # softmax(z / T)
    loss = distillation_loss(logits, teacher_logits, labels, temperature=4, soft_weight=0.9)
    cached = answers(teacher, images, batch_size=1000)                     # once, in evaluation mode, no gradient
    bias = matching_bias(logits, {3: 0.1})                                 # so that class 3 gets 10 % of the mass

All losses are means over the batch. What is soft may be a teacher's answer to the whole image, kept (static), or to the very
crop that the student sees (dynamic): the functions do not care, since the labels are an argument.

Sources: Hinton, Vinyals and Dean (2015), Distilling the Knowledge in a Neural Network, arXiv 1503.02531, sections 2 and 3;
Bagherinezhad, Horton, Rastegari and Farhadi (2018), Label Refinery, arXiv 1805.02641, section 3; Szegedy et al. (2016),
arXiv 1512.00567, section 7 (label smoothing).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from lib.methods.modes import evaluating

# --- losses --------------------------------------------------------------------------------------------------------


def soften(
    logits: Float[Tensor, "*batch n_classes"], temperature: int | float = 1.0
) -> Float[Tensor, "*batch n_classes"]:
    """Class probabilities at a temperature: p_k = exp(z_k / T) / Σ_j exp(z_j / T) (Hinton et al., eq. 1).

    Raises ValueError for a temperature that is not positive.
    """
    return (logits / _positive(temperature)).softmax(-1)


def soft_cross_entropy(
    logits: Float[Tensor, "batch n_classes"],
    targets: Float[Tensor, "batch n_classes"],
    temperature: int | float = 1.0,
) -> Float[Tensor, ""]:
    """− Σ_k q_k log softmax(z / T)_k, averaged over the batch. `targets` are probabilities: rows that sum to 1."""
    return -(targets * (logits / _positive(temperature)).log_softmax(-1)).sum(-1).mean()


def distillation_loss(
    logits: Float[Tensor, "batch n_classes"],
    teacher_logits: Float[Tensor, "batch n_classes"],
    labels: Int64[Tensor, " batch"] | None = None,
    *,
    temperature: int | float,
    soft_weight: int | float,
) -> Float[Tensor, ""]:
    """a T² CE(softmax(v / T), softmax(z / T)) + (1 − a) CE(y, softmax(z)), with a = `soft_weight` (section 2).

    The gradient of the first cross-entropy shrinks as T⁻² once T is large beside the logits; T² undoes it, so that the two
    terms keep their balance when T changes. labels: needed unless a is 1. Raises ValueError for a outside [0, 1].
    """
    if not 0 <= soft_weight <= 1:
        raise ValueError(f"soft_weight is {soft_weight}; a number from 0 to 1 is wanted")
    loss = logits.new_zeros(())
    if soft_weight > 0:
        soft = soft_cross_entropy(logits, soften(teacher_logits, temperature), temperature)
        loss = loss + soft_weight * temperature**2 * soft
    if soft_weight < 1:
        if labels is None:
            raise ValueError(
                f"soft_weight is {soft_weight} and there are no labels; without labels it must be 1"
            )
        loss = loss + (1 - soft_weight) * nn.functional.cross_entropy(logits, labels)
    return loss


def logit_matching_loss(
    logits: Float[Tensor, "batch n_classes"], teacher_logits: Float[Tensor, "batch n_classes"]
) -> Float[Tensor, ""]:
    """Σ_k (z_k − v_k)² / 2K, each row centred: what T² times the soft cross-entropy tends to as T grows, less a constant.

    K is the number of classes; centring is what the softmax does not see (section 2.1, which assumes it).
    """
    gap = (logits - logits.mean(-1, keepdim=True)) - (teacher_logits - teacher_logits.mean(-1, keepdim=True))
    return gap.square().sum(-1).mean() / (2 * logits.shape[-1])


def entropy(probabilities: Float[Tensor, "*batch n_classes"]) -> Float[Tensor, "*batch"]:
    """− Σ_k p_k log p_k in nats; 0 log 0 is 0."""
    return torch.special.entr(probabilities).sum(-1)


# --- labels --------------------------------------------------------------------------------------------------------


def one_hot(labels: Int64[Tensor, " n"], n_classes: int) -> Float[Tensor, "n n_classes"]:
    """Labels as probabilities."""
    return nn.functional.one_hot(labels, n_classes).float()


def smoothed(
    labels: Int64[Tensor, " n"], n_classes: int, epsilon: int | float
) -> Float[Tensor, "n n_classes"]:
    """(1 − ε) e_y + ε / K: label smoothing. Raises ValueError for ε outside [0, 1]."""
    if not 0 <= epsilon <= 1:
        raise ValueError(f"epsilon is {epsilon}; a number from 0 to 1 is wanted")
    return (1 - epsilon) * one_hot(labels, n_classes) + epsilon / n_classes


def shuffled(
    probabilities: Float[Tensor, "n n_classes"], labels: Int64[Tensor, " n"], generator: torch.Generator
) -> Float[Tensor, "n n_classes"]:
    """A control: each example keeps the probability of its own label, the others are permuted among the other classes.

    As soft as before, class by class as confident as before, but which wrong class is likely says nothing any more.
    """
    n, n_classes = probabilities.shape
    noise = torch.rand(n, n_classes, generator=generator, device=generator.device).to(probabilities.device)
    own = labels[:, None]
    order = noise.scatter(1, own, -1.0).argsort(-1)  # the own label first, the others at random
    others = noise.new_ones(n, n_classes).scatter(1, own, -1.0).argsort(stable=True, dim=-1)
    return torch.empty_like(probabilities).scatter(1, others, probabilities.gather(1, order))


@torch.no_grad()
def answers(
    network: Callable[[Tensor], Tensor],
    images: Tensor,
    *,
    batch_size: int = 1000,
    prepare: Callable[[Tensor], Tensor] | None = None,
) -> Float[Tensor, "n n_classes"]:
    """A network's logits for all images, once: what a static teacher says.

    network: a module is put into evaluation mode meanwhile, and into its own mode again. prepare: from a batch of `images`
    to the network's inputs (a scaling), None where they are the inputs. Raises ValueError where there are no images.
    """
    if not len(images):
        raise ValueError("images is empty; one image or more is wanted")
    with evaluating(network):
        parts = [
            network(part if prepare is None else prepare(part)).float() for part in images.split(batch_size)
        ]
    return torch.cat(parts)


# --- a class that the student never saw ------------------------------------------------------------------------------


def matching_bias(
    logits: Float[Tensor, "n n_classes"], mass: Mapping[int, float], *, tolerance: float = 1e-6
) -> Float[Tensor, " n_classes"]:
    """What to add to the logits so that each class of `mass` gets that share of the mean predicted probability.

    No label is needed: the shares of the classes are. The other classes get 0. Solved class by class in turn, each by
    bisection, until all shares are met to `tolerance`: a class's mass rises from 0 to 1 with its own bias.

    Raises ValueError for shares that are not between 0 and 1, sum to 1 or more (unless they are all the classes, which must
    sum to 1; the last is then fixed at 0), or for logits that are not finite.
    """
    n_classes = logits.shape[-1]
    classes = list(mass)
    total = sum(mass.values())
    if not mass or not all(0 <= k < n_classes and 0 < share < 1 for k, share in mass.items()):
        raise ValueError(
            f"mass is {dict(mass)}; shares between 0 and 1 for some of {n_classes} classes are wanted"
        )
    if len(classes) == n_classes:
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the shares of all classes sum to {total:g}; 1 is wanted")
        classes = classes[:-1]
    elif total >= 1:
        raise ValueError(f"the shares sum to {total:g}; less than 1 is wanted, since other classes remain")
    if not torch.isfinite(logits).all():
        raise ValueError("logits holds values that are not finite")
    scores = logits.double()
    bias = torch.zeros(n_classes, dtype=torch.float64, device=logits.device)
    for _ in range(1000):
        for k in classes:
            # The mean of σ(b + z_k − log Σ_{j≠k} exp z_j) is the share of class k.
            moved = scores + bias
            others = moved.clone()
            others[:, k] = -torch.inf
            margin = scores[:, k] - others.logsumexp(-1)
            bias[k] = _bisected(margin, mass[k])
        shares = (scores + bias).softmax(-1).mean(0)
        if all(abs(shares[k].item() - mass[k]) <= tolerance for k in classes):
            return bias.to(logits.dtype)
    raise ValueError(f"no bias gives the shares {dict(mass)} to {tolerance:g}")


def _bisected(margin: Float[Tensor, " n"], share: float) -> Tensor:
    """The b for which the mean of σ(b + margin) is `share`."""
    low, high = -margin.max() - 40, -margin.min() + 40
    for _ in range(80):
        middle = (low + high) / 2
        if torch.sigmoid(middle + margin).mean() < share:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def best_bias(
    logits: Float[Tensor, "n n_classes"], labels: Int64[Tensor, " n"], classes: Sequence[int]
) -> tuple[float, int]:
    """One number added to the logits of all `classes` that leaves the fewest errors, and how many those are.

    Exact: errors change only where an example changes sides, so every interval between such places is looked at; of several
    that are equally good the one nearest to 0 is taken, at its middle. The paper chooses it so on the test set, which uses labels that
    a user would not have: see `matching_bias`. Raises ValueError where `classes` is empty or holds every class.
    """
    n_classes = logits.shape[-1]
    inside = torch.zeros(n_classes, dtype=torch.bool, device=logits.device)
    inside[list(classes)] = True
    if not inside.any() or inside.all():
        raise ValueError(f"classes is {list(classes)}; some, but not all, of {n_classes} classes are wanted")
    # An example answers with its best class inside once b > its best logit outside − its best logit inside.
    best_in, answer_in = logits[:, inside].double().max(-1)
    best_out, answer_out = logits[:, ~inside].double().max(-1)
    ids = torch.arange(n_classes, device=logits.device)
    right_in = ids[inside][answer_in] == labels
    right_out = ids[~inside][answer_out] == labels
    edges, order = (best_out - best_in).sort()
    gained = (right_in[order].long() - right_out[order].long()).cumsum(0)
    right = right_out.sum() + torch.cat([gained.new_zeros(1), gained])  # right[i]: b lies above i edges
    # Between edge i − 1 and edge i; beyond the ends, one unit further. Equal edges leave no room between them.
    inner = (edges[1:] + edges[:-1]) / 2
    places = torch.cat([edges[:1] - 1, inner, edges[-1:] + 1])
    room = torch.cat(
        [edges.new_ones(1, dtype=torch.bool), edges[1:] > edges[:-1], edges.new_ones(1, dtype=torch.bool)]
    )
    right = torch.where(room, right, -1)
    most = right.max()
    tied = places[right == most]
    bias = tied[tied.abs().argmin()]
    return bias.item(), int(len(labels) - most)


def _positive(value: int | float, name: str = "temperature") -> int | float:
    if not value > 0:
        raise ValueError(f"{name} is {value}; a positive number is wanted")
    return value

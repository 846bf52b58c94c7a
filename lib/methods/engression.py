"""Engression: regression that learns the whole conditional distribution, as samples g(x, ε), by the energy loss.

    model = Engressor(random_state=0).fit(X, y)          # X (n, p), y (n,) or (n, k)
    model.predict(X)                                     # conditional means
    model.predict(X, quantiles=[0.1, 0.5, 0.9])          # conditional quantiles, (n, 3)
    model.sample(X, 100)                                 # draws from Y | X = x, (n, 100)
    model.score(X, y)                                    # 1 − energy score / energy score of the marginal

and its parts, for networks and loops of one's own:

    net = StochasticNet(1, 1, blocks=2)                  # g(x, ε): a network that is given noise beside x
    trainer = Trainer(net, x, y, m=2, lr=1e-2, seed=0)   # tensors (n, p) and (n, k)
    for _ in range(trainer.steps_per_epoch * 20):
        trainer.step()
    draw(net, x, 512, generator)                         # (n, 512, k), in evaluation mode, by blocks

The network is trained by min E[|Y − g(X, ε)| − ½ |g(X, ε) − g(X, ε')|], which the true conditional distribution minimises.
All m samples of a batch go through the network in one pass: what x contributes to the first layer is computed once, and
batch norm sees all of them.

Source: Shen and Meinshausen (2024), Engression: extrapolation through the lens of distributional regression, JRSS-B,
arXiv 2307.00835, section 2; their package `engression` for the plain network (noise beside each hidden layer, batch norm,
ReLU) and the standardisation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted, check_random_state, validate_data
from torch import Tensor, nn
from torch.nn import functional

from lib.methods.scores import energy_loss, energy_scores, energy_terms, unchecked_terms

__all__ = [
    "Engressor",
    "StochasticNet",
    "Trainer",
    "draw",
    "energy_loss",
    "energy_scores",
    "energy_terms",
    "marginal_score",
]

Objective = Callable[[Tensor, Tensor], Tensor]
"""From y (n, d) and samples (n, m, d) to the loss."""
ROWS = 1 << 16
"""Rows that go through a network at a time when samples are drawn."""


# --- the network ---------------------------------------------------------------------------------------------------


class StochasticNet(nn.Module):
    """g(x, ε): a multilayer perceptron that is given noise beside x.

    n_in, n_out: dimensions of x and y. width: units of each hidden layer. layers: hidden layers with noise of their own.
    blocks: residual blocks of two layers each after them, without noise. noise_dim: entries of ε; with 0 it is an
    ordinary network. noise: `normal`, or `uniform` on [0, 1]; noise_scale multiplies it. generator: of the first weights
    (torch's default scheme). Raises ValueError for sizes that cannot be.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        width: int = 100,
        layers: int = 1,
        blocks: int = 0,
        noise_dim: int = 100,
        noise: str = "normal",
        noise_scale: float | int = 1.0,
        batch_norm: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        sizes = {"n_in": n_in, "n_out": n_out, "width": width, "layers": layers}
        for name, value in sizes.items():
            if value < 1:
                raise ValueError(f"{name} is {value}; 1 or more is wanted")
        if blocks < 0 or noise_dim < 0:
            raise ValueError(f"blocks is {blocks} and noise_dim {noise_dim}; 0 or more are wanted")
        if noise not in ("normal", "uniform"):
            raise ValueError(f"noise is {noise!r}; 'normal' or 'uniform' is wanted")
        if not (math.isfinite(noise_scale) and noise_scale > 0):
            raise ValueError(f"noise_scale is {noise_scale!r}; a number above 0 is wanted")
        self.n_in, self.n_out, self.noise_dim = n_in, n_out, noise_dim
        self.noise, self.noise_scale = noise, noise_scale
        norm = nn.BatchNorm1d if batch_norm else nn.Identity
        inputs = [n_in, *[width] * (layers - 1)]
        self.noisy = nn.ModuleList(_linear(n + noise_dim, width, generator) for n in inputs)
        self.noisy_norms = nn.ModuleList(norm(width) for _ in inputs)
        self.block_layers = nn.ModuleList(_linear(width, width, generator) for _ in range(2 * blocks))
        self.block_norms = nn.ModuleList(norm(width) for _ in range(2 * blocks))
        self.out = _linear(width, n_out, generator)

    def forward(
        self,
        x: Float[Tensor, "n n_in"],
        m: int = 1,
        generator: torch.Generator | None = None,
        noise: Sequence[Tensor] | None = None,
    ) -> Float[Tensor, "n m n_out"]:
        """m samples for each row of x; with noise from `generator`, or as given (see `draw_noise`)."""
        if noise is None:
            noise = self.draw_noise(m, len(x), generator)
        hidden = x[None]
        for layer, norm, eps in zip(self.noisy, self.noisy_norms, noise, strict=True):
            assert isinstance(layer, nn.Linear)
            n_in = hidden.shape[-1]
            # W [x, ε] + b = W_x x + b + W_ε ε: the first part is the same for all samples of an example
            hidden = functional.linear(hidden, layer.weight[:, :n_in], layer.bias)
            if self.noise_dim:
                hidden = hidden + functional.linear(eps, layer.weight[:, n_in:])
            hidden = _normed(norm, hidden).relu_()
        for i in range(0, len(self.block_layers), 2):
            inner = _normed(self.block_norms[i], self.block_layers[i](hidden)).relu_()
            hidden = (hidden + _normed(self.block_norms[i + 1], self.block_layers[i + 1](inner))).relu_()
        return self.out(hidden).expand(m, -1, -1).transpose(0, 1)

    def draw_noise(
        self, m: int, n: int, generator: torch.Generator | None = None, out: Sequence[Tensor] | None = None
    ) -> list[Tensor]:
        """Noise for each noisy layer, (m, n, noise_dim); n = 1 gives all examples the same. `out` is written over."""
        like = self.out.weight
        if out is None:
            out = [like.new_empty(m, n, self.noise_dim) for _ in self.noisy]
        for tensor in out:
            if self.noise == "normal":
                tensor.normal_(generator=generator)
            else:
                tensor.uniform_(generator=generator)
            if self.noise_scale != 1:
                tensor.mul_(self.noise_scale)
        return list(out)


def _linear(n_in: int, n_out: int, generator: torch.Generator | None) -> nn.Linear:
    """torch's default initialisation, from a generator: uniform in ± 1 / √n_in."""
    layer = nn.utils.skip_init(nn.Linear, n_in, n_out)
    bound = 1 / math.sqrt(n_in)
    nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
    nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
    return layer


def _normed(norm: nn.Module, hidden: Tensor) -> Tensor:
    """Batch norm over all samples of all examples."""
    return norm(hidden.flatten(0, -2)).view_as(hidden)


@torch.no_grad()
def draw(
    network: nn.Module,
    x: Float[Tensor, "n n_in"],
    m: int,
    generator: torch.Generator | None = None,
    *,
    common: bool = False,
) -> Float[Tensor, "n m n_out"]:
    """m samples for each row of x, in evaluation mode (batch-norm statistics stay as they are), by blocks of rows.

    common: the same noise for every row, so that the samples of a row do not depend on the others, and quantiles are
    smooth in x; then `network` must be a StochasticNet.
    """
    was_training = network.training
    network.eval()
    try:
        if common and not isinstance(network, StochasticNet):
            raise ValueError(f"common noise takes a StochasticNet, not a {type(network).__name__}")
        noise = network.draw_noise(m, 1, generator) if isinstance(network, StochasticNet) and common else None
        rows = max(1, ROWS // m)
        parts = [
            network(x[start : start + rows], m, generator, noise)
            if noise is not None
            else network(x[start : start + rows], m, generator)
            for start in range(0, len(x), rows)
        ]
        return torch.cat(parts)
    finally:
        network.train(was_training)


# --- training ------------------------------------------------------------------------------------------------------


class Trainer:
    """Adam on the energy loss (or another objective), over shuffled batches of tensors that are already on the device.

    network: called as `network(x, m, generator)`, giving (batch, m, d). x, y: (n, p) and (n, d). m: samples an example.
    batch_size: None, or n or more, for all at once; else what is left over at the end of a pass waits for another pass.
    objective: (y, samples) → loss, in place of the energy loss with `beta`. seed: of order and noise (the first weights
    are the network's own). shuffle: False goes through the data in their order. precision: `bf16` runs the matrix
    products under autocast. Raises ValueError for values that cannot be.
    """

    def __init__(
        self,
        network: nn.Module,
        x: Float[Tensor, "n p"],
        y: Float[Tensor, "n d"],
        *,
        m: int = 2,
        beta: float | int = 1,
        lr: float | int = 1e-3,
        batch_size: int | None = None,
        objective: Objective | None = None,
        seed: int = 0,
        shuffle: bool = True,
        precision: str = "fp32",
    ) -> None:
        if len(x) != len(y) or len(x) < 1:
            raise ValueError(f"x has {len(x)} rows and y {len(y)}; as many, and at least 1, are wanted")
        if objective is None and m < 2:
            raise ValueError(f"m is {m}; the energy loss takes 2 samples or more")
        if batch_size is not None and batch_size < 2:
            raise ValueError(f"batch_size is {batch_size}; 2 or more, or None, is wanted")
        if not (math.isfinite(lr) and lr > 0):
            raise ValueError(f"lr is {lr!r}; a number above 0 is wanted")
        if precision not in ("fp32", "bf16"):
            raise ValueError(f"precision is {precision!r}; 'fp32' or 'bf16' is wanted")
        self.network, self.x, self.y, self.m = network, x, y, m
        self.objective = objective or _Energy(beta)
        self.batch_size = min(batch_size or len(x), len(x))
        self.shuffle, self.precision = shuffle, precision
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(self.parameters, lr=lr, fused=True)
        self.order_generator = torch.Generator().manual_seed(seed)
        self.noise_generator = torch.Generator(device=x.device).manual_seed(seed + 1)
        self.order = torch.empty(0, dtype=torch.int64)
        self.done = 0
        self._noise: list[Tensor] | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Batches in a pass over the data."""
        return len(self.x) // self.batch_size

    def batch(self) -> tuple[Tensor, Tensor]:
        """The next batch; a new order at the start of each pass."""
        if self.batch_size == len(self.x):
            return self.x, self.y
        place = self.done % self.steps_per_epoch
        if not self.shuffle:
            rows = slice(place * self.batch_size, (place + 1) * self.batch_size)
            return self.x[rows], self.y[rows]
        if place == 0:
            self.order = torch.randperm(len(self.x), generator=self.order_generator).to(self.x.device)
        index = self.order[place * self.batch_size : (place + 1) * self.batch_size]
        return self.x.index_select(0, index), self.y.index_select(0, index)

    def samples(self, x: Tensor) -> Tensor:
        """m samples for each row, in one pass through the network; noise is written into memory that is kept."""
        if not isinstance(self.network, StochasticNet):
            return self.network(x, self.m, self.noise_generator)
        if self._noise is None or self._noise[0].shape[1] != len(x):
            self._noise = self.network.draw_noise(self.m, len(x), self.noise_generator)
        else:
            self.network.draw_noise(self.m, len(x), self.noise_generator, self._noise)
        return self.network(x, self.m, noise=self._noise)

    def step(self) -> Float[Tensor, ""]:
        """One batch; its loss (detached, on the device)."""
        self.network.train()
        x, y = self.batch()
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            samples = self.samples(x)
        loss = self.objective(y, samples.to(y.dtype))
        for parameter in self.parameters:
            parameter.grad = None
        loss.backward()
        self.optimizer.step()
        self.done += 1
        return loss.detach()

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on, as nested dicts and lists of tensors."""
        moments = [dict(self.optimizer.state[p]) for p in self.parameters if p in self.optimizer.state]
        return {
            "network": dict(self.network.state_dict()),
            "moments": moments,
            "order": self.order,
            "order_generator": self.order_generator.get_state(),
            "noise_generator": self.noise_generator.get_state(),
            "done": self.done,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state()`."""
        self.network.load_state_dict(state["network"])
        for parameter, moments in zip(self.parameters, state["moments"], strict=False):
            kept = {}
            for name, value in moments.items():
                kept[name] = value.to(parameter.device).clone()
            self.optimizer.state[parameter] = kept
        self.order = state["order"].to(self.x.device)
        self.order_generator.set_state(state["order_generator"].cpu())
        self.noise_generator.set_state(state["noise_generator"].cpu())
        self.done = int(state["done"])


class _Energy:
    """The energy loss of a batch, without looking for NaN at each step."""

    def __init__(self, beta: float | int) -> None:
        if not 0 < beta <= 2:
            raise ValueError(f"beta is {beta!r}; a number in (0, 2] is wanted")
        self.beta = beta

    def __call__(self, y: Tensor, samples: Tensor) -> Tensor:
        first, second = unchecked_terms(y, samples, self.beta)
        return first - second / 2


def marginal_score(y: Float[Tensor, "n d"], beta: float | int = 1) -> Float[Tensor, ""]:
    """½ E|Y − Y'|^β over pairs of different rows: the energy score of who knows the distribution of Y but not x."""
    if len(y) < 2:
        raise ValueError(f"y has {len(y)} row; two or more are wanted")
    return energy_terms(y[:1], y[None], beta)[1] / 2


# --- the estimator -------------------------------------------------------------------------------------------------


class Engressor(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Distributional regression in the manner of scikit-learn.

    width, layers, blocks, noise_dim, noise, noise_scale, batch_norm: of the network (`StochasticNet`). m: samples an
    example in training. beta: of the energy loss. lr, epochs, batch_size: of Adam; None for batch_size takes all at once.
    n_draws: samples behind each prediction. standardize: train on columns with mean 0 and variance 1. random_state: of
    weights, order, noise and predictions. device: a torch device. precision: `fp32` or `bf16`.

    After `fit`: network_, n_features_in_, loss_ (the mean loss of each epoch, on the scale of training). A column of y
    that is constant is predicted as that constant, whatever X is.
    """

    def __init__(
        self,
        *,
        width: int = 100,
        layers: int = 1,
        blocks: int = 0,
        noise_dim: int = 100,
        noise: str = "normal",
        noise_scale: float = 1.0,
        batch_norm: bool = True,
        m: int = 2,
        beta: float | int = 1.0,
        lr: float = 1e-2,
        epochs: int = 200,
        batch_size: int | None = 1000,
        n_draws: int = 512,
        standardize: bool = True,
        random_state: int | np.random.RandomState | None = None,
        device: str = "cpu",
        precision: str = "fp32",
    ) -> None:
        self.width = width
        self.layers = layers
        self.blocks = blocks
        self.noise_dim = noise_dim
        self.noise = noise
        self.noise_scale = noise_scale
        self.batch_norm = batch_norm
        self.m = m
        self.beta = beta
        self.lr = lr
        self.epochs = epochs
        self.batch_size = batch_size
        self.n_draws = n_draws
        self.standardize = standardize
        self.random_state = random_state
        self.device = device
        self.precision = precision

    def fit(self, X: Any, y: Any) -> Engressor:
        """Train on X (n, p) and y (n,) or (n, k). Raises ValueError for one example, NaN, or settings that cannot be."""
        X, y = validate_data(self, X, y, multi_output=True, y_numeric=True, dtype=np.float64)
        if len(X) < 2:
            raise ValueError(f"n_samples={len(X)}; a distribution takes at least 2")
        if self.noise_dim < 1 or self.epochs < 1 or self.n_draws < 2:
            raise ValueError(
                f"noise_dim is {self.noise_dim}, epochs {self.epochs}, n_draws {self.n_draws}; "
                "at least 1, 1 and 2 are wanted"
            )
        targets = np.array(y, dtype=np.float64)
        self.flat_ = targets.ndim == 1
        targets = targets.reshape(len(targets), -1)
        self.n_outputs_ = targets.shape[1]
        seeds = check_random_state(self.random_state).randint(np.iinfo(np.int32).max, size=3)
        weights = torch.Generator().manual_seed(int(seeds[0]))
        self.seed_ = int(seeds[2])
        self.x_mean_, self.x_scale_ = _location(X, self.standardize)
        self.y_mean_, self.y_scale_ = _location(targets, self.standardize)
        self.constant_ = np.ptp(targets, axis=0) == 0
        self.y_mean_[self.constant_] = targets[0, self.constant_]
        self.network_ = StochasticNet(
            X.shape[1],
            self.n_outputs_,
            width=self.width,
            layers=self.layers,
            blocks=self.blocks,
            noise_dim=self.noise_dim,
            noise=self.noise,
            noise_scale=self.noise_scale,
            batch_norm=self.batch_norm,
            generator=weights,
        ).to(self.device)
        from lib.methods.plain_step import PlainTrainer, fits

        kind = PlainTrainer if fits(self.network_, self.precision) else Trainer
        trainer = kind(
            self.network_,
            self._tensor((X - self.x_mean_) / self.x_scale_, torch.float32),
            self._tensor((targets - self.y_mean_) / self.y_scale_, torch.float32),
            m=self.m,
            beta=self.beta,
            lr=self.lr,
            batch_size=self.batch_size,
            seed=int(seeds[1]),
            precision=self.precision,
        )
        per_epoch, losses = trainer.steps_per_epoch, []
        for _ in range(0 if self.constant_.all() else self.epochs):
            total = torch.zeros((), device=trainer.x.device)
            for _ in range(per_epoch):
                total += trainer.step()
            losses.append(total / per_epoch)
        self.loss_ = np.array([float(loss) for loss in losses])
        self.n_iter_ = max(1, trainer.done)
        self.network_.eval()
        return self

    def sample(
        self,
        X: Any,
        n_samples: int = 100,
        *,
        common_noise: bool = False,
        random_state: int | np.random.RandomState | None = None,
    ) -> np.ndarray:
        """Draws from the fitted distribution at each row of X: (n, n_samples), or (n, n_samples, k) for y (n, k).

        common_noise: the same noise for every row, as predictions have. random_state: None gives the same draws at each
        call.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        if n_samples < 1:
            raise ValueError(f"n_samples is {n_samples}; 1 or more is wanted")
        seed = self.seed_
        if random_state is not None:
            seed = int(check_random_state(random_state).randint(np.iinfo(np.int32).max))
        generator = torch.Generator(device=self.device).manual_seed(seed)
        inputs = (X - self.x_mean_) / self.x_scale_
        # in double precision a row's result does not depend on the rows beside it (to 1e-12)
        network = self.network_.double()
        try:
            found = draw(
                network, self._tensor(inputs, torch.float64), n_samples, generator, common=common_noise
            )
        finally:
            network.float()
        values = found.cpu().numpy() * self.y_scale_ + self.y_mean_
        values[..., self.constant_] = self.y_mean_[self.constant_]
        return values[..., 0] if self.flat_ else values

    def predict(self, X: Any, quantiles: float | Sequence[float] | None = None) -> np.ndarray:
        """Conditional means, (n,) or (n, k); or quantiles: for a number the same shape, for q of them (n, q) or (n, q, k).

        From `n_draws` samples with the same noise at every row. Raises ValueError for a quantile outside [0, 1].
        """
        check_is_fitted(self)
        samples = None
        if quantiles is not None:
            levels = np.asarray(quantiles, dtype=float)
            if levels.ndim > 1 or not ((levels >= 0) & (levels <= 1)).all():
                raise ValueError(
                    f"quantiles are {quantiles!r}; a number in [0, 1], or a list of them, is wanted"
                )
        samples = self.sample(X, self.n_draws, common_noise=True)
        if quantiles is None:
            return samples.mean(axis=1)
        found = np.quantile(samples, levels, axis=1)
        return found if levels.ndim == 0 else np.moveaxis(found, 0, 1)

    def energy_score(self, X: Any, y: Any) -> float:
        """The mean energy score at (X, y): smaller is better, in the unit of y."""
        check_is_fitted(self)
        samples = self.sample(X, self.n_draws)
        truth = torch.as_tensor(np.array(y, dtype=np.float64))
        return float(energy_loss(truth, torch.as_tensor(samples), self.beta))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The skill: 1 − energy score / energy score of the marginal distribution of `y`; 1 is perfect, 0 no better.

        It is to the energy score what R² is to squared error. A constant `y` gives 1 where it is met exactly, else 0.
        """
        if sample_weight is not None:
            raise ValueError("sample_weight is not supported")
        found = self.energy_score(X, y)
        truth = torch.as_tensor(np.array(y, dtype=np.float64)).reshape(len(y), -1)
        marginal = float(marginal_score(truth, self.beta))
        return 1 - found / marginal if marginal > 0 else float(found == 0)

    def _tensor(self, values: np.ndarray, dtype: torch.dtype) -> Tensor:
        return torch.as_tensor(values, dtype=dtype, device=self.device)


def _location(values: np.ndarray, standardize: bool) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column, or 0 and 1; a constant column has 1."""
    if not standardize:
        return np.zeros(values.shape[1]), np.ones(values.shape[1])
    scale = values.std(axis=0, ddof=1)
    return values.mean(axis=0), np.where(np.ptp(values, axis=0) == 0, 1.0, scale)

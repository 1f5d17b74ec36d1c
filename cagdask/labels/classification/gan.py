"""A small generative adversarial network that draws samples of a label in the plane of principal components.

    noise, label --generator--> place in the plane --+
                     place of a training sample -----+--critic--> real or made, for this label

Both are networks of two hidden layers of :data:`WIDTH` units. All labels are trained together, drawn equally often, so
that a rare label profits from what is common to all. The generator that is kept is the one whose samples were nearest
to real ones, label by label; training ends when it has not come nearer for :data:`PATIENCE` looks. A label is looked at
by samples that training had not seen, and by all of its own where these are too few to tell.

What it draws for a rare label is thrown away if it has *collapsed* (spread over less than :data:`LEAST_SPREAD` of what
the label's samples are) or if it is *misplaced* (its middle is nearer to that of another label than to its own).

Needs PyTorch. Runs in one thread and from a seed: the same machine and version draw the same samples.

References
----------
.. [1] Goodfellow et al. (2014). Generative adversarial nets.
.. [2] Mirza and Osindero (2014). Conditional generative adversarial nets.
.. [3] Székely and Rizzo (2013). Energy statistics: statistics based on distances.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_LOCK = threading.Lock()
_before: list[int] = []
"""Threads of PyTorch that were found by each training that is under way."""
NOISE, WIDTH = 16, 64
BATCH = 64
RATE = 5e-4
MOST_STEPS = 1_500
LOOK_EVERY, PATIENCE = 50, 8
"""Steps between two looks at samples that are not trained on, and looks without a nearer generator that end it."""
APART, ENOUGH = 0.2, 10
"""Share of the samples that is looked at, and samples of a label from which on some are taken for it."""
LEAST_SPREAD = 0.4
DRAWN, GLANCE = 200, 64
"""Samples that are drawn to judge a label, and at each look."""


@dataclass(frozen=True)
class Trained:
    """A generator, in a plane that was centered and scaled; ``steps`` is when the kept one was found."""

    network: Any
    center: Float64
    scale: Float64
    n_labels: int
    steps: int

    def draw(self, label: int, n: int, rng: np.random.Generator) -> Float64:
        """Places of new samples of a label, shape (n, n_components)."""
        import torch

        noise = torch.from_numpy(rng.normal(size=(n, NOISE)).astype(np.float32))
        mark = torch.zeros((n, self.n_labels))
        mark[:, label] = 1
        with _one_thread(), torch.no_grad():
            found = self.network(torch.cat([noise, mark], 1)).numpy()
        return np.asarray(found * self.scale + self.center, np.float64)


def is_installed() -> bool:
    """Whether there is PyTorch."""
    return importlib.util.find_spec("torch") is not None


def check_installed() -> None:
    """Refuse a network where there is no PyTorch.

    Raises
    ------
    ValueError
        PyTorch is not installed.
    """
    if not is_installed():
        raise ValueError(
            "`augment='gan'` needs PyTorch, which is not installed. Install it with pip install \"cagdask[gan]\", or "
            "choose smote or gaussian."
        )


def train(place: Float64, label: Int64, n_labels: int, seed: int) -> Trained:
    """A generator of samples in a plane.

    Parameters
    ----------
    place
        Training samples, shape (n_samples, n_components).
    label
        Label of each, shape (n_samples,), below ``n_labels``; -1 for none.
    n_labels
        Labels.
    seed
        Of all that is random.
    """
    import torch

    center, scale = place.mean(axis=0), place.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    data = ((place - center) / scale).astype(np.float32)
    rng = np.random.default_rng([seed, 1])
    apart = _apart(label, rng)
    with _one_thread():
        with _LOCK:  # other splits may be at it in other threads, and PyTorch draws first weights from one generator
            torch.manual_seed(seed)
            networks = _network(NOISE + n_labels, data.shape[1]), _network(data.shape[1] + n_labels, 1)
        steps = _fitted(networks, data, label, n_labels, apart, rng)
    return Trained(networks[0], center, scale, n_labels, steps)


def why_not(generator: Trained, place: Float64, label: Int64, one: int, rng: np.random.Generator) -> str:
    """Why what is drawn for a label is not used: ``collapsed`` or ``misplaced``; empty if it is.

    Parameters
    ----------
    generator, place, label
        What :func:`train` gave and was given.
    one
        The label.
    rng
        Of the draws.
    """
    drawn = generator.draw(one, DRAWN, rng)
    own = place[label == one]
    spread = _spread(own) if len(own) >= 3 else _spread(place - _middles(place, label)[np.maximum(label, 0)])
    if _spread(drawn) < LEAST_SPREAD * spread:
        return "collapsed"
    middles = _middles(place, label)
    distance = ((middles - drawn.mean(axis=0)) ** 2).sum(axis=1)
    known = np.isfinite(distance)
    return "" if int(np.flatnonzero(known)[distance[known].argmin()]) == one else "misplaced"


def _middles(place: Float64, label: Int64) -> Float64:
    """Mean of each label, shape (n_labels, n_components); NaN for one without samples."""
    made = np.full((int(label.max()) + 1, place.shape[1]), np.nan)
    for one in np.unique(label[label >= 0]):
        made[one] = place[label == one].mean(axis=0)
    return made


def _spread(place: Float64) -> float:
    """Root mean square distance from the middle."""
    return float(np.sqrt(np.nanvar(place, axis=0).sum()))


def _apart(label: Int64, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Samples that are not trained on; a rare label keeps all of its own."""
    made = np.zeros(len(label), bool)
    for one in np.unique(label[label >= 0]):
        own = np.flatnonzero(label == one)
        if len(own) >= ENOUGH:
            made[rng.permutation(own)[: int(APART * len(own))]] = True
    return made


def _seen(label: Int64, apart: NDArray[np.bool_]) -> dict[int, Int64]:
    """Samples by which each label is looked at: pooled, a rare one would not be seen at all."""
    made: dict[int, Int64] = {}
    for one in np.unique(label[label >= 0]).tolist():
        own = np.flatnonzero(label == one)
        kept = own[apart[own]]
        made[one] = kept if len(kept) >= ENOUGH else own
    return made


def _network(n_in: int, n_out: int) -> Any:
    from torch import nn

    return nn.Sequential(nn.Linear(n_in, WIDTH), nn.LeakyReLU(0.2), nn.Linear(WIDTH, WIDTH), nn.LeakyReLU(0.2),
                         nn.Linear(WIDTH, n_out))  # fmt: skip


def _fitted(
    networks: tuple[Any, Any], data: NDArray[np.float32], label: Int64, n_labels: int, apart: NDArray[np.bool_],
    rng: np.random.Generator,
) -> int:  # fmt: skip
    """Train generator and critic in turn; the generator is left as it was when it was nearest."""
    import torch

    generator, critic = networks
    trained = np.flatnonzero(~apart & (label >= 0))
    seen = _seen(label, apart)
    chance = 1 / np.bincount(label[trained], minlength=n_labels)[label[trained]]
    chance /= chance.sum()
    marks = torch.eye(n_labels)
    optimizers = [torch.optim.Adam(one.parameters(), RATE, betas=(0.5, 0.9)) for one in networks]
    nearest, kept, found = np.inf, _copy(generator), 0

    def made(labels: Int64) -> tuple[Any, Any]:
        noise = torch.from_numpy(rng.normal(size=(len(labels), NOISE)).astype(np.float32))
        return generator(torch.cat([noise, marks[labels]], 1)), marks[labels]

    for step in range(1, MOST_STEPS + 1):
        batch = rng.choice(trained, BATCH, p=chance)
        real = torch.from_numpy(data[batch])
        drawn, mark = made(label[batch])
        _step(optimizers[1], _critic_loss(critic, real, drawn.detach(), mark))
        _step(optimizers[0], -critic(torch.cat([drawn, mark], 1)).mean())
        if step % LOOK_EVERY == 0:
            with torch.no_grad():
                looks = [energy_distance(made(np.full(GLANCE, one))[0].numpy(), data[own]) for one, own in seen.items()]
            distance = float(np.mean(looks))
            if distance < nearest:
                nearest, kept, found = distance, _copy(generator), step
            elif step - found >= PATIENCE * LOOK_EVERY:
                break
    generator.load_state_dict(kept)
    return found


def _critic_loss(critic: Any, real: Any, drawn: Any, mark: Any) -> Any:
    """Hinge loss, with a penalty on the slope at real samples that keeps the critic from running away."""
    import torch

    real = real.requires_grad_(True)
    right, wrong = critic(torch.cat([real, mark], 1)), critic(torch.cat([drawn, mark], 1))
    (slope,) = torch.autograd.grad(right.sum(), real, create_graph=True)
    penalty = (slope**2).sum(1).mean()
    return torch.relu(1 - right).mean() + torch.relu(1 + wrong).mean() + penalty


def _step(optimizer: Any, loss: Any) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def _copy(network: Any) -> dict[str, Any]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def energy_distance(first: NDArray[Any], second: NDArray[Any]) -> float:
    """How far two samples are from being of one distribution [3]_: 0 if they are the same."""
    from scipy.spatial.distance import cdist, pdist

    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    within = [2 * pdist(one).sum() / len(one) ** 2 for one in (a, b)]
    return float(2 * cdist(a, b).mean() - sum(within))


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread of PyTorch: workers compute side by side, and sums have one order."""
    import torch

    with _LOCK:
        _before.append(torch.get_num_threads())
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _LOCK:  # splits run side by side: the last one out restores what the first one found
            last = _before.pop()
            if not _before:
                torch.set_num_threads(last)

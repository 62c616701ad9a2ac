"""Dissimilarities between VAE's encodings of x and of its healthy reconstruction x_h."""

from __future__ import annotations

from torch import Tensor

from twinvae.scoring import posterior
from twinvae.scoring.batch import SliceBatch
from twinvae.scoring.needs import healthy_encodes, mixed_encodes
from twinvae.scoring.registry import score


@score(
    "latent_l2",
    "L2 distance between VAE's posterior means of x and of x_h (the paper's score)",
    "Albu, Enescu & Malagò 2020, Algorithm 1",
    applies=mixed_encodes,
)
def latent_l2(batch: SliceBatch) -> Tensor:
    """d(x) = ‖μ(x) − μ(x_h)‖₂."""
    return posterior.l2(batch.posterior, batch.posterior_h)


@score(
    "healthy_mean_norm",
    "L2 norm of VAE-H's posterior mean of x",
    "Albu, Enescu & Malagò 2020 (second statistic compared with)",
    applies=healthy_encodes,
)
def healthy_mean_norm(batch: SliceBatch) -> Tensor:
    """‖μ_H(x)‖₂: distance of the encoding from the prior's centre."""
    return batch.healthy_posterior.mean.square().sum(dim=1).sqrt()


_NAMED_NEXT = "named by Albu, Enescu & Malagò 2020 as next; "
_OTHERS: tuple[tuple[str, posterior.Distance, str, str], ...] = (
    ("l1", posterior.l1, "L1 distance between the means", "the paper's score, other norm"),
    ("cosine", posterior.cosine, "one minus the cosine between the means", "angle, not length"),
    ("kl", posterior.kl, "KL(q(z|x) ‖ q(z|x_h))", _NAMED_NEXT + "Kullback & Leibler 1951"),
    ("kl_reverse", posterior.kl_reverse, "KL(q(z|x_h) ‖ q(z|x))", _NAMED_NEXT + "as latent_kl"),
    ("jeffreys", posterior.jeffreys, "sum of the KL both ways", "Jeffreys 1946"),
    ("w2", posterior.wasserstein, "2-Wasserstein distance",
     _NAMED_NEXT + "Olkin & Pukelsheim 1982"),
    ("fisher_rao", posterior.fisher_rao, "geodesic distance under the Fisher metric",
     _NAMED_NEXT + "Costa, Santos & Strapasson 2015"),
    ("bhattacharyya", posterior.bhattacharyya, "minus the log of the overlap",
     "Bhattacharyya 1943"),
    ("hellinger", posterior.hellinger, "Hellinger distance; saturates at 1", "Hellinger 1909"),
    ("expected_l1", posterior.expected_l1, "expected L1 distance between samples, exact",
     "Leone, Nelson & Nottingham 1961 (mean of a folded normal)"),
    ("expected_l2", posterior.expected_l2, "expected L2 distance between samples, fixed draws",
     "Monte Carlo with the same mirrored draws for every slice"),
)  # fmt: skip


def _register(name: str, distance: posterior.Distance, summary: str, source: str) -> None:
    def compute(batch: SliceBatch) -> Tensor:
        return distance(batch.posterior, batch.posterior_h)

    compute.__doc__ = distance.__doc__
    about = f"{summary}, between VAE's posteriors of x and x_h"
    score(f"latent_{name}", about, source, applies=mixed_encodes)(compute)


for _entry in _OTHERS:
    _register(*_entry)

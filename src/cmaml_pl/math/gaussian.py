"""Diagonal Gaussians over the last axis. A batch may have no rows; torch's Independent would refuse such a batch."""

from torch import Tensor
from torch.distributions import Normal, kl_divergence


def _normal(loc: Tensor, scale: Tensor) -> Normal:
    return Normal(loc, scale, validate_args=False)


def gaussian_log_prob(loc: Tensor, scale: Tensor, value: Tensor) -> Tensor:
    """Log N(value; loc, scale^2), nats: (..., A), (..., A), (..., A) -> (...)."""
    log_prob: Tensor = _normal(loc, scale).log_prob(value)
    return log_prob.sum(dim=-1)


def gaussian_kl(loc: Tensor, scale: Tensor, new_loc: Tensor, new_scale: Tensor) -> Tensor:
    """KL(old || new), nats: four times (..., A) -> (...)."""
    return kl_divergence(_normal(loc, scale), _normal(new_loc, new_scale)).sum(dim=-1)

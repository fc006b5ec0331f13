"""Longer and shorter adaptation steps."""

from dataclasses import dataclass, field

import pytest
import torch
from tests.helpers import make_actor, make_method, make_task_data

from cmaml_pl.configuration.registry import INNER_METHODS
from cmaml_pl.inner.base import InnerMethod
from cmaml_pl.inner.trust_region import TrustRegion

STRETCHABLE = [name for name in INNER_METHODS if name != "safemeta"]


@dataclass(frozen=True, kw_only=True)
class Own(InnerMethod):
    method: str = "own"

    def step(self, actor, theta, multiplier, data):
        raise AssertionError


@dataclass(frozen=True, kw_only=True)
class OwnInARegion(Own):
    trust_region: TrustRegion = field(default_factory=TrustRegion)


@pytest.mark.parametrize("name", STRETCHABLE)
def test_twice_the_length_is_four_times_the_divergence(name):
    actor = make_actor()
    theta = actor.vector().expand(3, -1)
    data = make_task_data(actor, theta, samples=200, episode_cost=0.0, cost_limit=1000.0)
    method = make_method(name, region={"max_kl": 0.004, "passes": 1, "lr": 2e-3})
    assert method.stretchable
    once, twice = (method.stretched(f).step(actor, theta, torch.ones(3), data) for f in (1.0, 2.0))
    torch.testing.assert_close(twice.kl / once.kl, torch.full((3,), 4.0), rtol=0.2, atol=0.0)
    assert torch.equal(once.theta, method.step(actor, theta, torch.ones(3), data).theta)


@pytest.mark.parametrize("method", [Own(), make_method("safemeta")])
def test_a_method_whose_trust_region_does_not_set_the_length_says_so(method):
    assert not method.stretchable
    with pytest.raises(NotImplementedError, match=method.method):
        method.stretched(2.0)


def test_a_method_of_ones_own_with_a_trust_region_needs_nothing_more():
    assert OwnInARegion().stretchable
    assert OwnInARegion().stretched(2.0).trust_region.max_kl == pytest.approx(4 * TrustRegion().max_kl)

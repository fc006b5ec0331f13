"""What is deployed while real policies adapt, on nav2d."""

import pytest
import torch

from cmaml_pl.assembly import build_datamodule, build_trainer, open_module
from cmaml_pl.configuration.loading import load_experiment
from cmaml_pl.configuration.registry import DEPLOYMENTS
from cmaml_pl.deployment.base import Adapted, Deployed
from cmaml_pl.deployment.mixture import Mixture
from cmaml_pl.errors import UserError
from cmaml_pl.runs.folder import RunFolder

# a policy that hardly moves, and steps toward the reward that do not look at the cost
RECKLESS = [
    *("inner.method=trpo", "inner.trust_region.max_kl=20", "policy.init_log_std=-2"),
    *("train.tasks_per_batch=6", "rollout.envs_per_task=20", "logger.wandb=disabled"),
]


@pytest.fixture(scope="module")
def reckless():
    """The module, and six of its tasks."""
    config = load_experiment("nav2d", RECKLESS)
    with open_module(config) as module:
        yield module, build_datamodule(config).splits["test"][:6]


def costs(stages):
    """Of each step and task, (steps, tasks)."""
    return torch.stack([stage.data.episode_cost for stage in stages])


def test_where_the_adapted_policy_breaks_the_limit_at_once_the_mixture_keeps_to_it(reckless):
    module, tasks = reckless
    adapted = module.adapt(tasks, 1, ("test", 0))
    assert costs(adapted)[1].mean() > 2 * tasks[0].cost_limit
    whole_range = Mixture(worst_cost=50 / 3)  # an episode in hazards from its first to its last step, of 50
    mixed = module.adapt(tasks, 8, ("test", 0), deployment=whole_range)
    assert torch.equal(mixed[0].rollout["action"], adapted[0].rollout["action"])
    assert torch.equal(mixed[1].theta, adapted[1].theta)  # the candidate is what was adapted
    assert (costs(mixed).mean(dim=1) <= tasks[0].cost_limit).all()
    assert costs(mixed)[2:].max() > 0  # candidates were tried
    tried = torch.stack([(stage.theta != mixed[1].theta).any(dim=1) for stage in mixed[2:]])
    assert tried.any()  # and some replaced
    assert not tried.all()


def test_the_same_stream_deploys_the_same_to_the_bit(reckless):
    module, tasks = reckless
    first, second = (module.adapt(tasks, 2, ("again",), deployment=Mixture()) for _ in range(2))
    assert all(torch.equal(a.rollout["action"], b.rollout["action"]) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("name", list(DEPLOYMENTS))
def test_every_strategy_begins_with_the_meta_policy_and_gives_finite_stages(name, reckless):
    module, tasks = reckless
    module.deployment = DEPLOYMENTS[name]()
    stages = module.adapt(tasks, 2, ("test", 1), deployment=module.deployment)
    assert torch.equal(stages[0].theta, module.deployed.expand(len(tasks), -1))
    assert all(stage.finite.all() for stage in stages)
    assert len(stages) == 3


def test_the_strategy_is_for_the_meta_test_and_training_gives_the_same_bits(tmp_path):
    tiny = ["train.meta_iterations=2", "train.tasks_per_batch=2", "rollout.envs_per_task=2", "rollout.horizon=12"]
    tiny += ["tasks.validation=2", "quiet=true", "logger.wandb=disabled"]
    states = []
    for arm in ("cmaml", "cmaml_mixture"):
        config = load_experiment("nav2d", [f"arm={arm}", *tiny])
        with open_module(config) as module:
            (tmp_path / arm).mkdir()
            build_trainer(config, RunFolder(tmp_path / arm)).fit(module, build_datamodule(config))
            states.append(module.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


class HoldsTheFirst(Adapted):
    """The first task takes no step after the second rollout."""

    def go_on(self, now, theta, rollout, worlds, *, discount):
        share = torch.ones(len(theta))
        share[0] = 1.0 if now.evidence else 0.5
        return Deployed(theta, theta, share, evidence=True)


def test_a_step_has_the_length_that_belongs_to_how_many_its_task_has_taken(reckless):
    module, tasks = reckless
    module.step_lengths = torch.tensor([1.0, 1.0, 0.32])
    try:
        stages = module.adapt(tasks, 3, ("lengths",), deployment=HoldsTheFirst())
    finally:
        module.step_lengths = None
    first, second, third = (stage.step.kl for stage in stages[1:])
    short = 0.32**2 * 20
    assert (first > short).all()
    assert second[0] == 0
    assert (second[1:] > short).all()
    assert third[0] > short  # its second step, after the third rollout
    assert (third[1:] <= short).all()


def test_a_mixture_needs_a_limit_for_every_task():
    with pytest.raises(UserError, match="which needs a finite limit above 0 for every task, but one of them has 0"):
        Mixture().start(torch.zeros(2, 3), torch.tensor([5.0, 0.0]))

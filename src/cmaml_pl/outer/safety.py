"""The safety term of the outer update."""

from torch import Tensor

from cmaml_pl.inner.base import likelihood_ratio
from cmaml_pl.math.natural_gradient import rowwise_gradient
from cmaml_pl.nets.networks import Actor
from cmaml_pl.rollout.task_data import TaskData

WEIGHTS = ("ratio", "raw")
"""How eta weighs the safety term: eta / (1 + eta), or eta itself."""


def safety_weight(eta: Tensor, form: str) -> Tensor:
    """The weight w(eta), in the shape of `eta`; `form` is one of WEIGHTS."""
    return eta / (1.0 + eta) if form == "ratio" else eta


def safety_gradient(actor: Actor, theta: Tensor, pre: TaskData, *, include_log_std: bool) -> Tensor:
    """grad_theta E_pre[log pi_theta(a|s) A_C(s,a)]: a step against it makes costly actions of the meta-policy rarer.

    The paper prints log pi(a_t|s_t) V_C(s). If V_C is taken at the state in which a_t was chosen, this term has
    expectation zero, because a function of s alone is a baseline. The paper must mean the advantage, and this function
    uses it: A_C = `pre.cost_signal`, the cost advantage under the global safety critic. It is divided by
    `pre.cost_scale`, so that eta weighs it against the meta-gradient whatever the unit of cost is.

    Args:
        actor: the network that runs the parameters.
        theta: meta-parameters, (P,).
        pre: rollouts of the meta-policy with the safety critic's advantages.
        include_log_std: whether the gradient has entries for log_std, the exploration noise; without them only the
            mean action moves.

    Returns:
        The gradient, (P,).
    """
    advantage = pre.cost_signal
    tasks = pre.action.shape[0]
    # at the parameters that collected the data, the gradient of the ratio is the gradient of log pi
    _, gradient = rowwise_gradient(
        lambda candidate: (likelihood_ratio(actor, candidate, pre) * advantage).mean(dim=1), theta.expand(tasks, -1)
    )
    result = gradient.mean(dim=0)
    if not include_log_std:
        result[actor.log_std_slice] = 0.0
    return result

import pytest
import torch
from tests.helpers import make_actor, make_task_data

from cmaml_pl.inner.base import mean_kl
from cmaml_pl.math.natural_gradient import (
    conjugate_gradient,
    fisher_product,
    line_search,
    natural_step,
    rowwise_gradient,
)


def random_systems(tasks=4, size=8, condition=100.0, seed=0):
    g = torch.Generator().manual_seed(seed)
    q = torch.linalg.qr(torch.randn(tasks, size, size, generator=g, dtype=torch.float64)).Q
    eigenvalues = torch.logspace(0, torch.tensor(condition).log10().item(), size, dtype=torch.float64)
    return q @ torch.diag(eigenvalues) @ q.mT, torch.randn(tasks, size, generator=g, dtype=torch.float64)


def test_conjugate_gradient_equals_a_direct_solve_and_leaves_its_input_alone():
    a, b = random_systems()
    b_before = b.clone()
    x = conjugate_gradient(lambda p: (a @ p[..., None])[..., 0], b, iterations=40, tolerance=1e-24)
    torch.testing.assert_close(x, torch.linalg.solve(a, b), rtol=1e-8, atol=1e-10)
    assert torch.equal(b, b_before)


def test_conjugate_gradient_reduces_the_error_at_the_iterations_that_ship():
    a, b = random_systems(size=60)
    exact = torch.linalg.solve(a, b)
    x = conjugate_gradient(lambda p: (a @ p[..., None])[..., 0], b, iterations=10)
    error = exact - x
    a_norm = lambda v: torch.einsum("ti,tij,tj->t", v, a, v)  # noqa: E731
    # the bound of Nocedal & Wright, eq. 5.36, for condition number 100
    assert (a_norm(error) <= (2 * ((10 - 1) / (10 + 1)) ** 10) ** 2 * a_norm(exact)).all()


def test_conjugate_gradient_works_each_row_by_itself():
    a, b = random_systems()
    b[1] = 0.0
    a[2] = -a[2]  # negative curvature: that row keeps its start, the others do not notice
    x = conjugate_gradient(lambda p: (a @ p[..., None])[..., 0], b, iterations=40, tolerance=1e-24)
    assert torch.equal(x[1], torch.zeros(8, dtype=torch.float64))
    assert torch.equal(x[2], torch.zeros(8, dtype=torch.float64))
    torch.testing.assert_close(x[[0, 3]], torch.linalg.solve(a, b)[[0, 3]], rtol=1e-8, atol=1e-10)


def test_fisher_products_equal_an_explicit_hessian_of_the_divergence():
    actor = make_actor()
    theta = actor.vector().expand(2, -1).clone()
    theta[1] += 0.1
    data = make_task_data(actor, theta)
    product = fisher_product(lambda candidate: mean_kl(actor, candidate, data), theta, damping=0.1)
    vector = torch.randn(theta.shape, generator=torch.Generator().manual_seed(3))
    result = product(vector)
    for p in range(2):

        def kl_of_task(row: torch.Tensor, p: int = p) -> torch.Tensor:
            return mean_kl(actor, torch.cat([theta[:p], row[None], theta[p + 1 :]]), data)[p]

        hessian = torch.autograd.functional.hessian(kl_of_task, theta[p])
        torch.testing.assert_close(result[p], hessian @ vector[p] + 0.1 * vector[p], rtol=1e-4, atol=1e-5)


def test_natural_step_uses_up_the_quadratic_trust_region():
    a, g = random_systems()
    product = lambda p: (a @ p[..., None])[..., 0]  # noqa: E731
    step = natural_step(product, g, max_kl=0.02, iterations=40)
    torch.testing.assert_close(
        0.5 * (step * product(step)).sum(dim=1), torch.full((4,), 0.02, dtype=torch.float64), rtol=1e-4, atol=0
    )
    direction = torch.linalg.solve(a, g)
    cosine = torch.nn.functional.cosine_similarity(step, direction)
    torch.testing.assert_close(cosine, torch.ones_like(cosine), rtol=1e-5, atol=0)


def test_natural_step_of_a_zero_gradient_is_zero():
    a, _ = random_systems()
    step = natural_step(lambda p: (a @ p[..., None])[..., 0], torch.zeros(4, 8).double(), max_kl=0.02, iterations=10)
    assert torch.equal(step, torch.zeros(4, 8).double())


def test_line_search_restores_the_rows_that_it_cannot_improve():
    theta = torch.tensor([[0.0], [0.0], [0.0]])
    step = torch.tensor([[1.0], [1.0], [1.0]])
    longest = torch.tensor([2.0, 0.3, -1.0])  # row 0 takes the full step, row 1 a shorter one, row 2 none
    result, share = line_search(lambda x: x[:, 0] <= longest, theta, step, ratio=0.5, tries=5)
    torch.testing.assert_close(result, torch.tensor([[1.0], [0.25], [0.0]]))
    torch.testing.assert_close(share, torch.tensor([1.0, 0.25, 0.0]))
    assert result.data_ptr() != theta.data_ptr()


def test_line_search_refuses_what_is_not_a_number():
    theta = torch.zeros(2, 1)
    step = torch.tensor([[float("nan")], [1.0]])
    result, share = line_search(lambda x: x[:, 0] > 0, theta, step, ratio=0.5, tries=3)
    assert torch.equal(result, torch.tensor([[0.0], [1.0]]))
    assert share[0] == 0


def test_rowwise_gradient_keeps_tasks_apart():
    theta = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    value, gradient = rowwise_gradient(lambda x: (x**2).sum(dim=1), theta)
    torch.testing.assert_close(value, torch.tensor([5.0, 25.0]))
    torch.testing.assert_close(gradient, 2 * theta)
    assert not theta.requires_grad


@pytest.mark.parametrize("every", [1, 4])
def test_divergence_on_a_share_of_the_states_is_the_mean_over_that_share(every):
    actor = make_actor()
    theta = actor.vector().expand(2, -1).clone()
    data = make_task_data(actor, theta)
    moved = theta + 0.05
    loc, scale = actor.stacked(moved, data.features[:, ::every])
    old = torch.distributions.Normal(data.loc[:, ::every], data.scale[:, ::every])
    expected = torch.distributions.kl_divergence(old, torch.distributions.Normal(loc, scale)).sum(-1).mean(1)
    torch.testing.assert_close(mean_kl(actor, moved, data, every=every), expected)

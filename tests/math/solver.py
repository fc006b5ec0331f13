"""A generic solver, to judge closed forms by."""

import numpy as np
from scipy.optimize import minimize


def best_step(g, b, c, h, delta):
    """argmax_x g'x s.t. c + b'x <= 0 (where c is not None) and 1/2 x'Hx <= delta, by SLSQP from several starts."""
    # x = sqrt(2 delta) L'^-1 y with H = L L': the trust region becomes the unit ball
    back = np.sqrt(2 * delta) * np.linalg.inv(np.linalg.cholesky(h).T)
    slope = back.T @ g
    slope = slope / (np.linalg.norm(slope) or 1.0)
    constraints = [{"type": "ineq", "fun": lambda y: 1 - y @ y, "jac": lambda y: -2 * y}]
    if c is not None:
        row = back.T @ b
        size = np.linalg.norm(row) or 1.0
        limit = {"type": "ineq", "fun": lambda y: -(c + row @ y) / size, "jac": lambda y: -row / size}
        constraints.append(limit)
    best, value = None, -np.inf
    rng = np.random.default_rng(0)
    for start in (np.zeros(len(g)), *(0.3 * rng.standard_normal((3, len(g))))):
        found = minimize(
            lambda y: -slope @ y,
            start,
            jac=lambda y: -slope,
            constraints=constraints,
            method="SLSQP",
            options={"ftol": 1e-12, "maxiter": 200},
        )
        feasible = all(constraint["fun"](found.x) >= -1e-7 for constraint in constraints)
        if feasible and slope @ found.x > value:
            best, value = found.x, slope @ found.x
        if best is not None and found.success:
            break
    assert best is not None, "the solver found nothing feasible"
    return back @ best


def nearest_point(y, b, c, h):
    """argmin_x 1/2 (x - y)'H(x - y) s.t. c + b'x <= 0."""
    back = np.linalg.inv(np.linalg.cholesky(h).T)
    row, centre = back.T @ b, np.linalg.solve(back, y)
    size = np.linalg.norm(row)
    found = minimize(
        lambda z: 0.5 * (z - centre) @ (z - centre),
        np.zeros(len(y)),
        jac=lambda z: z - centre,
        constraints=[{"type": "ineq", "fun": lambda z: -(c + row @ z) / size, "jac": lambda z: -row / size}],
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 200},
    )
    assert found.success, found.message
    return back @ found.x

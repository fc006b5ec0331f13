import numpy as np
import torch

from cmaml_pl.math.regression import ridge_regression, value_features


def test_ridge_regression_equals_numpys_least_squares_on_the_augmented_system():
    g = torch.Generator().manual_seed(0)
    features = torch.randn(2, 30, 5, generator=g, dtype=torch.float64)
    target = torch.randn(2, 30, 1, generator=g, dtype=torch.float64)
    result = ridge_regression(features, target, ridge=0.2)
    for p in range(2):
        # |phi w - y|^2 / n + ridge |w|^2 as one least-squares problem
        a = np.concatenate([features[p].numpy() / np.sqrt(30), np.sqrt(0.2) * np.eye(5)])
        b = np.concatenate([target[p, :, 0].numpy() / np.sqrt(30), np.zeros(5)])
        np.testing.assert_allclose(result[p, :, 0].numpy(), np.linalg.lstsq(a, b, rcond=None)[0], rtol=1e-10)


def test_features_are_the_observation_its_square_and_a_constant():
    torch.testing.assert_close(value_features(torch.tensor([2.0, -3.0])), torch.tensor([2.0, -3.0, 4.0, 9.0, 1.0]))

"""Checks whether numbers are finite."""

from collections.abc import Iterable

import torch
from torch import Tensor


def finite_rows(tensors: Iterable[Tensor]) -> Tensor:
    """Whether all numbers of a row are finite in all of the tensors, each (rows, ...) -> bool, (rows,)."""
    return torch.stack([tensor.isfinite().reshape(len(tensor), -1).all(dim=1) for tensor in tensors]).all(dim=0)

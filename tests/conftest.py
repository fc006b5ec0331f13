import pytest
import torch


@pytest.fixture(autouse=True)
def _leave_no_trace_in_global_randomness():
    """Everything random is derived from a seed: a test that moves the global generator has found a leak."""
    state = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), state), "the code under test drew from torch's global generator"

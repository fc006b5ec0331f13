"""Random streams derived from the one seed of the configuration.

Every draw is a function of (seed, purpose, counter). A resumed run therefore draws the same numbers as an uninterrupted
one, although the state of no stream is saved.
"""

from zlib import crc32

import numpy as np
import torch


def derive_seed(seed: int, *names: str | int) -> int:
    """A seed in [0, 2**31) for the stream called `names` under `seed`.

    Args:
        seed: the configuration's seed, >= 0.
        names: what the stream is for, e.g. ``("rollout", iteration, step)``; integers >= 0.
    """
    words = [crc32(name.encode()) if isinstance(name, str) else name for name in names]
    # with the number of words, for NumPy takes words of 0 at the end for nothing: (a,) and (a, 0) would be one stream
    state = np.random.SeedSequence([seed, len(words), *words]).generate_state(1)[0]
    return int(state) & 0x7FFFFFFF


def derive_generator(seed: int, *names: str | int) -> torch.Generator:
    """A CPU generator at the start of the stream called `names` under `seed`."""
    return torch.Generator().manual_seed(derive_seed(seed, *names))

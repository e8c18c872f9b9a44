"""Small images of all kinds to try operations on."""

import numpy as np
from hypothesis import strategies as st


def image(height: int, width: int, seed: int, block: int) -> np.ndarray:
    """uint8 [height, width, 3]: noise in blocks of some pixels, so flat places and hard edges; 0 for one colour."""
    rng = np.random.default_rng(seed)
    if block == 0:
        return np.broadcast_to(rng.integers(0, 256, 3, dtype=np.uint8), (height, width, 3)).copy()
    noise = rng.integers(0, 256, (-(-height // block), -(-width // block), 3), dtype=np.uint8)
    return np.ascontiguousarray(noise.repeat(block, 0).repeat(block, 1)[:height, :width])


sides = st.sampled_from([1, 2, 3, 4, 5, 8, 13]) | st.integers(1, 70)
images = st.builds(image, sides, sides, st.integers(0, 2**32), st.sampled_from([0, 1, 1, 1, 3, 9]))

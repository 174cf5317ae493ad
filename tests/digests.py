"""What the scripts that print digests share; test_isa.py runs them for each instruction set."""

import hashlib

import numpy as np


def report(name, arrays):
    """Print a name and the digest of the bits of some arrays."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    print(name, digest.hexdigest())

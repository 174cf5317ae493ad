"""Fixtures that several test files use."""

import pytest


@pytest.fixture
def one_torch_thread():
    """The order of torch's sums must not depend on what else the machine does."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

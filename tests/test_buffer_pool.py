import platform
import subprocess
import sys
import threading

import pytest
import torch

from pld.buffer_pool import BufferPool


def address(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def test_memory_is_used_again_once_nothing_refers_to_it():
    pool = BufferPool()
    first = pool.empty((4, 5), torch.float32)
    place, view = address(first), first[1:].permute(1, 0)
    del first
    other = pool.empty((4, 5), torch.float32)
    assert address(other) != place  # a view still needs it
    del view
    again = pool.empty((2, 3), torch.uint8)  # a smaller one too
    assert address(again) == place
    assert again.shape == (2, 3)


def test_what_autograd_keeps_is_kept():
    pool = BufferPool()
    weight = torch.ones(1000, requires_grad=True)
    images = pool.empty((1000,), torch.float32).fill_(3.0)
    loss = (weight * images).sum()
    del images
    pool.empty((1000,), torch.float32).fill_(7.0)
    loss.backward()
    assert weight.grad is not None
    assert torch.equal(weight.grad, torch.full((1000,), 3.0))


def test_larger_blocks_replace_smaller_ones():
    pool = BufferPool()
    small = pool.empty((10,), torch.uint8)
    large = pool.empty((10_000,), torch.uint8)
    places = {address(small), address(large)}
    del small, large
    assert address(pool.empty((10_000,), torch.uint8)) in places


def test_threads_never_share_a_block():
    pool, clashes = BufferPool(), []

    def work(number: int) -> None:
        for _ in range(200):
            mine = pool.empty((256,), torch.uint8).fill_(number)
            if not bool((mine == number).all()):
                clashes.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not clashes


FAULTS = """
import resource, torch
from pld.buffer_pool import keep_freed_memory
{keep}
for number in range(20):
    torch.zeros(2**24)
    if number == 9:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
@pytest.mark.skipif(torch.cuda.is_available(), reason="models run on the GPU")
def test_freed_memory_is_not_given_back():
    """64 MB ten times over, fresh each time where it is given back."""

    def faults(keep: str) -> int:
        script = FAULTS.format(keep=keep)
        return int(subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True).stdout)

    assert 10 * faults("keep_freed_memory()") < faults("")

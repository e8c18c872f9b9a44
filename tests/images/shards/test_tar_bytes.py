"""Members written by hand are those that tarfile writes."""

import io
import tarfile

from hypothesis import given
from hypothesis import strategies as st

from pld.images.shards.tar_bytes import archive_end, sample_blocks, tar_header
from pld.images.sources.tar_members import add_member
from tests.making import jpeg

names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=140).map(
    lambda name: name.strip("/") or "x"
)


@given(names, st.one_of(st.integers(0, 600), st.integers(8**11 - 2, 8**11 + 2)))
def test_a_header_is_tarfiles(name, size):
    member = tarfile.TarInfo(name)
    member.size = size
    assert tar_header(name.encode(), size) == member.tobuf()


@given(st.lists(st.tuples(names, st.binary(max_size=1500), st.none() | st.integers(0, 2**63 - 1)), max_size=5))
def test_a_tar_is_tarfiles(samples):
    wanted = io.BytesIO()
    with tarfile.open(fileobj=wanted, mode="w") as tar:
        for key, content, label in samples:
            add_member(tar, f"{key}.jpg", jpeg(1) + content)
            if label is not None:
                add_member(tar, f"{key}.cls", str(label).encode())
    written = b"".join(
        bytes(block)
        for key, content, label in samples
        for block in sample_blocks(key.encode(), memoryview(jpeg(1) + content), label)
    )
    assert written + archive_end(len(written)) == wanted.getvalue()

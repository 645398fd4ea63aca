"""The loop's thread that fetches ahead."""

import threading

import pytest

from transfer import loop


def test_prefetched_gives_all_in_order_passes_errors_on_and_ends_its_thread():
    before = threading.active_count()
    assert list(loop.prefetched(iter(range(100)))) == list(range(100))
    assert list(loop.prefetched([])) == []

    def broken():
        yield 1
        raise OSError("the disk")

    items = loop.prefetched(broken())
    assert next(items) == 1
    with pytest.raises(OSError, match="the disk"):
        next(items)

    fetched = []
    items = loop.prefetched(fetched.append(number) or number for number in range(100))
    assert next(items) == 0
    items.close()  # as when the step that uses an item fails
    assert len(fetched) <= 3
    assert threading.active_count() == before

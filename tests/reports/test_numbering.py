from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medseg.reports.numbering import numbered


@given(
    st.sampled_from([np.uint8, np.int16, np.uint16, np.int64]).flatmap(
        lambda dtype: hnp.arrays(
            dtype, (3, 4, 2), elements=st.integers(max(-5, np.iinfo(dtype).min), min(10**9, np.iinfo(dtype).max))
        )
    )
)
def test_numbers_lead_back_to_the_values(labels):
    values, numbers = numbered(labels)
    assert list(values) == sorted(set(labels[labels > 0].tolist()))
    assert np.array_equal(np.array([0, *values])[numbers], np.where(labels > 0, labels, 0))


def test_the_smallest_type_that_holds_them():
    assert numbered(np.arange(256).reshape(4, 8, 8))[1].dtype == np.uint8
    assert numbered(np.arange(257).reshape(1, 1, 257))[1].dtype == np.uint16
    assert numbered(np.zeros((2, 2, 2), np.uint8))[0] == ()

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom.errors import StorageError
from tasks.content_ids import Sought, as_texts, packed

# Few beginnings and few ends: most contents are met, many twice, and many only begin like another one.
DIGESTS = st.lists(
    st.builds(
        lambda first, rest: f"{first:016x}{rest:048x}", st.sampled_from([0, 1, 2**63, 2**64 - 1]), st.integers(0, 3)
    ),
    max_size=12,
)


@given(ids=st.lists(st.none() | st.binary(min_size=32, max_size=32).map(bytes.hex)), cut=st.integers(0, 3))
def test_ids_are_the_same_text_again_and_unknown_ones_stay_unknown(ids: list[str | None], cut: int) -> None:
    table = pa.array(ids, pa.string()).slice(cut)
    known = table.is_valid().to_numpy(zero_copy_only=False)
    digests = np.zeros((len(table), 32), np.uint8)
    digests[known] = packed(table.drop_null())
    assert as_texts(digests, known).to_pylist() == table.to_pylist()


@given(sought=DIGESTS, others=st.lists(DIGESTS, max_size=4))
def test_what_is_sought_is_met_where_it_is_among_the_others_and_nowhere_else(
    sought: list[str], others: list[list[str]]
) -> None:
    search = Sought(packed(pa.array(sought, pa.string())))
    for some in others:
        search.meet(packed(pa.array(some, pa.string())))
    assert search.met().tolist() == [one in set().union(*others) for one in sought]


@pytest.mark.parametrize(
    "ids",
    [
        pytest.param(["ab"], id="too short"),
        pytest.param(["0" * 63, "0" * 65], id="as long as two together"),
        pytest.param(["g" * 64], id="no hexadecimal digits"),
        pytest.param([None], id="missing"),
    ],
)
def test_what_is_no_id_of_a_content_is_an_error(ids: list[str | None]) -> None:
    with pytest.raises(StorageError, match="64 hexadecimal digits"):
        packed(pa.array(ids, pa.string()))

"""The base of every stage's configuration."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pathoflow.contract.config import canonical_json, digest_of
from tests.support.toy.config import ToyConfig

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(), part, max_size=3),
    max_leaves=8,
)


@given(values=st.dictionaries(st.text(), JSON, max_size=5))
def test_one_value_has_one_canonical_form_whatever_its_order(values):
    turned = dict(reversed(values.items()))
    assert canonical_json(turned) == canonical_json(values)
    assert digest_of(turned) == digest_of(values)


def test_the_digest_is_the_same_in_every_process_and_version():
    # printf '{"a":"é","b":[1,2.5,null]}' | sha256sum
    expected = "sha256:d764fee2563da33e3d57334755404e635da33c995824b0adfabc4b6e1af4f608"
    assert digest_of({"b": [1, 2.5, None], "a": "é"}) == expected


def test_a_configuration_is_frozen_and_refuses_unknown_keys_and_bad_defaults():
    with pytest.raises(ValidationError, match="num_itms"):
        ToyConfig(num_itms=3)
    with pytest.raises(ValidationError, match="frozen"):
        ToyConfig().num_items = 4
    with pytest.raises(ValidationError, match="finite"):
        ToyConfig(step_s=float("inf"))


def test_the_digest_follows_every_value_and_a_default_that_is_written_out_changes_nothing():
    assert ToyConfig(text="hello").digest() == ToyConfig().digest()
    assert ToyConfig(text="a").digest() != ToyConfig().digest()


def test_the_tolerated_share_of_bad_records_is_a_share():
    for share in (-0.1, 1.1):
        with pytest.raises(ValidationError, match="max_quarantine_share"):
            ToyConfig(max_quarantine_share=share)

"""An item's number is the same in a gateway, which has no compiler, as in the fold."""

from hypothesis import example, given
from hypothesis import strategies as st

from streams.hashing import item_hash
from streams.item_key import item_key


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
@example("")
@example("12345678")
@example("item-0001")
@example("ITEM 0001")
def test_plain_python_and_the_kernel_agree(item: str) -> None:
    """Byte for byte, whatever the length."""
    assert item_key(item) == item_hash(item)

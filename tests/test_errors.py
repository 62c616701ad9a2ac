"""How messages list many things."""

from __future__ import annotations

from twinvae.errors import some_of


def test_the_first_are_named_and_the_others_counted() -> None:
    assert some_of([]) == ""
    assert some_of(range(5)) == "0, 1, 2, 3, 4"
    assert some_of(range(6)) == "0, 1, 2, 3, 4 and 1 more"
    assert some_of(range(9), 2, joint="; ") == "0; 1 and 7 more"
    assert some_of("abcd", 2, joint="\n  ") == "a\n  b\n  and 2 more"
    assert some_of("ab", 2, total=60) == "a, b and 58 more"

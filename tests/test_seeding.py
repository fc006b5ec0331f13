"""Streams of random numbers."""

from itertools import combinations

from cmaml_pl.seeding import derive_seed


def test_streams_that_differ_by_a_word_of_zero_are_not_the_same():
    streams = [("a",), ("a", 0), ("a", 0, 0), ("a", 1), (), (0,), ("b", 0)]
    seeds = [derive_seed(3, *stream) for stream in streams]
    for one, other in combinations(range(len(streams)), 2):
        assert seeds[one] != seeds[other], (streams[one], streams[other])


def test_a_stream_is_its_seed_and_its_words():
    assert derive_seed(3, "a", 1) == derive_seed(3, "a", 1) != derive_seed(4, "a", 1)

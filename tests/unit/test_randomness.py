"""Seeds and uniform numbers: functions of the answer's own key, and uniform."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from adaptive_samplers.hashing import content_id, content_number
from adaptive_samplers.randomness import sample_seed, uniforms
from support import REPOSITORY


def test_seeds_are_the_same_on_every_machine():
    assert sample_seed(20260101, "0123456789abcdef", 0) == 2823359488845717837
    assert sample_seed(20260101, "0123456789abcdef", 1) == 41909897542516666
    np.testing.assert_allclose(uniforms(1, 3), [0.3035680343067586, 0.8487087496857769, 0.1561347780434731], rtol=0)


def test_each_part_of_the_key_counts():
    keys = [(run, prompt, seed) for run in (0, 1) for prompt in ("a", "b", "c") for seed in range(50)]
    seeds = {sample_seed(*key) for key in keys}
    assert len(seeds) == len(keys) and all(0 <= seed < 2**64 for seed in seeds)


@given(st.integers(0, 2**64 - 1), st.integers(1, 60), st.integers(0, 60))
def test_a_position_does_not_depend_on_how_many_are_drawn(seed, count, more):
    numbers = uniforms(seed, count)
    assert numbers.dtype == np.float64 and ((numbers >= 0) & (numbers < 1)).all()
    np.testing.assert_array_equal(uniforms(seed, count + more)[:count], numbers)


def test_the_global_random_state_is_neither_used_nor_changed():
    np.random.seed(0)
    before = uniforms(7, 5)
    state = np.random.get_state()[1].copy()
    np.testing.assert_array_equal(uniforms(7, 5), before)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_numbers_are_uniform_along_and_across_answers():
    along = uniforms(sample_seed(1, "prompt", 0), 20_000)
    across = np.array([uniforms(sample_seed(1, f"prompt {i}", i % 7), 2) for i in range(20_000)])
    for numbers in (along, across[:, 0], across[:, 1]):
        assert stats.kstest(numbers, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(across.T)[0, 1]) < 0.03
    assert abs(np.corrcoef(along[:-1], along[1:])[0, 1]) < 0.03


def test_content_ids_are_canonical():
    assert content_id({"b": 1, "a": [1.5, "é"]}) == content_id({"a": [1.5, "é"], "b": 1})
    assert content_id([1]) != content_id(["1"]) != content_id([[1]])
    assert content_id("x", length=32).startswith(content_id("x")) and len(content_id("x")) == 16
    assert content_number("x") == int(content_id("x"), 16)


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_another_process_gives_the_same(hash_seed):
    code = (
        "from adaptive_samplers.randomness import *; from adaptive_samplers.hashing import content_id;"
        "print(sample_seed(3, 'p', 1), *uniforms(5, 3), content_id({'b': 1, 'a': None}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(REPOSITORY / "scripts"), "PYTHONHASHSEED": hash_seed},
    )
    assert done.stdout.split() == [
        str(sample_seed(3, "p", 1)),
        *map(str, uniforms(5, 3)),
        content_id({"b": 1, "a": None}),
    ]

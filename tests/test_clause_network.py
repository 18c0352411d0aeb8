"""The clause network against a plain loop, and the weights that the package carries."""

import numpy as np
import pytest

from precision_lora import clause_network as net

LETTERS, TAG_WIDTH, FILTERS, WIDTH = 5, 2, 3, 4


@pytest.fixture
def network():
    """Small random weights; known characters are a, b and c."""
    rng = np.random.default_rng(0)

    def draw(*shape):
        return rng.normal(size=shape).astype(np.float32)

    letters, tags = draw(5, LETTERS), draw(net.TAGS, TAG_WIDTH)
    letters[net.NOTHING], tags[0] = 0, 0
    kernels = {f"kernel_{w}": draw(w, LETTERS + TAG_WIDTH, FILTERS) for w in net.WIDTHS}
    return net.Network(
        characters=np.array([ord(c) for c in "abc"], np.uint32),
        letters=letters,
        tags=tags,
        **kernels,
        **{f"bias_{w}": draw(FILTERS) for w in net.WIDTHS},
        projection=draw(2 * FILTERS * len(net.WIDTHS), WIDTH),
        projection_bias=draw(WIDTH),
        context_1=draw(3, WIDTH, WIDTH),
        context_1_bias=draw(WIDTH),
        context_2=draw(3, WIDTH, WIDTH),
        context_2_bias=draw(WIDTH),
        output=draw(2 * WIDTH, 3),
        output_bias=draw(3),
    )


def convolution(rows, kernel):
    """Rows (n, D) by loops; zeros beyond the ends."""
    reach, n = len(kernel) // 2, len(rows)
    return np.array(
        [sum(rows[t + j - reach] @ kernel[j] for j in range(len(kernel)) if 0 <= t + j - reach < n) for t in range(n)]
    )


def by_loops(w, text, tags, clauses):
    vectors = []
    for start, end in clauses:
        rows = np.array(
            [
                np.concatenate([w.letters["abc".index(c) + 2 if c in "abc" else net.UNKNOWN], w.tags[tag]])
                for c, tag in zip(text[start:end], tags[start:end], strict=True)
            ]
        )
        pooled = []
        for width in net.WIDTHS:
            kernel, bias = getattr(w, f"kernel_{width}"), getattr(w, f"bias_{width}")
            h = np.maximum(convolution(rows, kernel) + bias, 0)
            pooled += [h.max(axis=0), h.sum(axis=0) / (end - start + 1)]
        vectors.append(np.maximum(np.concatenate(pooled) @ w.projection + w.projection_bias, 0))
    said = context = np.array(vectors)
    context = np.maximum(convolution(context, w.context_1) + w.context_1_bias, 0)
    context = np.maximum(convolution(context, w.context_2) + w.context_2_bias, 0)
    return np.concatenate([said, context], axis=1) @ w.output + w.output_bias


def test_texts_side_by_side_are_what_loops_make_of_each(network):
    texts = ["abcab", "", "x", "cabbage!cab", "a,b,c,"]
    clauses = [[(0, 3), (3, 5)], [], [(0, 1)], [(0, 8), (8, 11)], [(0, 2), (2, 4), (4, 6)]]
    rng = np.random.default_rng(1)
    tags = [rng.integers(0, net.TAGS, len(text)).astype(np.uint64) for text in texts]
    codes = [np.array([ord(c) for c in text], np.uint64) for text in texts]
    found = net.logits(network, codes, tags, clauses)
    assert [len(rows) for rows in found] == [2, 0, 1, 2, 3]
    for rows, text, own, cut in zip(found, texts, tags, clauses, strict=True):
        if cut:
            np.testing.assert_allclose(rows, by_loops(network, text, own.astype(int), cut), rtol=1e-4, atol=1e-4)


def test_texts_without_a_clause_have_no_logits(network):
    empty = np.zeros(0, np.uint64)
    assert [rows.shape for rows in net.logits(network, [empty, empty], [empty, empty], [[], []])] == [(0, 3), (0, 3)]


def test_characters_that_no_fitted_text_had_share_a_row():
    known = np.array([5, 9], np.uint32)
    assert net.letter_rows(known, np.array([5, 9, 1, 7, 99])).tolist() == [2, 3, *[net.UNKNOWN] * 3]


def test_the_weights_that_the_package_carries_fit_together():
    w = net.network()
    assert w.letters.shape[0] == len(w.characters) + net.FIRST_KNOWN and not w.letters[net.NOTHING].any()
    assert w.tags.shape[0] == net.TAGS and not w.tags[0].any()
    assert (np.diff(w.characters.astype(np.int64)) > 0).all()
    assert all(np.isfinite(values).all() for values in vars(w).values())

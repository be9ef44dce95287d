"""The simple rivals of a reward model: the longer answer wins, and a regression on hashed words. Each gives margins as a model does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpu_backend.data.preference_pairs import PreferencePair
from gpu_backend.evals.statistics import Array

_NUM_FEATURES = 2**18


def longer_wins(pairs: Sequence[PreferencePair]) -> Array:
    """(P,): characters of the better answer less those of the other."""
    return np.array([len(pair.chosen) - len(pair.rejected) for pair in pairs], dtype=np.float64)


class HashedWords:
    """Logistic regression on the difference of two answers' hashed words and bigrams, each answer's counts scaled to length 1. No intercept: swapping
    the answers negates the margin."""

    def __init__(self, train_pairs: Sequence[PreferencePair], seed: int) -> None:
        # Imported here: only the evaluation needs scikit-learn, and tests of everything else run without it.
        from sklearn.feature_extraction.text import HashingVectorizer
        from sklearn.linear_model import LogisticRegression

        self._features = HashingVectorizer(ngram_range=(1, 2), n_features=_NUM_FEATURES, alternate_sign=False, norm="l2", lowercase=True)
        self._model = LogisticRegression(fit_intercept=False, C=1.0, max_iter=1000)
        # Which answer comes first is a coin's decision, so that both labels occur.
        signs_P = np.random.default_rng(seed).choice([-1.0, 1.0], len(train_pairs))
        signs_P[:2] = (1.0, -1.0)
        self._model.fit(self._differences(train_pairs).multiply(signs_P[:, None]).tocsr(), signs_P > 0)

    def margins(self, pairs: Sequence[PreferencePair]) -> Array:
        """(P,): log-odds that the better answer is better."""
        result: Array = self._model.decision_function(self._differences(pairs)).astype(np.float64)
        return result

    def _differences(self, pairs: Sequence[PreferencePair]) -> Any:
        return self._features.transform([pair.chosen for pair in pairs]) - self._features.transform([pair.rejected for pair in pairs])

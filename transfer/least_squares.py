"""Linear regression from sums over millions of rows, and the columns of a regression that say most together."""

from collections.abc import Sequence

import numpy as np
import scipy.linalg

RIDGE = 1e-3  # of the mean variance of a layer's inputs: guards against overfitting


def ridge_regression(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """(kernel, bias, R2 of a held-out fifth) with which x @ kernel + bias is near y, for more columns than rows of x.

    x (N, inputs), y (N, outputs), kernel (inputs, outputs), bias (outputs,); the fifth is the first one. The ridge is
    the one with which it is predicted best.
    """
    middle, offset = x.mean(axis=0), y.mean(axis=0)
    x, y = x - middle, y - offset
    products, fifth = np.float64(x @ x.T), len(x) // 5
    best = (-np.inf, 0.0)
    for ridge in np.trace(products) / len(x) * 10.0 ** np.arange(-3, 1.5, 0.5):
        dual = solve(products[fifth:, fifth:] + ridge * np.eye(len(x) - fifth), y[fifth:])
        error = np.sum((products[:fifth, fifth:] @ dual - y[:fifth]) ** 2) / np.sum(y[:fifth] ** 2)
        best = max(best, (1 - error, ridge))
    kernel = np.float32(x.T @ np.float32(solve(products + best[1] * np.eye(len(x)), y)))
    return kernel, offset - middle @ kernel, best[0]


class Sums:
    """The sums that linear regression needs: x' x, x' y and y' y over all windows. The last input is 1."""

    def __init__(self) -> None:
        self.inputs = self.targets = self.squares = 0.0

    def add(self, x: np.ndarray, y: np.ndarray) -> None:
        """x float32 (windows, inputs), y (windows, channels)."""
        self.inputs = self.inputs + x.T @ x
        self.add_targets(x, y)

    def add_targets(self, x: np.ndarray, y: np.ndarray) -> None:
        """The same, without what does not depend on y."""
        self.targets, self.squares = self.targets + x.T @ y, self.squares + np.sum(y**2, axis=0)

    def solve(self, ridge: float = RIDGE) -> np.ndarray:
        """(inputs, channels): the best linear map, the last row is the bias."""
        penalty = np.full(len(self.inputs), ridge * np.trace(self.inputs) / len(self.inputs))
        penalty[-1] = 0
        return solve(np.float64(self.inputs) + np.diag(penalty), np.float64(self.targets))

    def explained(self, solution: np.ndarray) -> np.ndarray:
        """(inputs, channels) of `solve` -> (channels, channels): the covariance of the predictions."""
        means, count = self.targets[-1], self.inputs[-1, -1]
        return (solution.T @ self.inputs @ solution - np.outer(means, means) / count) / count

    def share_explained(self, explained: np.ndarray) -> np.ndarray:
        """R2 of each channel, (channels,), of what `explained` gives."""
        count = self.inputs[-1, -1]
        varies = (self.squares - self.targets[-1] ** 2 / count) / count
        return np.diag(explained) / (varies + 1e-9)


def solve(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The solution (n, m) of matrix @ solution = right, matrix (n, n) symmetric and positive, right (n, m)."""
    return scipy.linalg.solve(matrix, right, assume_a="pos")


def most_different(covariance: np.ndarray, count: int, taken: Sequence[int] = ()) -> list[int]:
    """Channels that say most together: each is the one of which those before say least (a pivoted Cholesky).

    covariance (n, n) -> `count` numbers below n, none of them in `taken`.
    """
    rest, chosen = covariance.copy(), []
    for _ in range(count):
        left = np.diag(rest).copy()
        left[[*taken, *chosen]] = -np.inf
        best = int(np.argmax(left))
        chosen.append(best)
        column = rest[:, best] / np.sqrt(max(rest[best, best], 1e-12))
        rest -= np.outer(column, column)
    return chosen

"""Checks shape and type of the arrays in values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamav.errors import ShapeError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["check_array"]


def check_array(name: str, array: NDArray[np.generic], shape: tuple[int | None, ...], dtype: type[np.generic]) -> None:
    """Check that an array has *dtype* and *shape*, where None means any length of at least one.

    Raises:
        ShapeError: when it has not; the message begins with *name*.
    """
    fits = array.ndim == len(shape) and all(got >= 1 if want is None else got == want for got, want in zip(array.shape, shape, strict=True))
    if not fits or array.dtype != dtype:
        wanted = "(" + ", ".join("*" if n is None else str(n) for n in shape) + ")"
        msg = f"{name} must be {dtype.__name__} {wanted}, got {array.dtype} {array.shape}"
        raise ShapeError(msg)

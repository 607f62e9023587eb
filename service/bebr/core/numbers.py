"""Numbers as sums of float64, so that arrays compare integers of any size exactly as Python does.

The first term is the number rounded to float64, the next what is left, rounded, and so on until nothing is left.
Rounding keeps the order, so numbers compare as their terms do, one after the other; terms that are missing are 0.
"""


def float_terms(number: int | float) -> tuple[float, ...]:
    """The terms of a number of at most float64's largest size: one for a float, more for few integers."""
    first = float(number)
    if isinstance(number, float) or number == first:
        return (first,)
    return (first, *float_terms(number - int(first)))

"""Times of RFC 3339 as integers: microseconds since 1970 in UTC."""

import re

_TIME = re.compile(
    r"(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})[Tt ]"
    r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
    r"(?:\.(?P<fraction>[0-9]{1,30}))?(?:[Zz]|(?P<sign>[+-])(?P<hours>[0-9]{2}):(?P<minutes>[0-9]{2}))"
)
_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
MINUTES_A_DAY = 1440


def microseconds(text: str) -> int | None:
    """`2024-02-29T12:00:00.5+01:00` -> microseconds since 1970; None for what is no time of RFC 3339, section 5.6.

    Digits after the sixth of a fraction are dropped. A leap second is the second after it.
    """
    if (found := _TIME.fullmatch(text)) is None:
        return None
    hour, minute, second = int(found["hour"]), int(found["minute"]), int(found["second"])
    hours, minutes = int(found["hours"] or 0), int(found["minutes"] or 0)
    if hour > 23 or minute > 59 or second > 60 or hours > 23 or minutes > 59:
        return None
    day = _day(int(found["year"]), int(found["month"]), int(found["day"]))
    if day is None:
        return None
    offset = (hours * 60 + minutes) * (-1 if found["sign"] == "-" else 1)
    minute_of_day = hour * 60 + minute - offset
    if second == 60 and minute_of_day % MINUTES_A_DAY != MINUTES_A_DAY - 1:
        return None
    whole = (day * MINUTES_A_DAY + minute_of_day) * 60 + second
    return whole * 1_000_000 + int((found["fraction"] or "0")[:6].ljust(6, "0"))


def _day(year: int, month: int, day: int) -> int | None:
    """Days since 1970 of a date of the Gregorian calendar; None where there is no such date."""
    is_leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not 1 <= month <= 12 or not 1 <= day <= _DAYS[month - 1] + (month == 2 and is_leap):
        return None
    before = 365 * (year - 1970) + _leap_years(year - 1) - _leap_years(1969)
    return before + sum(_DAYS[: month - 1]) + (month > 2 and is_leap) + day - 1


def _leap_years(year: int) -> int:
    """How many there are up to this one, after the year 0."""
    return year // 4 - year // 100 + year // 400

"""Tells what day of its year a date is."""
import datetime
import sys

__version__ = "1.0"


def tell(date):
    names = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
    return "%s is a %s, day %d of %d" % (date.isoformat(), names[date.weekday()], date.timetuple().tm_yday, date.year)


def main():
    """almanac [YYYY-MM-DD]: without a date, today."""
    if len(sys.argv) > 2:
        sys.exit("almanac: " + main.__doc__)
    try:
        date = datetime.datetime.strptime(sys.argv[1], "%Y-%m-%d").date() if len(sys.argv) == 2 else datetime.date.today()
    except ValueError as error:
        sys.exit("almanac: %s" % error)
    print(tell(date))

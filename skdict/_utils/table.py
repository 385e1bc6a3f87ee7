"""Tables for people."""

from sklearn.utils import Bunch


def as_table(columns: dict, attrs: dict):
    """Make a DataFrame where pandas is installed, otherwise a Bunch of arrays.

    Plain numbers, strings and lists belong into `attrs`: pandas compares them when
    tables are joined, which fails on arrays.
    """
    try:
        import pandas as pd
    except ImportError:
        return Bunch(**columns, attrs=attrs)
    table = pd.DataFrame(columns)
    table.attrs = attrs
    return table

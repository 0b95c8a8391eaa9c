"""The table of bad inputs: every case ends in one clear line and exit code 2, and leaves nothing behind."""

from importlib import import_module
from pkgutil import iter_modules

from tests.hostile.bad_inputs.case import Case

_TABLES = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__) if module.name != "case"]
CASES: list[Case] = [case for table in _TABLES for case in table.CASES]

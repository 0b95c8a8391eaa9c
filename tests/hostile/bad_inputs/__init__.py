"""The table of bad inputs: every case ends in one clear line and exit code 2, and leaves nothing behind."""

from tests.hostile.bad_inputs import configuration, places, rows_and_templates, runs
from tests.hostile.bad_inputs.case import Case

CASES: list[Case] = [*configuration.CASES, *rows_and_templates.CASES, *places.CASES, *runs.CASES]

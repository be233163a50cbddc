"""Files with the habits of many programs read as what they are; docs/files.md shows the table (`print_table`)."""

from pathlib import Path

import pytest

from rnafold.data.structures.reading import read_structure
from rnafold.errors import InputError
from tests.data.habits import Habit
from tests.data.habits_table import HABITS

DOCS = Path(__file__).resolve().parents[2] / "docs" / "files.md"


def describe(path: Path) -> str:
    """Chains with sequence and resolved residues, date, code; or the fault."""
    try:
        file = read_structure(path)
    except InputError as error:
        return str(error).removeprefix(f"{path}: ")
    chains = []
    for name, chain in file.chains:
        resolved = int((chain.models[0] == chain.models[0]).all(-1).sum()) if chain.models else 0
        chains.append(f"{name} {chain.sequence} {resolved} of {len(chain.sequence)}")
    facts = ["; ".join(chains) or "no RNA chain", str(file.released or ""), file.code]
    return ", ".join(fact for fact in facts if fact)


def format_table() -> str:
    """The table of docs/files.md; `python -c "from tests.data.test_habits import format_table as f; print(f())"`."""
    rows = [f"| {habit.program} | {habit.habit} | `{habit.file}` | {habit.reads} |" for habit in HABITS]
    return "\n".join(["| program | habit | file | reads as |", "|---|---|---|---|", *rows])


@pytest.mark.parametrize("habit", HABITS, ids=lambda habit: habit.file)
def test_a_file_with_a_programs_habit_reads_as_what_it_is(habit: Habit, tmp_path: Path) -> None:
    assert describe(habit.write(tmp_path)) == habit.reads


def test_the_table_of_habits_in_the_docs_is_the_tests_own() -> None:
    assert len(HABITS) >= 40
    assert len({(habit.program, habit.habit) for habit in HABITS}) == len(HABITS)
    assert format_table() in DOCS.read_text(encoding="utf-8")

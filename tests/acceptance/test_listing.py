"""The lists are complete: every row has a test, every difference a line and a test, the page is current."""

import re

from acceptance.conformance import PAGE, ROOT, page, rows, shown_by

COMPATIBILITY = ROOT / "docs" / "compatibility.md"
#: Every line of the design's list of differences, by its number there or by a word.
DIFFERENCES = {
    *("Q2", "Q3", "Q4", "Q5", "Q6", "Q7", "Q8", "Q9", "Q11", "Q12", "Q13", "Q14"),
    *("Q15", "Q16", "Q17", "Q18", "Q19", "Q20", "Q21", "Q22", "Q24", "Q26", "Q27", "Q28"),
    *("Q29", "Q30", "Q31", "Q35", "Q37", "Q38", "Q39", "Q40", "Q41", "Q42", "Q43", "Q44"),
    *("Q45", "Q46", "Q48", "Q49", "Q54", "Q59", "W5", "W9", "-r", "boltdb", "parked", "register"),
    "abort",
}


def lines():
    """The lines of the tables of differences: their ids and the tests they name."""
    found = []
    for line in COMPATIBILITY.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and len(cells) == 4 and cells[0] != "No.":
            found.append((re.split(r", *", cells[0]), re.findall(r"`(test_\w+)`", cells[3]), cells[3]))
    return found


def test_every_row_that_does_not_wait_has_a_test():
    tested = {name for shown in shown_by("conformance") for name in shown.names}
    missing = [row.name for row in rows() if not row.waits and row.name not in tested]
    assert missing == []


def test_no_test_names_an_unknown_row():
    names = {row.name for row in rows()}
    assert len(names) == len(rows()) > 170
    unknown = [name for shown in shown_by("conformance") for name in shown.names if name not in names]
    assert unknown == []


def test_a_row_that_waits_says_for_what():
    assert {row.waits for row in rows()} == {"", "Mongo"}


def test_the_page_is_current():
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python tests/acceptance/conformance.py --write"


def test_every_difference_has_a_line():
    assert {number for numbers, _, _ in lines() for number in numbers} == DIFFERENCES


def test_every_line_names_its_tests():
    shown = {one.test: one.names for one in shown_by("deviation")}
    for numbers, tests, cell in lines():
        assert tests or "waits for" in cell, numbers
        for test in tests:
            assert set(numbers) & set(shown.get(test, ())), f"{test} of {numbers} has no such marker"
    named = {test for _, tests, _ in lines() for test in tests}
    assert set(shown) == named


def test_every_marked_difference_is_known():
    numbers = {number for one in shown_by("deviation") for number in one.names}
    assert numbers <= DIFFERENCES

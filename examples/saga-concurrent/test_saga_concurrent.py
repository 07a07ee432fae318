import re

LINE = re.compile(r"^ +([\d.]+) to ([\d.]+) s +(\w+) +(\w+) +(.+)$", re.MULTILINE)


def calls(finished, trip):
    """What happened in a trip: (service, operation) to (begin, end, what it came to)."""
    text = finished.output.split("'s trip for ")[trip]
    return {(name, op): (float(began), float(ended), said) for began, ended, name, op, said in LINE.findall(text)}


def test_the_three_were_booked_at_once_and_paid_afterwards(finished):
    made = calls(finished, 1)
    booked = [made[name, "action"] for name in ("flight", "hotel", "car")]
    began, ended = min(call[0] for call in booked), max(call[1] for call in booked)
    assert ended - began < sum(call[1] - call[0] for call in booked), "one after another"
    assert made["payment", "action"][0] >= ended
    assert {call[2] for call in made.values()} == {"run"}


def test_one_refusal_gave_the_others_back_and_nothing_was_paid(finished):
    made = {name: call[2] for name, call in calls(finished, 2).items()}
    assert made == {
        ("flight", "action"): "run",
        ("hotel", "action"): "run",
        ("car", "action"): "refused",
        ("flight", "compensate"): "run",
        ("hotel", "compensate"): "run",
        ("car", "compensate"): "nothing to undo",
    }
    assert "no car for you" in finished.output
    # The program has looked into the four databases, which are gone with its folder.
    assert finished.output.endswith("still free: {'flight': 1, 'hotel': 1, 'car': 0, 'payment': 1300}\n")

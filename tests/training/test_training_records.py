from records import changeable


def test_records_do_not_change() -> None:
    assert changeable("training") == [".fit._Training", ".ranks._Process"]

from __future__ import annotations

import pytest

from tests.simulator.conformance import load_exclusions, report
from tests.simulator.replay import load_exchanges, replay


@pytest.mark.timeout(300)
def test_every_recorded_exchange_agrees_but_the_named_ones():
    text, is_good = report(replay(load_exclusions()))
    assert is_good, text


def test_each_exclusion_names_a_recorded_exchange_and_a_reason():
    names = {exchange["name"] for exchange in load_exchanges()}
    for name, reason in load_exclusions().items():
        assert name in names
        assert len(reason) > 20

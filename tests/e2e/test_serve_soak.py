"""Three minutes of mixed load, garbage and clients that vanish; test_nightly_soak.py goes on for half an hour."""

import soak


def test_three_minutes(tmp_path):
    soak.soak(tmp_path, 180)

"""Half an hour of mixed load, garbage and clients that vanish."""

import soak


def test_half_an_hour(tmp_path):
    soak.soak(tmp_path, 1800)

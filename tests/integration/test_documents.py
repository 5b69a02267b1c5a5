"""What SECURITY.md says is shown by a test is shown by one.

A user would lose: the reason to believe it.
"""

import os
import re

from proxy import ROOT

HERE = os.path.dirname(os.path.abspath(__file__))


def test_every_test_that_the_threat_model_names_is_there():
    with open(os.path.join(ROOT, "SECURITY.md")) as file:
        named = re.findall(r"`((?:tests/\w+/)?\w+\.(?:py|c)|test_\w+)`", file.read())
    source = ""
    for name in named:
        path = os.path.join(ROOT, name) if "/" in name else os.path.join(HERE, name)
        if "." in name:
            assert os.path.exists(path), name
            with open(path) as file:
                source = file.read()
        else:  # a function of the file that was named last
            assert f"\ndef {name}(" in source, name
    assert len(named) > 50

from __future__ import annotations

import re
from pathlib import Path

import pytest

from serving.settings import VARIABLES, Settings, SettingsError, read

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_nothing_set_gives_the_defaults() -> None:
    assert read({"PATH": "/bin", "OKAMOCHI_WORKERS": " "}) == Settings()


def test_what_is_set_is_read() -> None:
    found = read(
        {
            "OKAMOCHI_MODELS": "iris, wine digits",
            "OKAMOCHI_WORKERS": "2",
            "OKAMOCHI_BATCH_OBJECTIVE_MS": "2.5",
        }
    )
    assert found.models == ("iris", "wine", "digits")
    assert (found.workers, found.batch_objective_ms) == (2, 2.5)


@pytest.mark.parametrize("text", ["abc", "0", "-1", "1.5", "1e9", "65"])
def test_a_wrong_value_names_the_variable_and_what_it_takes(text: str) -> None:
    with pytest.raises(SettingsError, match=rf"OKAMOCHI_WORKERS='{re.escape(text)}': .* from 1 to 64"):
        read({"OKAMOCHI_WORKERS": text})


def test_a_near_miss_is_logged_and_what_kubernetes_sets_is_not(caplog: pytest.LogCaptureFixture) -> None:
    read({"OKAMOCHI_MAX_BODY_BYTE": "5", "OKAMOCHI_SERVICE_HOST": "10.0.0.1", "OKAMOCHI_PORT": "tcp://..."})
    assert caplog.messages == ["OKAMOCHI_MAX_BODY_BYTE is no setting; did you mean OKAMOCHI_MAX_BODY_BYTES?"]


def test_the_page_has_every_setting_with_its_default_and_meaning() -> None:
    rows = dict(re.findall(r"^\| `(OKAMOCHI_\w+)` \| (.*) \|$", PAGE.read_text(), re.MULTILINE))
    assert list(rows) == list(VARIABLES)
    for variable, found in VARIABLES.items():
        default = {(): "all, in their order", "": "none"}.get(found.default, f"`{found.default}`")
        assert rows[variable] == f"{default} | {found.metadata['is']}"

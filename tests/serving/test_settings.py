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
    assert caplog.messages == [
        "OKAMOCHI_MAX_BODY_BYTE is not a setting; did you mean OKAMOCHI_MAX_BODY_BYTES?"
    ]


@pytest.mark.parametrize("variable", [*VARIABLES, "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_SERVICE_NAME"])
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("key \udcff\udcfe", "bytes that are not UTF-8, the first at character 4"),
        ("a\nb", "control character U\\+000A at character 1"),
        ("a\x7fb", "control character U\\+007F"),
        ("a" * 100_000, "100000 characters; expected at most 16384"),
    ],
)
def test_text_that_no_setting_takes_is_refused_without_showing_it(
    variable: str, text: str, says: str
) -> None:
    """Found at the start, not by the first thread that encodes it; and it may be a secret."""
    with pytest.raises(SettingsError, match=rf"^{variable} holds .*{says}") as refused:
        read({variable: text})
    assert text not in str(refused.value)
    str(refused.value).encode()


def test_white_space_around_a_value_is_no_part_of_it() -> None:
    """A key from a file ends in a line break."""
    assert read({"OKAMOCHI_HASH_KEY": " k\u00e9y\n"}).hash_key == "k\u00e9y"


def test_a_wrong_number_is_not_shown_whole() -> None:
    with pytest.raises(SettingsError) as refused:
        read({"OKAMOCHI_WORKERS": "1" * 10_000})
    assert len(str(refused.value)) < 200


def test_a_near_miss_that_is_not_utf_8_is_logged_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    read({"OKAMOCHI_HASH_KE\udcff": "x"})
    assert caplog.messages == ["OKAMOCHI_HASH_KE\\udcff is not a setting; did you mean OKAMOCHI_HASH_KEY?"]
    caplog.text.encode()


def test_the_page_has_every_setting_with_its_default_and_meaning() -> None:
    rows = dict(re.findall(r"^\| `(OKAMOCHI_\w+)` \| (.*) \|$", PAGE.read_text(), re.MULTILINE))
    assert list(rows) == list(VARIABLES)
    for variable, found in VARIABLES.items():
        default = {(): "all, in their order", "": "none"}.get(found.default, f"`{found.default}`")
        default = "none" if found.name == "cors_origins" else default
        assert rows[variable] == f"{default} | {found.metadata['is']}"

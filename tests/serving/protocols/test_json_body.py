"""One opinion about JSON on all routes: a value is taken or refused, and predicted, alike in every form."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.errors import Problem
from serving.http.gateway import Gateway
from serving.protocols.json_body import MAX_BRACKETS, MAX_DEPTH, decode
from serving.scoring.catalog import Catalog
from serving.settings import Settings
from tests.servers import PATIENCE_S
from tests.serving.conftest import PATIENT_SETTINGS, ask, elsewhere
from tests.serving.protocols.forms import Told, agree, forms, post, told

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers import Server
    from tests.serving.artifacts import Made

MANY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

# Values that are taken where nothing is expected of them, whatever the protocol, and values that are not.
TAKEN = {
    "a number beyond float64": b"1e999",
    "one below it": b"-1e999",
    "a little beyond it": b"1.7976931348623159e308",
    "an integer of 400 digits": b"9" * 400,
    "an integer of 5,000 digits": b"-" + b"9" * 5_000,
    "an integer of half a million digits": b"9" * 500_000,
    "a fraction of half a million digits": b"0." + b"1" * 500_000,
    "an exponent of half a million digits": b"1e" + b"9" * 500_000,
    "a pair of surrogates": b'"\\ud83d\\ude00"',
    "an escaped backslash before a surrogate": b'"\\\\ud800"',
    "NUL": b'"\\u0000"',
    "as deep as may be": b"[" * (MAX_DEPTH - 4) + b"]" * (MAX_DEPTH - 4),
    "text in UTF-8": '"ä 😀"'.encode(),
    "a key twice": b'{"a":1,"a":2}',
}
REFUSED = {
    "a raw surrogate": b'"\xed\xa0\x80"',
    "an overlong form": b'"\xc0\x80"',
    "beyond Unicode": b'"\xf4\x90\x80\x80"',
    "a byte that is never UTF-8": b'"\xff"',
    "cut short": b'"\xe2\x82"',
    "a key that is not UTF-8": b'{"\xff":1}',
    "half a surrogate pair": b'"\\ud800"',
    "the other half": b'"\\udc00 x"',
    "two first halves": b'"\\ud800\\ud800"',
    "half a pair before a letter": b'"\\ud800\\u0041"',
    "half a pair beside a number beyond float64": b'[1e999,"\\ud800"]',
    "a raw surrogate beside a number beyond float64": b'[1e999,"\xed\xa0\x80"]',
    "too deep": b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
    "too deep, in objects": b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1),
    "much too deep": b"[" * 5_000 + b"]" * 5_000,
    "a control character": b'"\t"',
    "a leading zero": b"01",
    "a plus": b"+1",
    "no digit behind the point": b"1.",
    "hexadecimal": b"0x1",
    "Python's True": b"True",
    "an escape that is none": b'"\\x41"',
}
LITERALS = (b"NaN", b"Infinity", b"-Infinity")  # MLflow's own client writes NaN
WRAPPED = {
    "a byte order mark": (lambda body: b"\xef\xbb\xbf" + body, 2),
    "two of them": (lambda body: b"\xef\xbb\xbf" * 2 + body, 4),
    "space around it": (lambda body: b" \r\n\t" + body + b"\n ", 2),
    "another space": (lambda body: b"\x0c" + body, 4),
    "no-break space": (lambda body: body + b"\xc2\xa0", 4),
    "NUL behind it": (lambda body: body + b"\0", 4),
    "more behind it": (lambda body: body + b"{}", 4),
    "a comma behind it": (lambda body: body + b",", 4),
    "UTF-16": (lambda body: body.decode().encode("utf-16"), 4),
    "UTF-16 without a mark": (lambda body: body.decode().encode("utf-16-le"), 4),
    "cut short": (lambda body: body[:-1], 4),
    "nothing": (lambda _: b"", 4),
    "space alone": (lambda _: b" \n", 4),
    "a byte order mark alone": (lambda _: b"\xef\xbb\xbf", 4),
}


@pytest.fixture(scope="module")
def gateways(models: Catalog) -> dict[str, Gateway]:
    """A gateway for each model, which is the default of its own."""
    return {
        name: Gateway(elsewhere, Catalog({name: model}, default=name), PATIENT_SETTINGS)
        for name, model in models.live.items()
        if name in ("iris", "loans", "linear")
    }


@pytest.fixture(scope="module")
def rows(made: dict[str, Made]) -> dict[str, list[list[bytes]]]:
    return {
        name: [[json.dumps(cell).encode() for cell in row] for row in found.rows]
        for name, found in made.items()
    }


def ask_all(gateway: Gateway, rows: list[list[bytes]], ignored: bytes | None, wrap: Any = None) -> Told:
    [model] = gateway.catalog.live.values()
    found = {}
    for form in forms(model, default=True):
        if ignored is None or form.ignores:
            body = form.body(model.signature, rows, ignored)
            found[form.name] = post(gateway, form.path.format(model.name), wrap(body) if wrap else body)
    return agree(found)


@pytest.mark.parametrize("name", ["iris", "loans"])
@pytest.mark.parametrize(
    ("value", "hundreds"),
    [*((value, 2) for value in TAKEN.values()), *((value, 4) for value in REFUSED.values())],
    ids=[*TAKEN, *REFUSED],
)
def test_an_odd_value_where_none_is_looked_at(
    gateways: dict[str, Gateway], rows: dict[str, Any], name: str, value: bytes, hundreds: int
) -> None:
    """What is ignored is still JSON, or the body is refused: on every route, whichever decoder takes it."""
    assert ask_all(gateways[name], rows[name][:2], value).hundreds == hundreds


@pytest.mark.parametrize("name", ["iris", "loans"])
@pytest.mark.parametrize("value", [*TAKEN.values(), *REFUSED.values()], ids=[*TAKEN, *REFUSED])
def test_an_odd_value_where_a_column_reads_it(
    gateways: dict[str, Gateway], rows: dict[str, Any], name: str, value: bytes
) -> None:
    first, second = rows[name][:2]
    ask_all(gateways[name], [[value, *first[1:]], second], None)
    ask_all(gateways[name], [[value] * len(first)], None)


@pytest.mark.parametrize(
    "many", [("iris", 1), ("iris", 3), ("iris", 4_000), ("loans", 1), ("loans", 3), ("linear", 1)]
)
@pytest.mark.parametrize(("wrap", "hundreds"), WRAPPED.values(), ids=WRAPPED)
def test_what_stands_around_a_body(
    gateways: dict[str, Gateway], rows: dict[str, Any], wrap: Any, hundreds: int, many: tuple[str, int]
) -> None:
    name, count = many
    sent = (rows[name] * 30)[:count]
    [model] = gateways[name].catalog.live.values()
    found = {
        form.name: post(gateways[name], form.path.format(name), wrap(form.body(model.signature, sent, None)))
        for form in forms(model, default=True)
        if form.name != "/predict scalar" or count == 1
    }
    assert agree(found).hundreds == hundreds


@pytest.mark.parametrize("literal", LITERALS)
def test_literals_that_json_does_not_have(
    gateways: dict[str, Gateway], rows: dict[str, Any], literal: bytes
) -> None:
    """400, but for the protocols whose clients write NaN for a missing value: MLflow's, /v2 and /v1."""
    for name in ("iris", "loans"):
        model = gateways[name].catalog.live[name]
        for form in forms(model, default=True):
            if form.ignores:
                body = form.body(model.signature, rows[name][:1], literal)
                found = post(gateways[name], form.path.format(name), body)
                taken = form.path == "/invocations" or form.path.startswith(("/v1/", "/v2/"))
                assert found.hundreds == (2 if taken else 4), form.name
            cells = [literal, *rows[name][0][1:]]
            body = form.body(model.signature, [cells], None)
            assert post(gateways[name], form.path.format(name), body).hundreds == 4, form.name


@pytest.mark.parametrize("count", [1, 4_000])
@pytest.mark.parametrize("first", ["valid", "null", "beyond", "text", "short"])
def test_of_two_equal_keys_the_last_counts(
    gateways: dict[str, Gateway], rows: dict[str, Any], first: str, count: int
) -> None:
    """In each form, at each depth, whatever the first holds and whichever decoder takes the body."""
    gateway, setosa, virginica = gateways["iris"], rows["iris"][0], rows["iris"][-1]
    before: dict[str, bytes] = {
        "valid": b"[%b]" % b",".join(b"[%b]" % b",".join(setosa) for _ in range(count)),
        "null": b"null",
        "beyond": b"1e999",
        "text": '"ä"'.encode(),
        "short": b"[[1]]",
    }
    model = gateway.catalog.live["iris"]
    names = json.dumps(model.signature.names).encode()
    last = b"[%b]" % b",".join(b"[%b]" % b",".join(virginica) for _ in range(count))
    shape = b'"shape":[%d,4],"datatype":"FP64"' % count
    record = b"{%b}" % b",".join(
        b'"%b":%b,"%b":%b' % (name.encode(), b"null" if first == "null" else old, name.encode(), new)
        for name, old, new in zip(model.signature.names, setosa, virginica, strict=True)
    )
    many = b"[%b]" % b",".join([record] * count)
    old = before[first]
    bodies = [
        ("/predict", b'{"features":%b,"features":%b}' % (old, last)),
        ("/predict", b'{"records":%b}' % many),
        ("/v2/models/iris/infer", b'{"inputs":[{"name":"f",%b,"data":%b,"data":%b}]}' % (shape, old, last)),
        ("/v2/models/iris/infer", b'{"inputs":%b,"inputs":[{"name":"f",%b,"data":%b}]}' % (old, shape, last)),
        ("/invocations", b'{"instances":%b,"instances":%b}' % (old, last)),
        ("/invocations", b'{"inputs":%b}' % many),
        ("/invocations", b'{"dataframe_records":%b}' % many),
        ("/invocations", b'{"dataframe_split":{"data":%b,"columns":%b,"data":%b}}' % (old, names, last)),
        ("/score", b'{"rows":%b,"rows":%b}' % (old, last)),
    ]
    for path, body in bodies:
        found = post(gateway, path, body)
        assert found.hundreds == 2, (path, body[:300])
        assert found.labels is None or found.labels == ["virginica"] * count, (path, body[:300])


def test_a_body_has_at_most_a_million_brackets() -> None:
    with pytest.raises(Problem) as refused:
        decode(b"[" * (MAX_BRACKETS + 1))
    assert refused.value.status == 413


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"a": "\xed\xa0\x80"}', "not UTF-8 at byte 7"),
        (b'[1e999, "\xff"]', "not UTF-8 at byte 9"),
        (b'["\\ud800"]', "not JSON"),
        (b'[1e999, "\\ud800"]', "half a surrogate pair"),
        (b"[NaN]", "NaN; send null"),
        (b"[-Infinity]", "Infinity; send null"),
        (b" ", "empty"),
        (b"[" * 200 + b"]" * 200, f"at most {MAX_DEPTH}"),
        (b"[" * 20_000, f"at most {MAX_DEPTH}"),
    ],
)
def test_a_refusal_says_what_is_wrong(body: bytes, reason: str) -> None:
    with pytest.raises(Problem) as refused:
        decode(body)
    assert refused.value.status == 400
    assert reason in refused.value.detail


def test_literals_are_numbers_where_a_protocol_says_so() -> None:
    assert str(decode(b'[NaN, -Infinity, "NaN"]', literals=True)) == "[nan, -inf, 'NaN']"
    for body in (b"[-NaN]", b"[nan]", b"[NaN", b'[NaN,"\xff"]', b'[NaN,"\\ud800"]', b"[1,]"):
        with pytest.raises(Problem):
            decode(body, literals=True)


def test_numbers_of_any_length_are_read_in_a_line() -> None:
    """Python's own reading of a whole number is quadratic in its digits: 16 million would take an hour."""
    assert decode(b"9" * 16_000_000) == float("inf")
    assert decode(b"-" + b"9" * 16_000_000) == float("-inf")
    assert decode(b"[1e999," + b"9" * 4_300 + b"]")[1] == 10**4_300 - 1


# ---- bodies of every kind

# Pieces that matter to some decoder: what one of them takes and another does not.
CELLS = [
    b"1",
    b"-0",
    b"5.5",
    b"3.0",
    b"null",
    b"true",
    b'"3"',
    b'"cook"',
    b'"Ulm"',
    b'"2020-05-17"',
    b'""',
    b'" "',
]
CELLS += [
    b'"paid late"',
    b"1e400",
    b"3.4028235e38",
    b"3.4028236e38",
    b"9" * 400,
    b"1e-400",
    b'"5"',
    b'"NaN"',
    b"[]",
]
CELLS += [b"{}", b"[[1]]", b"9007199254740993", b"1E+2", '"ä"'.encode()]
odd_cells = st.sampled_from([*CELLS, *TAKEN.values(), *REFUSED.values()])


@st.composite
def bodies(draw: st.DrawFn) -> Any:
    name = draw(st.sampled_from(["iris", "loans", "linear"]))
    width = {"iris": 4, "loans": 6, "linear": 1}[name]
    count = draw(st.sampled_from([1, 1, 2, 9]))
    odd = draw(
        st.lists(st.tuples(st.integers(0, count - 1), st.integers(0, width - 1), odd_cells), max_size=3)
    )
    ignored = draw(st.none() | odd_cells) if name != "linear" else None
    wrap = draw(st.sampled_from([None, None, None, *(wrap for wrap, _ in WRAPPED.values())]))
    return name, count, odd, ignored, wrap


def rows_with(rows: list[list[bytes]], count: int, odd: list[tuple[int, int, bytes]]) -> list[list[bytes]]:
    found = [list(row) for row in rows[:count]]
    for row, column, cell in odd:
        if len(rows[0]) > 1 or cell[:1] != b"[":  # of one column, a list of lists is a tensor for some
            found[row][column] = cell
    return found


def with_sense(wrap: Any, body: bytes) -> bytes:
    try:
        return wrap(body) if wrap else body  # type: ignore[no-any-return]
    except UnicodeDecodeError:  # to be written in UTF-16, but it is not UTF-8
        return body


@MANY
@given(made_up=bodies())
def test_all_forms_have_one_opinion(gateways: dict[str, Gateway], rows: dict[str, Any], made_up: Any) -> None:
    """Whatever the cells, the ignored value and what stands around: one class of status, one prediction."""
    name, count, odd, ignored, wrap = made_up
    sent = rows_with(rows[name], count, odd)
    model = gateways[name].catalog.live[name]
    found = {}
    for form in forms(model, default=True):
        if (ignored is None or form.ignores) and (form.name != "/predict scalar" or count == 1):
            if form.name == "/v2 by column" and _mixed(sent):
                continue  # cells of several types in one column: a tensor has one datatype
            body = with_sense(wrap, form.body(model.signature, sent, ignored))
            found[form.name] = post(gateways[name], form.path.format(name), body)
    agree(found)


def _mixed(rows: list[list[bytes]]) -> bool:
    types = [{cell[:1] for cell in cells if cell != b"null"} for cells in zip(*rows, strict=True)]
    return any(len({_type(first) for first in firsts}) > 1 for firsts in types)


def _type(first: bytes) -> str:
    return {b'"': "text", b"t": "bool", b"f": "bool", b"[": "list", b"{": "object"}.get(first, "number")


ROUTES = ("/predict", "/models/loans/predict", "/v2/models/iris/infer", "/invocations", "/score", "/feedback")
KEYS = ("features", "records", "inputs", "dataframe_split", "data", "shape", "rows", "x", "id", "actual")
SIGNS = (b"{", b"}", b"[", b"]", b",", b":", b" ", b"\xef\xbb\xbf", b'"\xed\xa0\x80"', b'"\\ud800"')
pieces = st.sampled_from([*SIGNS, *CELLS, *LITERALS, *(json.dumps(key).encode() for key in KEYS)])


@MANY
@given(
    path=st.sampled_from(ROUTES), body=st.binary(max_size=40) | st.lists(pieces, max_size=25).map(b"".join)
)
def test_no_bytes_are_a_5xx(gateway: Gateway, path: str, body: bytes) -> None:
    answer = asyncio.run(ask(gateway, "POST", path, body))
    assert answer.status < 500, answer


# ---- feedback


@pytest.fixture
def with_log(models: Catalog, tmp_path: Path) -> Iterator[Gateway]:
    catalog = Catalog({"iris": models.live["iris"]}, default="iris")
    gateway = Gateway(elsewhere, catalog, Settings(prediction_log=str(tmp_path / "log")))
    assert gateway.predictions is not None
    yield gateway
    gateway.predictions.close()


def feedback(gateway: Gateway, body: bytes) -> int:
    return asyncio.run(ask(gateway, "POST", "/feedback", body)).status


def test_feedback_has_the_same_opinion(with_log: Gateway, rows: dict[str, Any]) -> None:
    row = b"[%b]" % b",".join(rows["iris"][0])
    answer = asyncio.run(ask(with_log, "POST", "/predict", b'{"features":[%b]}' % row))
    known = answer.json()["id"].encode()
    assert feedback(with_log, b'[{"id":"%b","row":1e999,"row":0,"actual":"\xed\xa0\x80"}]' % known) == 400
    for value in REFUSED.values():
        assert feedback(with_log, b'{"id":"%b","row":1e999,"row":0,"actual":%b}' % (known, value)) == 400
        assert feedback(with_log, b'{"id":"%b","actual":%b}' % (known, value)) == 400
    for value in TAKEN.values():  # JSON, but none of the classes
        assert feedback(with_log, b'{"id":"%b","actual":%b}' % (known, value)) == 422
    assert feedback(with_log, b'{"id":"%b","actual":5,"actual":"setosa"}' % known) == 200


# ---- a real server


def test_a_real_server_has_the_same_opinion(server: Server, made: dict[str, Made]) -> None:
    """Through sockets, on both lanes."""
    model = "breast_cancer"  # the default
    signature = made[model].signature
    cells = [[json.dumps(cell).encode() for cell in row] for row in made[model].rows[:2]]
    sent: list[tuple[str, Any, int]] = [(what, wrap, hundreds) for what, (wrap, hundreds) in WRAPPED.items()]
    odd = [
        [[value, *cells[0][1:]], cells[1]] for value in (*TAKEN.values(), *REFUSED.values(), b"1e-400", b"-0")
    ]

    class Live:
        name = model

    Live.signature = signature  # type: ignore[attr-defined]
    with httpx.Client(base_url=server.url, timeout=PATIENCE_S) as client:

        def ask_form(form: Any, body: bytes) -> Told:
            path = form.path.format(model)
            reply = client.post(path, content=body, headers={"Content-Type": "application/json"})
            return told(reply.status_code, reply.content, path)

        for what, wrap, hundreds in sent:
            found = {}
            for form in forms(Live, default=True):  # type: ignore[arg-type]
                found[form.name] = ask_form(form, wrap(form.body(signature, cells, None)))
            assert agree(found).hundreds == hundreds, what
        for rows in odd:
            agree(
                {
                    form.name: ask_form(form, form.body(signature, rows, None))
                    for form in forms(Live, default=True)
                }
            )  # type: ignore[arg-type]


@pytest.mark.parametrize("escaped", [True, False])
def test_keys_are_in_nfc_and_values_are_as_they_were_sent(escaped: bool) -> None:
    """A name typed in another spelling is the same column; an id that a client sends comes back as it was."""
    apart = "e\u0301"
    body = json.dumps({"id": apart, apart: [{apart: apart}, {apart: 1}]}, ensure_ascii=escaped).encode()
    assert decode(body) == {"id": apart, "é": [{"é": apart}, {"é": 1}]}

"""What a use case file may say, and what it is told when it says something else."""

from pathlib import Path

import pytest

from training.metrics.metric import METRICS
from training.settings import (
    ALL_METRICS,
    Csv,
    Read,
    UseCaseError,
    all_use_cases,
    load_use_case,
)

GOOD = 'target = "y"\n[source]\nkind = "csv"\npath = "data.csv"\n'
RATED = 'task = "regression"\n' + GOOD


def written(folder: Path, text: str, name: str = "mine.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(UseCaseError) as caught:
        load_use_case(written(folder, text))
    message = str(caught.value)
    assert "`" not in message, "msgspec's own words came through"
    assert message.endswith(".")
    return message


def test_eleven_use_cases_ship():
    """Each has a title, a description, a metric and floors; the generated ones say so in their title."""
    cases = all_use_cases()
    assert [case.name for case in cases] == [
        "breast_cancer", "credit", "diabetes", "digit_pictures", "digits", "fraud", "iris", "linear",
        "recommend", "sentiment", "wine",
    ]  # fmt: skip
    for case in cases:
        assert case.title
        assert case.description
        assert case.metric
        assert case.gate.floors
        assert case.synthetic == (type(case.source).__name__ == "Synthetic")
        assert (
            not case.synthetic
            or "synthetic" in (case.title + case.description).lower()
            or case.name == "linear"
        )


def test_a_name_is_found_in_the_checkout():
    """`iris` is usecases/iris.toml, wherever one stands."""
    assert load_use_case("iris").target == "species"


def test_a_path_is_relative_to_its_file(tmp_path, monkeypatch):
    """`path = "data.csv"` lies beside the TOML, not in the working directory."""
    monkeypatch.chdir("/")
    case = load_use_case(written(tmp_path, GOOD))
    assert case.source == Csv(path=str(tmp_path / "data.csv"))
    assert case.name == "mine"


def test_a_byte_order_mark_does_no_harm(tmp_path):
    """Notepad writes one."""
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert load_use_case(path).target == "y"


@pytest.mark.parametrize(
    ("text", "key", "right"),
    [
        ('taget = "y"\n', '"taget"', '"target"'),
        ("test_fractoin = 0.2\n" + GOOD, '"test_fractoin"', '"test_fraction"'),
        (GOOD + 'pth = "x"\n', '"source.pth"', '"path"'),
        (GOOD + "[gate]\nfloor = {}\n", '"gate.floor"', '"floors"'),
        (GOOD + "[gate]\nfloors = { roc_acu = 0.9 }\n", '"roc_acu"', '"roc_auc"'),
        ('metric = "acuracy"\n' + GOOD, '"acuracy"', '"accuracy"'),
        (GOOD + '[kinds]\nage = "nummer"\n', '"nummer"', '"number"'),
        (GOOD.replace('"csv"', '"cvs"'), '"cvs"', '"csv"'),
        (GOOD + '[read]\nencodng = "utf-8"\n', '"read.encodng"', '"encoding"'),
        (GOOD + '[read]\nencoding = "winows-1251"\n', '"winows-1251"', '"windows-1251"'),
    ],
)
def test_an_unknown_word_is_named_with_the_nearest_right_one(tmp_path, text, key, right):
    """A slip of the hand costs one look."""
    message = refusal(tmp_path, text)
    assert key in message
    assert f"did you mean {right}?" in message


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ('trials = "ten"\n' + GOOD, ["trials", '"ten"', "whole number"]),
        ("trials = 0\n" + GOOD, ["trials", "0", ">= 1"]),
        ("trials = true\n" + GOOD, ["trials", "true", "whole number"]),
        ("folds = 1\n" + GOOD, ["folds", "1", ">= 2"]),
        ("test_fraction = 1.5\n" + GOOD, ["test_fraction", "1.5"]),
        ('leave_out = "age"\n' + GOOD, ["leave_out", '"age"', "a list"]),
        ("leave_out = [1]\n" + GOOD, ["leave_out", "1", "text in quotes"]),
        ("salt = 3\n" + GOOD, ["salt", "3", "text in quotes"]),
        ('task = "clustering"\n' + GOOD, ["task", '"clustering"', "binary, multiclass, regression"]),
        (GOOD.replace('"data.csv"', "3"), ["source.path", "3", "text in quotes"]),
        (
            GOOD + '[gate]\nfloors = { roc_auc = "high" }\n',
            ["gate.floors", '"roc_auc"', '"high"', "a number"],
        ),
        (
            'sensitive = ["sex"]\n' + GOOD + "[gate.fairness]\ndemographic_parity = 0.1\n",
            ["gate.fairness", '"demographic_parity"', 'did you mean "demographic_parity_ratio"?'],
        ),
        (
            'task = "regression"\nsensitive = ["sex"]\n'
            + GOOD
            + "[gate.fairness]\nequalized_odds_difference = 0.1\n",
            [
                "gate.fairness",
                '"equalized_odds_difference"',
                "mean_prediction_difference, mean_error_difference",
            ],
        ),
        (
            GOOD + "[gate.fairness]\nequalized_odds_difference = 0.1\n",
            ["gate.fairness", "no column makes them", "sensitive ="],
        ),
        (
            'sensitive = ["sex"]\n' + GOOD + "[gate.fairness]\nequalized_odds_difference = -1\n",
            ["gate.fairness", "-1", "0 or more"],
        ),
        (GOOD + '[unknown]\ncity = "drop"\n', ["unknown", '"city"', '"drop"', "refuse, missing"]),
        (RATED + '[rank]\nquery = ["user"]\n', ["rank.item", "0 columns", "expected one"]),
        (RATED + '[rank]\nquery = "user"\nitem = ["movie"]\n', ["rank.query", '"user"', "a list"]),
        (
            RATED + '[rank]\nquery = ["user", "town"]\nitem = ["movie"]\n',
            ["rank.query", "2 columns", "expected one"],
        ),
        (RATED + '[rank]\nquery = ["user"]\nitem = []\n', ["rank.item", "0 columns", 'item = ["movie"]']),
        (RATED + '[rank]\nquery = ["y"]\nitem = ["movie"]\n', ["rank.query", "the target"]),
        (RATED + '[rank]\nquery = ["k"]\nitem = ["movie"]\n', ["rank.query", '"k"', "another name"]),
        (RATED + '[rank]\nquery = ["user"]\nitem = ["user"]\n', ["rank.query and rank.item", "both"]),
        (
            RATED + '[rank]\nquery = ["user"]\nitem = ["movie"]\n[kinds]\nmovie = "number"\n',
            ["rank.item", "number", "expected category"],
        ),
        (
            'leave_out = ["user"]\n' + RATED + '[rank]\nquery = ["user"]\nitem = ["movie"]\n',
            ["rank.query", "leave_out names too"],
        ),
        (
            GOOD + '[rank]\nquery = ["user"]\nitem = ["movie"]\n',
            ["task is not set", 'task = "regression"'],
        ),
        (
            RATED + '[rank]\nquery = ["user"]\nitem = ["movie"]\ngate = "ndcg"\n',
            ["rank.gate", '"ndcg"'],
        ),
        (
            RATED + '[rank]\nqery = ["user"]\nitem = ["movie"]\n',
            ['unknown key "rank.qery"', 'did you mean "query"?'],
        ),
        (RATED + "[gate]\nfloors = { ndcg_at_10 = 0.1 }\n", ["ndcg_at_10", "gate.floors"]),
        (
            RATED
            + "[gate]\nmax_slice_gap = 0.1\n"
            + '[rank]\nquery = ["user"]\nitem = ["movie"]\ngate = "recall_at_10"\n',
            ["gate.max_slice_gap", "rank.gate"],
        ),
        (GOOD + '[read]\ndelimiter = ""\n', ["read.delimiter", '""', "one to 8 characters"]),
        (GOOD + '[read]\ndelimiter = ";;;;;;;;;"\n', ["read.delimiter", '";;', "one to 8 characters"]),
        (GOOD + '[read]\nquote = "ab"\n', ["read.quote", '"ab"', "one character or an empty text"]),
        (GOOD + '[read]\ndecimal = ";"\n', ["read.decimal", '";"', "one of '.', ','"]),
        (GOOD + '[read]\ndecimal = "."\nthousands = "."\n', ["read.decimal", "read.thousands"]),
        (GOOD + '[read]\nmissing = "NA"\n', ["read.missing", '"NA"', "a list"]),
        (GOOD + '[read]\nmissing = ["NA"]\nnot_missing = ["NA"]\n', ['"NA"', "both"]),
        (GOOD + "[read]\nskip_lines = -1\n", ["read.skip_lines", "-1", ">= 0"]),
        ("read = 1\n" + GOOD, ["read is 1", "[read]"]),
        (GOOD + '[formats]\nday = "d.m.Y"\n', ['"day"', "formats", '"d.m.Y"', "%d.%m.%Y"]),
        (GOOD + "[formats]\nday = 3\n", ["formats", "3", "text in quotes"]),
        ('encoding = "utf-8"\n' + GOOD + '[read]\nencoding = "latin-1"\n', ["read.encoding", "encoding is"]),
        ('source = "data.csv"\ntarget = "y"\n', ["source", '"data.csv"', "[source]"]),
        ('target = "y"\n', ["source", "missing", "[source]"]),
        (GOOD.replace('path = "data.csv"', ""), ["source.path", "missing"]),
        (GOOD.replace('kind = "csv"', ""), ["source.kind", "missing"]),
        ('name = "My Data"\n' + GOOD, ["name", '"My Data"', "small letter"]),
        ('task = "regression"\npositive = "yes"\n' + GOOD, ["positive", "binary", '"regression"']),
        ('task = "regression"\nmetric = "roc_auc"\n' + GOOD, ["metric", '"roc_auc"', "mae, rmse, r2"]),
        ('group = "a"\ntime = "b"\n' + GOOD, ["group", "time"]),
        ('leave_out = ["y"]\n' + GOOD, ["leave_out", "target"]),
        (GOOD.replace('"csv"\npath = "data.csv"', '"bundled"\nname = "boston"'), ["source.name", '"boston"']),
        ("target = \n", ["not TOML", "line 1"]),
    ],
)
def test_a_wrong_value_names_the_key_what_was_there_and_what_was_expected(tmp_path, text, parts):
    """The person can mend it from the sentence alone."""
    message = refusal(tmp_path, text)
    for part in ["mine.toml", *parts]:
        assert part in message, message


def test_a_missing_file_is_one_sentence(tmp_path):
    """With its path."""
    with pytest.raises(UseCaseError, match=r"^.*absent\.toml does not exist\.$"):
        load_use_case(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    ("name", "hint"), [("irs", '"iris"'), ("Breast Cancer", "breast_cancer"), ("../x", "not a use case")]
)
def test_an_unknown_name_says_which_there_are(name, hint):
    """Or how a name looks."""
    with pytest.raises(UseCaseError, match=hint):
        load_use_case(name)


def test_encoding_and_delimiter_may_stand_where_they_stood_before_there_was_read(tmp_path):
    """Files that `init` wrote earlier go on to work."""
    text = 'encoding = "latin-1"\n' + GOOD + 'delimiter = ";"\n'
    assert load_use_case(written(tmp_path, text)).read == Read(encoding="latin-1", delimiter=";")


def test_a_file_in_another_encoding_is_told_so(tmp_path):
    """TOML is UTF-8."""
    path = tmp_path / "mine.toml"
    path.write_bytes(GOOD.replace('"y"', '"Größe"').encode("latin-1"))
    with pytest.raises(UseCaseError, match="not UTF-8"):
        load_use_case(path)


def test_every_metric_that_can_be_named_can_be_measured():
    """The names in METRIC_NAMES and in METRICS are the same."""
    assert set(ALL_METRICS) == set(METRICS)
    assert all(metric.tasks for metric in METRICS.values())


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[live]\nalpha = 0.5\n", ("live.alpha is 0.5",)),
        ("[canary]\nmax_errors = 2\n", ("canary.max_errors is 2", "<= 1")),
        ("[canary]\nmax_slowdown = 0.5\n", ("canary.max_slowdown is 0.5", ">= 1")),
        ("[canary]\nmax_slowdown = inf\n", ("canary.max_slowdown is inf",)),  # JSON has no infinity
        ("[canary]\nmax_shift = 0.5\n", ('"canary.max_shift"', '"max_score_shift"')),
        ("[live]\nalpha = 0\n", ("live.alpha is 0",)),
        ("[live]\nmax_error = inf\n", ("live.max_error is inf",)),
        ("[live]\ndays = inf\n", ("live.days is inf",)),
        ("[live]\ndays = 1e-300\n", ("live.days is 1e-300",)),
        ("[live]\nalpha = 1e-320\n", ("live.alpha is 1e-320", "1e-09")),
        ("[live]\nalpha = nan\n", ("live.alpha is nan",)),
        ("[live]\nmax_error = 1e-200\n", ("live.max_error is 1e-200",)),
        ("[live]\nmin_rows = 0\n", ("live.min_rows is 0",)),
        ("[live]\nmin_rows = 1000000001\n", ("live.min_rows is 1000000001", "1000000000")),
        (
            "[live]\nmin_rows = 10000000000000000000\n",
            ("live.min_rows is 10000000000000000000", "1000000000"),
        ),
        (f"[live]\nmin_rows = {'9' * 400}\n", ("live.min_rows is 999", "1000000000")),
        ("[live]\npromote_shadow = 1\n", ("live.promote_shadow is 1", "true or false")),
        (
            '[live]\nmetric = "roc_auc"\n',
            ('live.metric is "roc_auc"', "brier, accuracy, log_loss, mae, rmse"),
        ),
        ('task = "regression"\n[live]\nmetric = "brier"\n', ("for a regression task one of mae, rmse",)),
        ('task = "binary"\n[live]\nmax_error = 3.0\n', ("live.max_error is for a regression",)),
        ("[live]\npromote_shadows = true\n", ('"live.promote_shadows"', '"promote_shadow"')),
    ],
)
def test_a_wrong_rule_of_live_is_one_sentence_with_its_key(tmp_path, text, parts):
    head = "".join(line for line in text.splitlines(keepends=True) if line.startswith("task"))
    said = refusal(tmp_path, head + GOOD + text.removeprefix(head))
    for part in parts:
        assert part in said


def test_no_rule_of_live_is_switched_on_by_itself(tmp_path):
    live = load_use_case(written(tmp_path, GOOD)).live
    assert not live.acts
    assert load_use_case(written(tmp_path, GOOD + "[live]\nroll_back = true\n")).live.acts


def test_the_rules_of_live_are_not_for_named_numbers(tmp_path: Path) -> None:
    """A use case of the task "scores" is read; one with [live] is refused in a sentence."""
    path = tmp_path / "numbers.toml"
    lines = 'task = "scores"\n[model]\nsource = "model.skops"\n'
    path.write_text(lines)
    assert load_use_case(path).task == "scores"
    path.write_text(f"{lines}[live]\npromote_shadow = true\n")
    with pytest.raises(UseCaseError, match=r"\[live\] compares classes or one number"):
        load_use_case(path)


def test_the_columns_of_a_ranking_are_categories_whatever_is_asked_of_them(tmp_path: Path) -> None:
    """An unknown user is not an error unless the file says so; floors may name the figures of a ranking."""
    path = tmp_path / "ratings.toml"
    path.write_text(
        RATED
        + "[gate]\nfloors = { ndcg_at_10 = 0.1, coverage_at_10 = 0.01 }\n"
        + '[unknown]\nmovie = "refuse"\n[rank]\nquery = ["user"]\nitem = ["movie"]\ngate = "ndcg_at_10"\n'
    )

    found = load_use_case(path)

    assert found.kinds == {"user": "category", "movie": "category"}
    assert found.unknown == {"user": "missing", "movie": "refuse"}
    assert found.rank is not None
    assert found.rank.pair == ("user", "movie")

"""A new champion reaches models.lock by itself; whatever goes wrong, what the file names can be served."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import bentoml
import pytest

from artifact import manifest, models_lock, runtime, store
from artifact.manifest import ArtifactError
from artifact.models_lock import CANARY, ROLES, SHADOW, Entry
from deploy import bundle as bundling
from deploy import follow as following
from deploy import follow_roles
from deploy.__main__ import main as deploy_main
from deploy.follow import Follower
from tests.deploy.registered import crown, promote, version_of
from tests.kept import empty_registry
from tests.servers import CHECKOUT, free_port
from tests.serving.artifacts import iris, linear, reseal
from training.__main__ import main as training_main
from training.registry.mlflow_registry import Registry
from training.registry.records import CHAMPION

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from deploy.bundle import Bundled


pytestmark = pytest.mark.usefixtures("bentoml_home")


@pytest.fixture(scope="module")
def champions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry in which `iris` has two versions, the first is champion, and `linear` has one."""
    folder = tmp_path_factory.mktemp("champions")
    registry = Registry(empty_registry(folder / "state"))
    crown(registry, iris(folder / "iris"), "iris")
    crown(registry, iris(folder / "other", runtime="python"), "iris")
    crown(registry, linear(folder / "linear"), "linear")
    promote(registry, "1")
    return folder / "state"


@pytest.fixture
def lock(state: Path, tmp_path: Path) -> Path:  # noqa: ARG001 - the registry is the test's own by then
    """`iris` is bundled in its first version."""
    path = tmp_path / "models.lock"
    bundling.bundle(["iris"], path)
    return path


def versions(lock: Path) -> dict[str, str]:
    """The version of each name in the file; fails unless a server could open each."""
    found = {}
    for name, tag in models_lock.read(lock).items():
        path, metadata = store.path_of(tag)
        runtime.load(manifest.load(path, name=name))
        found[name] = str(metadata["version"])
    return found


def test_a_new_champion_takes_the_place_of_the_old_one(lock: Path, told: list[str]) -> None:
    """Said once; other lines, comments and the order stay; the way back is the same."""
    lock.write_text("# kept\n" + lock.read_text() + "wine okamochi-wine:1-a  # by hand\n")
    follower = Follower(["iris"], lock, tell=told.append)
    assert follower.look()
    assert told == []
    promote(Registry(), "2")

    assert follower.look()
    assert follower.look()

    assert lock.read_text().splitlines()[0] == "# kept"
    assert "wine okamochi-wine:1-a  # by hand" in lock.read_text()
    lines = lock.read_text().replace("wine okamochi-wine:1-a  # by hand\n", "")
    lock.write_text(lines)
    assert versions(lock) == {"iris": "2"}
    assert len(told) == 1
    assert "champion version 2" in told[0]
    promote(Registry(), "1")
    assert follower.look()
    assert versions(lock) == {"iris": "1"}


def test_without_names_it_follows_what_the_file_names(lock: Path, told: list[str]) -> None:
    """A line that is added is followed from then on; a champion that no line names is not brought."""
    follower = Follower([], lock, tell=told.append)
    follower.look()
    assert versions(lock) == {"iris": "1"}
    linear_tag = bundling.put_champion("linear", "linear").tag
    models_lock.update(lock, [Entry("linear", linear_tag)])
    promote(Registry(), "2")

    assert follower.look()
    assert versions(lock) == {"iris": "2", "linear": "1"}


def test_a_name_that_is_new_is_appended(lock: Path, told: list[str]) -> None:
    assert Follower(["iris", "linear"], lock, tell=told.append).look()
    assert versions(lock) == {"iris": "1", "linear": "1"}


@pytest.mark.parametrize("file", ["model.onnx", "signature.json", "golden.json", "manifest.json"])
def test_a_damaged_version_is_refused_and_told_once(
    state: Path, lock: Path, told: list[str], monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    """It is not fetched again at each look; another version is brought at once."""
    before = lock.read_text()
    crown(Registry(), linear(state.parent / "new"), "linear")
    Follower(["linear"], lock, tell=told.append).look()
    told.clear()
    crown(Registry(), iris(state.parent / "third"), "iris")
    newest = max((state / "mlruns" / "iris").rglob(f"okamochi/{file}"), key=lambda path: path.stat().st_mtime)
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(bytes(content))
    fetched: list[str] = []
    bring = following.put_champion

    def counted(name: str, asked_as: str) -> bundling.Bundled:
        fetched.append(name)
        return bring(name, asked_as)

    monkeypatch.setattr(following, "put_champion", counted)
    follower = Follower(["iris", "linear"], lock, tell=told.append)

    assert not follower.look()
    assert not follower.look()

    assert before in lock.read_text()
    assert fetched.count("iris") == 1
    assert len(told) == 1, told
    assert told[0].startswith("iris: champion version 3 is refused and the one that is served stays")
    promote(Registry(), "2")
    assert follower.look()
    assert versions(lock) == {"iris": "2", "linear": "2"}


def test_a_registry_that_is_away_changes_nothing(
    lock: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said once, and once that it is back."""
    before = lock.read_text()
    follower = Follower(["iris"], lock, tell=told.append)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")

    assert not follower.look()
    assert not follower.look()

    assert lock.read_text() == before
    assert len(told) == 1, told
    assert "connection refused" in told[0]
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    promote(Registry(), "2")
    assert follower.look()
    assert versions(lock) == {"iris": "2"}
    assert told[-1] == "The registry answers again."


def entries(lock: Path) -> list[tuple[str, str, str]]:
    """Name, version and role of each line."""
    return [
        (each.name, str(store.path_of(each.tag)[1]["version"]), each.word)
        for each in models_lock.entries(lock)
    ]


def give(alias: str, number: str, **tags: str) -> None:
    registry = Registry()
    version = version_of(registry, number)
    registry.tag(version, tags)
    registry.set_alias("iris", alias, version)


def test_shadow_and_canary_follow_their_aliases(state: Path, lock: Path, told: list[str]) -> None:
    """They come, change and go with the aliases, and so does the percentage; the champion's line stays."""
    crown(Registry(), iris(state.parent / "third"), "iris")
    promote(Registry(), "1")
    follower = Follower(["iris"], lock, tell=told.append, canary_percent=2.5)
    give(SHADOW, "2")
    give(CANARY, "3")
    assert follower.look()
    assert entries(lock) == [("iris", "1", "champion"), ("iris", "2", "shadow"), ("iris", "3", "canary=2.5")]
    written = lock.stat().st_mtime_ns
    assert follower.look()
    assert lock.stat().st_mtime_ns == written
    give(CANARY, "3", **{"okamochi.canary_percent": "20"})
    Registry().delete_alias("iris", SHADOW)
    assert follower.look()
    assert entries(lock) == [("iris", "1", "champion"), ("iris", "3", "canary=20")]
    promote(Registry(), "3")  # its alias stays behind
    assert follower.look()
    assert entries(lock) == [("iris", "3", "champion")]
    promote(Registry(), "1")
    assert follower.look()
    assert entries(lock) == [("iris", "1", "champion"), ("iris", "3", "canary=20")]


def test_a_shadow_that_stays_is_opened_once(
    lock: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look reads no model's files again, until the registry or the file says something else."""
    opened: list[str] = []

    def put_beside(name: str, role: str, locked: Mapping[str, str]) -> Bundled:
        opened.append(role)
        return bundling.put_beside(name, role, locked)

    monkeypatch.setattr(follow_roles, "put_beside", put_beside)
    follower = Follower(["iris"], lock, tell=told.append)
    give(SHADOW, "2")
    for _ in range(3):
        assert follower.look()
    assert opened == [SHADOW]
    models_lock.update(lock, [], removed=[("iris", SHADOW)])
    assert follower.look()
    assert entries(lock) == [("iris", "1", "champion"), ("iris", "2", "shadow")]
    assert opened == [SHADOW, SHADOW]


@pytest.mark.parametrize(
    ("percent", "words"), [("150", "'150'; expected canary= and a percentage above 0"), ("half", "'half'")]
)
def test_a_percentage_that_is_none_changes_nothing(
    lock: Path, told: list[str], percent: str, words: str
) -> None:
    give(CANARY, "2", **{"okamochi.canary_percent": percent})
    follower = Follower(["iris"], lock, tell=told.append)
    assert not follower.look()
    assert not follower.look()
    assert entries(lock) == [("iris", "1", "champion")]
    assert len(told) == 1
    assert words in told[0]


@pytest.mark.parametrize("percent", ["0.000001", "12.345678", "99.999999"])
def test_every_digit_of_a_percentage_reaches_the_file(lock: Path, told: list[str], percent: str) -> None:
    """And the file is written once."""
    assert training_main(["role", "iris", "canary", "--version", "2", "--percent", percent]) == 0
    follower = Follower(["iris"], lock, tell=told.append)
    assert follower.look()
    assert entries(lock)[1] == ("iris", "2", f"canary={percent}")
    written = lock.stat().st_mtime_ns
    assert follower.look()
    assert lock.stat().st_mtime_ns == written


def test_a_shadow_of_other_columns_is_refused_by_them(state: Path, lock: Path, told: list[str]) -> None:
    """By `bundle --role` too."""
    made = linear(state.parent / "odd")
    sealed = json.loads((made.path / "manifest.json").read_text())
    sealed["manifest"]["name"] = "iris"
    (made.path / "manifest.json").write_text(json.dumps(sealed))
    reseal(made.path)
    crown(Registry(), made, "iris")
    promote(Registry(), "1")
    give(SHADOW, "3")
    before = lock.read_text()
    assert not Follower(["iris"], lock, tell=told.append).look()
    assert "it lacks 'sepal" in told[-1]
    with pytest.raises(ArtifactError, match="version 3 of iris cannot be its shadow: its columns differ"):
        bundling.bundle_beside(["iris"], SHADOW, 0.0, lock)
    assert lock.read_text() == before


def test_a_role_is_bundled_by_hand(lock: Path) -> None:
    """Bundling the champion again leaves it as it is."""
    with pytest.raises(bundling.NoVersionError, match="no version of iris has the alias canary"):
        bundling.bundle_beside(["iris"], CANARY, 5.0, lock)
    give(CANARY, "2")
    bundling.bundle_beside(["iris"], CANARY, 5.0, lock)
    bundling.bundle(["iris"], lock)
    assert entries(lock) == [("iris", "1", "champion"), ("iris", "2", "canary=5")]
    give(SHADOW, "2")
    lock.unlink()
    with pytest.raises(bundling.NoVersionError, match=r"has no champion of iris, which a shadow needs"):
        bundling.bundle_beside(["iris"], SHADOW, 0.0, lock)


BAD_ROLES = {
    "training role iris king --version 2": "invalid choice: 'king' (choose from",
    "training role iris canary --version 2 --percent 101": "101 is not above 0 and at most 100",
    "training role iris canary --version 2 --percent 0": "0 is not above 0 and at most 100",
    "training role iris canary --version 2 --percent nan": "nan is not above 0 and at most 100",
    "training role iris canary --version 2 --percent 1e-7": "1e-7 is not above 0 and at most 100, with six",
    "training role iris canary --version 2 --percent 5%": "5% is not above 0 and at most 100",
    "training role iris shadow --version 2 --percent 5": "a shadow answers no request",
    "training role iris shadow --version 9": "iris has no version '9'",
    "training role nobody shadow --version 1": 'There is no use case "nobody"',
    "deploy bundle iris --role king": "'king' is not a role; expected champion, shadow or canary=PERCENT",
    "deploy bundle iris --role canary=101": "a percentage above 0, at most 100",
    "deploy bundle iris --role canary": "a percentage above 0, at most 100",
    "deploy bundle iris --role canary=5": "no version of iris has the alias canary in the registry",
    "deploy bundle linear --role shadow": "models.lock has no champion of linear, which a shadow needs",
    "deploy bundle iris --role shadow --only": "--only writes champions",
}


@pytest.mark.parametrize("command", BAD_ROLES)
def test_a_bad_role_is_one_sentence_and_changes_nothing(
    lock: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """An unknown role, an invalid percentage, a version or a champion that does not exist."""
    package, *arguments = command.split()
    linears = version_of(Registry(), "1", "linear")
    Registry().set_alias("linear", SHADOW, linears)
    monkeypatch.setattr(bundling, "bundle_beside", partial(bundling.bundle_beside, lock=lock))
    before = lock.read_text(), entries(lock), aliases()
    main = {"training": training_main, "deploy": deploy_main}[package]
    try:
        code = main(arguments)
    except SystemExit as ended:  # of argparse, after its usage
        code = int(str(ended.code))
    said = capsys.readouterr()
    assert code in {1, 2}
    assert said.out == ""
    assert BAD_ROLES[command] in said.err
    assert len([line for line in said.err.splitlines() if line and line[0] not in " u"]) == 1, said.err
    assert (lock.read_text(), entries(lock), aliases()) == before


def aliases() -> dict[tuple[str, str], str]:
    found = {(name, alias): Registry().version(name, alias) for name in ("iris", "linear") for alias in ROLES}
    return {key: version.number for key, version in found.items() if version is not None}


def test_a_champion_that_is_gone_stays_served(lock: Path, told: list[str]) -> None:
    before = lock.read_text()
    Registry().delete_alias("iris", CHAMPION)
    follower = Follower(["iris"], lock, tell=told.append)
    assert not follower.look()
    assert not follower.look()
    assert lock.read_text() == before
    assert len(told) == 1, told
    assert "iris has no champion in the registry" in told[0]


def test_a_file_that_cannot_be_read_is_left_alone(lock: Path, told: list[str]) -> None:
    """Until somebody mends it."""
    good = lock.read_text()
    lock.write_text(good + "iris\n")
    promote(Registry(), "2")
    follower = Follower(["iris"], lock, tell=told.append)
    assert not follower.look()
    assert not follower.look()
    assert lock.read_text() == good + "iris\n"
    assert len(told) == 1, told
    assert "line 2" in told[0]
    lock.write_text(good)
    assert follower.look()
    assert versions(lock) == {"iris": "2"}


def test_an_alias_that_moves_while_a_version_is_brought_wins(
    lock: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has been overtaken is never written, however late its download ends."""
    promote(Registry(), "2")
    bring = following.put_champion

    def slow(name: str, asked_as: str) -> bundling.Bundled:
        bundled = bring(name, asked_as)
        promote(Registry(), "1")
        return bundled

    follower = Follower(["iris"], lock, tell=told.append)
    with monkeypatch.context() as patched:
        patched.setattr(following, "put_champion", slow)
        assert not follower.look()
    assert versions(lock) == {"iris": "1"}


def test_old_versions_are_removed_where_a_bound_is_given(state: Path, lock: Path, told: list[str]) -> None:
    """The one that is named and the newest others stay; another name's are not touched."""
    Follower(["iris", "linear"], lock, tell=told.append).look()
    for number in range(3):
        crown(Registry(), iris(state.parent / f"new{number}"), "iris")
        assert Follower(["iris"], lock, keep=1, tell=told.append).look()
    kept = sorted(
        str(model.tag).partition(":")[2].partition("-")[0] for model in bentoml.models.list("okamochi-iris")
    )
    assert kept == ["4", "5"]
    assert versions(lock) == {"iris": "5", "linear": "1"}


KILLED = """
import os, signal, sys
from pathlib import Path
from deploy.follow import Follower
import training.registry.mlflow_registry as it
it.Registry()
lock, at = Path(sys.argv[1]), int(sys.argv[2])
writes = 0
WRITING = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.copytree", "shutil.copyfile"}

def count(event, arguments):
    global writes
    opens = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    if opens or event in WRITING:
        writes += 1
        if writes == at:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(count)
done = Follower(["iris"], lock).look()
print(f"writes {writes}", flush=True)
os._exit(0 if done else 1)
"""


@pytest.mark.deep
def test_whenever_it_is_killed_what_the_file_names_can_be_served(lock: Path) -> None:
    """At each step that writes anything; the next look completes what was begun."""
    promote(Registry(), "2")
    home, first = Path(os.environ["BENTOML_HOME"]), lock.read_text()
    saved = Path(shutil.copytree(home, lock.parent / "saved"))

    def follow(at: int) -> subprocess.CompletedProcess[str]:
        shutil.rmtree(home)
        shutil.copytree(saved, home)
        lock.write_text(first)
        return subprocess.run(
            [sys.executable, "-c", KILLED, str(lock), str(at)],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            check=False,
        )

    whole = follow(0)
    assert whole.returncode == 0, whole.stderr
    writes = int(whole.stdout.split()[-1])
    assert writes > 10
    for at in sorted({1, writes} | {round(1 + (writes - 1) * part / 4) for part in range(5)}):
        killed = follow(at)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert set(versions(lock).values()) <= {"1", "2"}
        assert Follower(["iris"], lock).look()
        assert versions(lock) == {"iris": "2"}


@pytest.fixture
def process(lock: Path) -> Iterator[subprocess.Popen[str]]:
    """`python -m deploy follow`, which looks every 0.1 s."""
    started = subprocess.Popen(
        [sys.executable, "-m", "deploy", "follow", "--every", "0.1", "--lock", str(lock)],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    yield started
    started.kill()
    started.communicate()


def test_it_follows_until_a_signal_ends_it(lock: Path, process: subprocess.Popen[str]) -> None:
    registry = Registry()
    for number in ("2", "1", "2"):
        promote(registry, number)
        end = time.monotonic() + 120
        while versions(lock) != {"iris": number}:
            assert time.monotonic() < end
            assert process.poll() is None
            time.sleep(0.1)
    process.terminate()
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out
    assert "Traceback" not in out
    assert out.count("champion version") == 3


def test_two_followers_agree(lock: Path, process: subprocess.Popen[str], told: list[str]) -> None:
    """Both bring the same version; the file has one line of it."""
    other = Follower(["iris"], lock, tell=told.append)
    registry = Registry()
    for number in ("2", "1", "2", "1"):
        promote(registry, number)
        end = time.monotonic() + 120
        while not other.look():
            assert time.monotonic() < end
        assert versions(lock) == {"iris": number}
    assert process.poll() is None


def test_looking_once_has_an_exit_code(lock: Path) -> None:
    promote(Registry(), "2")
    command = [sys.executable, "-m", "deploy", "follow", "--once", "--lock", str(lock)]
    done = subprocess.run([*command, "iris"], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert versions(lock) == {"iris": "2"}
    done = subprocess.run([*command, "nobody"], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "nobody has no champion in the registry" in done.stdout

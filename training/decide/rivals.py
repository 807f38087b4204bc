"""The shadow and the canary of a champion: who they are by the registry, and what the prediction log says."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from artifact import manifest
from training.decide.comparison import (
    CannotCompareError,
    Comparison,
    Contender,
    Ruling,
    compare,
    is_before,
    rule,
)
from training.decide.comparison_report import as_dict, told, told_canary
from training.decide.live import RESAMPLES, Estimate, estimate, rows_of
from training.decide.live_log import read_log
from training.decide.live_pairs import read_pairs
from training.metrics.metric import METRICS
from training.registry.records import CANARY, SHADOW

if TYPE_CHECKING:
    from training.registry.mlflow_registry import Registry
    from training.registry.records import Version
    from training.settings import Live


@dataclass(frozen=True)
class Rivals:
    """What is known of them; None where there is no such version.

    Parameters
    ----------
    problem
        Why shadow and champion cannot be compared.
    canary, canary_rows, canary_quality
        Its version, the rows that it answered and that have an outcome, and the gate's metric on them.
    """

    name: str
    live: Live
    shadow: str | None = None
    comparison: Comparison | None = None
    ruling: Ruling | None = None
    problem: str = ""
    canary: str | None = None
    canary_rows: int = 0
    canary_quality: Estimate | None = None
    metric: str = ""

    def told(self) -> str:
        """What a person reads."""
        if self.comparison is not None and self.ruling is not None:
            parts = [told(self.comparison, self.ruling, self.live)]
        elif self.shadow is not None:
            parts = [f"The shadow (version {self.shadow}) is not compared: {self.problem}"]
        else:
            waits = " The rule promote_shadow waits for one." if self.live.promote_shadow else ""
            parts = [f"{self.name} has no shadow: the registry has no alias {SHADOW} for it.{waits}"]
        if self.canary is not None:
            parts.append(told_canary(self.canary, self.metric, self.canary_quality, self.canary_rows))
        return "\n\n".join(parts)

    def as_dict(self) -> dict[str, Any]:
        """What a program reads: `shadow` and `canary`, null where there is none."""
        shadow: dict[str, Any] | None = None
        if self.comparison is not None and self.ruling is not None:
            shadow = as_dict(self.comparison, self.ruling)
        elif self.shadow is not None:
            shadow = {"shadow": self.shadow, "problem": self.problem}
        quality = None if self.canary_quality is None else asdict(self.canary_quality)
        canary = {"canary": self.canary, "rows": self.canary_rows, "quality": quality}
        return {"shadow": shadow, "canary": None if self.canary is None else canary}


def contender(registry: Registry, version: Version) -> Contender:
    """A version with the signature of its artifact, which is downloaded.

    Raises
    ------
    RegistryError, ArtifactError
    """
    with TemporaryDirectory(prefix="okamochi-") as folder:
        try:
            artifact = manifest.load(registry.download(version, Path(folder)), name=version.name)
        except manifest.ArtifactError as error:
            raise manifest.ArtifactError(str(error).replace(folder, version.uri)) from error
    return Contender(version, artifact.signature)


def rivals_of(registry: Registry, champion: Contender, target: str, live: Live) -> Rivals:
    """Shadow and canary beside the champion, as the prediction log at `target` has them.

    Raises
    ------
    NothingToJudgeError, RegistryError, ArtifactError
    """
    version = champion.version
    name, metric = version.name, version.tags.get("metric", "")
    shadow, canary = (_other(registry, version, alias) for alias in (SHADOW, CANARY))
    comparison = ruling = quality = None
    problem, rows = "", 0
    if shadow is not None:
        try:
            comparison = compare(
                champion,
                contender(registry, shadow),
                read_pairs(target, name, version.number, shadow.number),
                live,
            )
            ruling = rule(comparison, live, before=is_before(version, shadow))
        except CannotCompareError as error:
            problem = f"{error}."
    if canary is not None:
        signature = contender(registry, canary).signature
        own, _, _ = rows_of(canary.number, signature, read_log(target, name))
        rows = len(own)
        quality = estimate(metric, signature, own, RESAMPLES) if own and metric in METRICS else None
    return Rivals(
        name,
        live,
        None if shadow is None else shadow.number,
        comparison,
        ruling,
        problem,
        None if canary is None else canary.number,
        rows,
        quality,
        metric,
    )


def _other(registry: Registry, champion: Version, alias: str) -> Version | None:
    """The version of an alias, unless it is the champion itself."""
    found = registry.version(champion.name, alias)
    return None if found is None or found.number == champion.number else found

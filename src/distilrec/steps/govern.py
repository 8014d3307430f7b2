"""What is done to a scene's promotions by hand: read them, roll back, approve past the gate. Each is one entry of the
log, with who and why."""

from distilrec.core.errors import ArtifactError, ConfigError, RunError
from distilrec.io.promotions import APPROVED, RETIRED, ROLLED_BACK, Entry, entry_after, in_charge
from distilrec.io.registry import Registry, model_name


def history(scene: str, registry: Registry) -> list[Entry]:
    """Oldest first.

    Raises:
        RunError: nothing was ever decided about the scene.
    """
    entries = registry.log(scene).history()
    if not entries:
        raise RunError("DR-REG-003", f"nothing was ever promoted or held for scene {scene}")
    return entries


def rollback(scene: str, because: str, registry: Registry) -> Entry:
    """Put the version that was in charge before the champion in charge again; once more, the one before that.

    Raises:
        RunError: there is none.
        ArtifactError: the registry does not answer, or does not have it; nothing is changed then.
    """
    log = registry.log(scene)

    def decided(before: Entry | None) -> Entry:
        standing = in_charge(log.history())
        if before is None or len(standing) < 2:
            raise RunError("DR-REG-004", f"scene {scene} has no version to roll back to")
        former = standing[-2]
        registry.require_champion(former)
        return entry_after(
            before,
            scene,
            version=before.champion,
            verdict=ROLLED_BACK,
            reasons=(because,),
            champion=former.champion,
            champion_as_of=former.champion_as_of,
            champion_content=former.champion_content,
            rollback=standing[-3].champion if len(standing) > 2 else "",
        )

    return _committed(scene, registry, log.commit(decided))


def approve(scene: str, version: str, because: str, registry: Registry) -> Entry:
    """Put a version in charge whatever the gate said.

    Raises:
        ConfigError: no reason is given.
        ArtifactError: the registry has no such version, or it is none that a run registered.
        RunError: it is in charge already.
    """
    if not because.strip():
        raise ConfigError("DR-CONF-003", "an approval past the gate needs a reason; --because is empty")
    version, tags = registry.registered(scene, version)
    if not {"as_of", "content"} <= tags.keys():
        words = f"version {version} of {model_name(scene)} lacks the tags of a version that a run registered"
        raise ArtifactError("DR-REG-001", words)

    def decided(before: Entry | None) -> Entry:
        champion = before.champion if before else ""
        if champion == version:
            raise RunError("DR-REG-004", f"version {version} is in charge of scene {scene} already")
        return entry_after(
            before,
            scene,
            version=version,
            verdict=APPROVED,
            reasons=(because,),
            champion=version,
            champion_as_of=tags["as_of"],
            champion_content=tags["content"],
            rollback=champion,
        )

    return _committed(scene, registry, registry.log(scene).commit(decided))


def retire(scene: str, because: str, registry: Registry) -> Entry:
    """Put no version in charge, and none of before to roll back to: for a champion that is lost, or must not be asked
    any more. The next student is compared with none.

    Raises:
        RunError: none is in charge.
        ArtifactError: the entry is added, and MLflow does not answer.
    """

    def decided(before: Entry | None) -> Entry:
        if before is None or not before.champion:
            raise RunError("DR-REG-002", f"scene {scene} has no version in charge")
        nobody = {"champion": "", "champion_as_of": "", "champion_content": "", "rollback": ""}
        return entry_after(before, scene, version=before.champion, verdict=RETIRED, reasons=(because,), **nobody)

    return _committed(scene, registry, registry.log(scene).commit(decided))


def _committed(scene: str, registry: Registry, entry: Entry) -> Entry:
    registry.project(scene)
    return entry

"""What is done to a scene's promotions by hand: read them, roll back, approve past the gate. Each is one entry of the
log, with who and why."""

from distilrec.core.errors import ArtifactError, ConfigError, RunError
from distilrec.io.promotions import Entry, entry_after
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
    """Put the version before the champion in charge again.

    Raises:
        RunError: there is none.
    """
    log = registry.log(scene)

    def decided(before: Entry | None) -> Entry:
        if before is None or not before.rollback:
            raise RunError("DR-REG-004", f"scene {scene} has no version to roll back to")
        former = next(entry for entry in reversed(log.history()) if entry.champion == before.rollback)
        return entry_after(
            before,
            scene,
            version=former.champion,
            verdict="rolled back",
            reasons=(because,),
            champion=former.champion,
            champion_as_of=former.champion_as_of,
            champion_content=former.champion_content,
            rollback=former.rollback,
        )

    return _committed(scene, registry, log.commit(decided))


def approve(scene: str, version: str, because: str, registry: Registry) -> Entry:
    """Put a version in charge whatever the gate said.

    Raises:
        ConfigError: no reason is given.
        ArtifactError: the registry has no such version, or it is none that a run registered.
    """
    if not because.strip():
        raise ConfigError("DR-CONF-003", "an approval past the gate needs a reason; --because is empty")
    tags = registry.tags_of(scene, version)
    if not {"as_of", "content"} <= tags.keys():
        words = f"version {version} of {model_name(scene)} lacks the tags of a version that a run registered"
        raise ArtifactError("DR-REG-001", words)

    def decided(before: Entry | None) -> Entry:
        champion = before.champion if before else ""
        is_new = champion != version
        return entry_after(
            before,
            scene,
            version=version,
            verdict="approved",
            reasons=(because,),
            champion=version,
            champion_as_of=tags["as_of"],
            champion_content=tags["content"],
            rollback=champion if is_new or before is None else before.rollback,
        )

    return _committed(scene, registry, registry.log(scene).commit(decided))


def _committed(scene: str, registry: Registry, entry: Entry) -> Entry:
    registry.tag(scene, entry.version, {"verdict": entry.verdict})
    registry.project(scene)
    return entry

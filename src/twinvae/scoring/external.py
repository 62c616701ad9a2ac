"""Scores and maps from other packages: the entry points of the group ``twinvae.scores``.

A package names a module, which registers its scores with ``score`` and its maps with
``abnormality_map`` when it is imported::

    [project.entry-points."twinvae.scores"]
    mine = "my_package.my_scores"
"""

from __future__ import annotations

from importlib.metadata import entry_points

from twinvae.errors import ConfigError

GROUP = "twinvae.scores"
_loaded: set[tuple[str, str]] = set()


def load_external() -> None:
    """Import what other packages offer, each once; ``ConfigError`` naming one that fails."""
    for entry in entry_points(group=GROUP):
        key = (entry.name, entry.value)
        if key in _loaded:
            continue
        _loaded.add(key)
        try:
            entry.load()
        except Exception as error:
            owner = entry.dist.name if entry.dist else "an unknown package"
            raise ConfigError(
                f"{GROUP}: entry point {entry.name} = {entry.value} of {owner} cannot be "
                f"loaded: {error}"
            ) from error

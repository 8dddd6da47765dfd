"""The weights a run starts from: there, and of the shapes that it trains."""

import re

from etils import epath
from huggingface_hub import snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError

from mre_jax.data.cache.description import EncoderHashes
from mre_jax.data.cache.encoders import hashes_of
from mre_jax.doctor.finding import RETRY, Finding, failure, ok, refused
from mre_jax.doctor.machine import Machine
from mre_jax.errors import DataError, MreError
from mre_jax.io.files import reached
from mre_jax.models.vae import VAEConfig
from mre_jax.training.config import TrainConfig
from mre_jax.training.frozen import FROZEN
from mre_jax.training.pretrained import (
    can_resume,
    check_channels,
    read_record,
    unet_component,
    with_channels,
)
from mre_jax.training.run.directory import MODEL
from mre_jax.weights.files.folder import COMPONENTS
from mre_jax.weights.model import Component
from mre_jax.weights.names.rule import expected_tensors
from mre_jax.weights.names.strict import compare
from mre_jax.weights.opening import model_at

CHECK = "weights"
HUB = "https://huggingface.co/api/models"
_ON_HUB = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)@(?P<revision>[0-9a-f]{40})(/.*)?")


def check_model(
    config: TrainConfig, run: str | None, machine: Machine
) -> tuple[EncoderHashes | None, list[Finding]]:
    """Opens the weights without reading the UNet's: names and shapes must be those of the run.

    Those in a bucket or on the hub are not fetched: the place alone is asked for.

    Args:
        run: the run's directory, which holds what a resume needs; None without.

    Returns:
        The hashes of the encoders, where they can be read; and the findings.
    """
    model = config.model
    try:
        kept = None if run is None else epath.Path(run) / MODEL
        if kept is not None and can_resume(kept, config):
            record = read_record(kept) or {}
            return EncoderHashes(**record["hashes"]), [ok(CHECK, f"{kept}: the run's own")]
        places = [place for place in (model.init_from, model.base) if place is not None]
        if far := [place for place in places if _far(place)]:
            return None, [_asked(place, machine) for place in far]
        hashes = _checked(config)
    except MreError as error:
        return None, [refused(CHECK, error)]
    return hashes, [ok(CHECK, f"{model.init_from}: every tensor has its place")]


def _checked(config: TrainConfig) -> EncoderHashes:
    place, base = config.model.init_from, config.model.base
    with model_at(place, base=base, components=COMPONENTS) as opened:
        vae = VAEConfig.from_dict(opened.components["vae"].config)
        check_channels(config.model.in_channels, vae.latent_channels)
        wide = with_channels(opened, config.model.in_channels)
        _check_names(unet_component(wide.components["unet"], config.model, config.seed))
        for name in FROZEN:
            _check_names(opened.components[name])
        opened.tokenizer()
        return hashes_of(opened)


def _check_names(part: Component) -> None:
    if faults := compare(expected_tensors(part.network()), part.source):
        raise DataError(
            f"{part.source.origin} does not fit the model: {faults}; see that the file is whole"
        )


def _far(place: str) -> bool:
    """Whether it would have to be fetched."""
    on_hub = _ON_HUB.fullmatch(place)
    return "://" in place or (on_hub is not None and not epath.Path(place).exists())


def _asked(place: str, machine: Machine) -> Finding:
    match = _ON_HUB.fullmatch(place)
    if match is None:
        with reached(place) as folder:
            if folder.exists():
                return ok(CHECK, f"{place} is there; its content is seen when a run fetches it")
        return failure(CHECK, f"{place} is not there", "copy the model there, or name another")
    if _fetched(match):
        return ok("hub", f"{place} was fetched before")
    if machine.environment.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "on", "yes"):
        says = f"{place} was not fetched before, and HF_HUB_OFFLINE is set"
        return failure("hub", says, "unset HF_HUB_OFFLINE, or copy the model and name its folder")
    url = f"{HUB}/{match['name']}/revision/{match['revision']}"
    try:
        status = machine.get(url, {}).status
    except OSError as error:
        remedy = "mend the network, or copy the model here and name its folder"
        return failure("hub", f"{place}: the hub does not answer ({error})", remedy, RETRY)
    if status == 200:
        return ok("hub", f"{place} is there")
    remedy = "correct model.init_from, or log in to the hub for a private model"
    return failure("hub", f"{place}: the hub answers {status}", remedy)


def _fetched(match: re.Match[str]) -> bool:
    try:
        snapshot_download(match["name"], revision=match["revision"], local_files_only=True)
    except (LocalEntryNotFoundError, OSError):
        return False
    return True

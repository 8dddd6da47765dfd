"""Gradients of SmartEdit's stages against PyTorch: both losses, at all that is trained."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mre_jax.diffusion.schedule import NoiseSchedule
from mre_jax.models.clip_vision import normalised
from mre_jax.smartedit.prompt import IGNORED, Prompts
from mre_jax.training.config import LossConfig
from mre_jax.training.inputs import Encoders, Frozen, Inputs
from mre_jax.training.objectives.captions import CaptionInputs, Captions
from mre_jax.training.objectives.replies_and_edits import (
    PromptedInputs,
    RepliesAndEdits,
    with_token_weight,
)
from mre_jax.training.state import Network, parameters_of
from mre_jax.training.trained import TrainedNetworks
from tests.parity import load_torch, randomize_torch, relative_error, torch_shapes
from tests.training.tiny_run import make_batch
from tests.training.tiny_stage import (
    LENGTH,
    LLAMA,
    LORA,
    NEW,
    PARTS,
    PATCHES,
    SIZES,
    UNET,
    VISION,
    make_network,
)

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
diffusers = pytest.importorskip("diffusers")
peft = pytest.importorskip("peft")

from tests.models import smartedit_reference as reference  # noqa: E402

RANDOM = np.random.default_rng(5)
IDS = RANDOM.integers(1, LLAMA.vocab_size, (2, LENGTH))
START = np.array([3, 2])
POSITIONS = np.array([[22, 23, 24, 25], [24, 25, 26, 27]])
LABELS = np.where(np.arange(LENGTH) >= [[21], [23]], IDS, IGNORED)
LABELS[1, 27:] = IGNORED
PIXELS = RANDOM.integers(0, 256, (2, 16, 16, 3), np.uint8)
SAMPLE = reference.normal(2, 4, 4, 8, seed=1)
TARGET = reference.normal(2, 4, 4, 4, seed=2)
STATES = reference.normal(2, 7, 12, seed=3)
TIMES = np.array([7, 801])
NULL = reference.normal(7, 12, seed=4)
# A bias of keys adds the same number to all scores of a query, which a softmax takes out; and the
# last keys of the BIM's last layer are told to nobody but the features.
NO_GRADIENT = ("key.bias", "k_proj.bias")


@dataclasses.dataclass
class Theirs:
    """The networks in PyTorch, composed as the facts say."""

    llama: object
    clip: object
    project: object
    qformer: object
    bim: object
    unet: object

    @classmethod
    def make(cls):
        llama = transformers.LlamaForCausalLM(
            transformers.LlamaConfig(**LLAMA.to_dict(), attn_implementation="eager")
        )
        adapters = peft.LoraConfig(**{**LORA.to_dict(), "lora_dropout": 0.0})
        llama = randomize_torch(peft.inject_adapter_in_model(adapters, llama)).eval()
        clip = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**VISION.to_dict()))
        unet = diffusers.UNet2DConditionModel(**UNET.to_dict())
        found = cls(
            llama,
            randomize_torch(clip, 1).eval(),
            randomize_torch(torch.nn.Linear(32, 16), 2),
            reference.QFormerReference(),
            reference.BIMReference(SIZES),
            randomize_torch(unet, 3).eval(),
        )
        for module in vars(found).values():
            module.requires_grad_()
        return found

    def weights(self):
        """By component, under our names."""
        vision = self.clip.state_dict()
        wanted = torch_shapes(make_network("vision"))
        named = {f"vision_model.{name}": value for name, value in vision.items()}
        named |= vision
        return {
            "llm": adapted(self.llama.state_dict().items()),
            "vision": {name: named[name] for name in wanted},
            "projector": self.project.state_dict(),
            "qformer": self.qformer.official(),
            "bim": self.bim.official(),
            "unet": self.unet.state_dict(),
        }

    def gradients(self):
        """By component, under our names; the vocabulary's of the new rows alone."""

        def of(module):
            return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}

        llm = adapted(of(self.llama).items())
        rows = {
            "model.embed_tokens.new_rows": llm.get("model.embed_tokens.weight", None),
            "lm_head.new_rows": llm["lm_head.weight"],
        }
        found = {name: grad for name, grad in llm.items() if ".lora_" in name}
        found |= {name: grad[-NEW:] for name, grad in rows.items() if grad is not None}
        return {
            "llm": found,
            "qformer": renamed_gradients(self.qformer),
            "bim": renamed_gradients(self.bim),
            "unet": of(self.unet),
        }

    def language(self, embeddings):
        states = self.llama.model(inputs_embeds=embeddings).last_hidden_state
        logits = self.llama.lm_head(states)[:, :-1]
        loss = torch.nn.functional.cross_entropy(
            logits.reshape(-1, logits.shape[-1]),
            torch.from_numpy(LABELS[:, 1:].reshape(-1)),
            ignore_index=IGNORED,
        )
        return loss, torch.stack([states[row, POSITIONS[row]] for row in range(2)])

    def words(self):
        return self.llama.model.embed_tokens(torch.from_numpy(IDS))

    def patches(self):
        pixels = torch.tensor(np.asarray(normalised(jnp.asarray(PIXELS))).transpose(0, 3, 1, 2))
        return self.clip(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]

    def spliced(self, patches):
        """The embeddings of prompts that hold the pictures."""
        rows = [
            torch.cat([text[:at], shown, text[at + PATCHES :]])
            for text, shown, at in zip(self.words(), self.project(patches), START, strict=True)
        ]
        return torch.stack(rows)

    def edits(self, is_edit, drop):
        """Both losses of stage 2b."""
        patches = self.patches()
        language, taken = self.language(self.spliced(patches))
        text = self.qformer(taken)
        change, features = self.bim(text, patches, 4, 4)
        text = text + 0.5 * change
        dropped = torch.from_numpy(drop)[:, None, None]
        text = torch.where(dropped, torch.from_numpy(NULL), text)
        hook = self.unet.conv_in.register_forward_hook(lambda *given: given[2] + features)
        sample = torch.from_numpy(SAMPLE.transpose(0, 3, 1, 2))
        output = self.unet(sample, torch.from_numpy(TIMES), text).sample
        hook.remove()
        wanted = torch.from_numpy(TARGET.transpose(0, 3, 1, 2))
        counts = torch.from_numpy(is_edit)[:, None, None, None].float()
        return language, ((output * counts - wanted * counts) ** 2).mean()


def adapted(pairs):
    return {name.replace(".base_layer", "").replace(".default", ""): value for name, value in pairs}


def renamed_gradients(module):
    """Gradients under our names, which `official` gives tensors."""
    grads = {name: parameter.grad for name, parameter in module.named_parameters()}
    by_place = {value.data_ptr(): name for name, value in module.state_dict().items()}
    ours = {name: by_place[value.data_ptr()] for name, value in module.official().items()}
    return {name: grads[place] for name, place in ours.items() if grads.get(place) is not None}


@pytest.fixture(scope="module")
def theirs():
    return Theirs.make()


@pytest.fixture(scope="module")
def ours(theirs):
    """The networks, what is trained, and what is frozen."""
    modules = {n: load_torch(make_network(n), weights) for n, weights in theirs.weights().items()}
    networks = TrainedNetworks({n: Network.of(m) for n, m in modules.items()}, PARTS, NEW)
    params, frozen = {}, {}
    for name, module in modules.items():
        trained, kept = networks.split(name, parameters_of(module))
        params |= trained
        frozen[name] = kept
    return networks, params, Frozen({}, {}, jnp.asarray(NULL), None, frozen)


def prompts(is_edit):
    return Prompts(
        input_ids=jnp.asarray(IDS),
        attention_mask=jnp.ones((2, LENGTH), bool),
        labels=jnp.asarray(LABELS),
        lengths=jnp.full(2, LENGTH),
        image_start=jnp.asarray(START),
        state_positions=jnp.asarray(POSITIONS),
        is_editing_task=jnp.asarray(is_edit),
        too_long=~jnp.asarray(is_edit),
    )


def token_weight(given):
    batch = make_batch(0, 12)._replace(prompts=given)
    return with_token_weight(batch).token_weight


@pytest.mark.parametrize(
    ("is_edit", "drop"), [([True, True], [False, True]), ([False, True], [False, False])]
)
def test_stage_2b_is_pytorchs(theirs, ours, is_edit, drop):
    is_edit, drop = np.array(is_edit), np.array(drop)
    for module in vars(theirs).values():
        module.zero_grad()
    language, diffusion = theirs.edits(is_edit, drop)
    (language + diffusion).backward()

    networks, params, frozen = ours
    objective = RepliesAndEdits(
        networks, Encoders(None, None, 1.0), NoiseSchedule.stable_diffusion(), LossConfig(), False
    )
    given = prompts(is_edit)
    edit = Inputs(
        jnp.asarray(SAMPLE), jnp.asarray(TIMES), None, None, jnp.asarray(TARGET), jnp.ones(2)
    )
    inputs = PromptedInputs(
        edit, given, jnp.asarray(PIXELS), jnp.asarray(drop), token_weight(given), None
    )
    gradient = jax.jit(jax.value_and_grad(objective.loss, has_aux=True))
    (value, measured), grads = gradient(params, inputs, frozen)
    assert relative_error(measured.parts["language_loss"], language.detach()) < 1e-4
    assert relative_error(measured.parts["diffusion_loss"], diffusion.detach()) < 1e-4
    assert relative_error(value, (language + diffusion).detach()) < 1e-4
    compare(grads, theirs.gradients(), networks)


@pytest.mark.parametrize("pictured", [False, True])
def test_stage_1_is_pytorchs(theirs, ours, pictured):
    for module in vars(theirs).values():
        module.zero_grad()
    embeddings = theirs.spliced(theirs.patches()) if pictured else theirs.words()
    language, taken = theirs.language(embeddings)
    aligned = ((theirs.qformer(taken) - torch.from_numpy(STATES)) ** 2).mean()
    (language + aligned).backward()

    networks, params, frozen = ours
    seeing = ("vision", "projector") if pictured else ()
    chosen = {name: networks.networks[name] for name in ("llm", "qformer", *seeing)}
    networks = dataclasses.replace(networks, networks=chosen, parts=("qformer", "new_tokens"))
    params = {name: params[name] for name in networks.abstract}
    whole = {**ours[1], **{f"llm.{path}": x for path, x in frozen.networks["llm"].items()}}
    names = networks.frozen_names("llm")
    kept = {name: frozen.networks[name] for name in seeing}
    kept["llm"] = {name: whole[f"llm.{name}"] for name in names}
    frozen = frozen._replace(networks=kept)
    objective = Captions(networks, Encoders(None, None, 1.0), LossConfig())
    given = prompts(np.ones(2, bool))
    pixels = jnp.asarray(PIXELS) if pictured else None
    inputs = CaptionInputs(given, jnp.asarray(STATES), token_weight(given), None, pixels)
    gradient = jax.jit(jax.value_and_grad(objective.loss, has_aux=True))
    (value, measured), grads = gradient(params, inputs, frozen)
    assert relative_error(measured.parts["language_loss"], language.detach()) < 1e-4
    assert relative_error(measured.parts["alignment_loss"], aligned.detach()) < 1e-4
    assert relative_error(value, (language + aligned).detach()) < 1e-4
    compare(grads, theirs.gradients(), networks)


def compare(grads, wanted, networks):
    """Every gradient, in PyTorch's layout."""
    assert grads.keys() == networks.abstract.keys()
    for name, grad in grads.items():
        component, _, path = name.partition(".")
        *parents, leaf = path.split(".")
        key = ".".join([*parents, "weight" if leaf in ("kernel", "scale", "embedding") else leaf])
        grad = np.asarray(grad)
        if leaf == "kernel":
            grad = grad.T if grad.ndim == 2 else grad.transpose(3, 2, 0, 1)
        if key.endswith(NO_GRADIENT):
            assert np.abs(grad).max() < 1e-6, name
        else:
            assert relative_error(grad, wanted[component][key]) < 1e-4, name

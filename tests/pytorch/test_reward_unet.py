import copy
import json

import pytest

from mre_jax.reward.config import RELEASED_NAMES
from tests.models.tiny_unet import abstract_unet, make_batch, tiny_config, tiny_reward
from tests.parity import randomize_torch, relative_error, torch_shapes

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

from mre_jax.pytorch import RewardUNet2DConditionModel  # noqa: E402
from tests.pytorch import released_reference  # noqa: E402

FORMS = ("paper", "released")


def make(config):
    return randomize_torch(RewardUNet2DConditionModel(**config.to_dict())).eval()


def predict(unet, batch, **reward):
    with torch.no_grad():
        return unet(*batch.torch, **reward).sample


@pytest.mark.parametrize("form", FORMS)
def test_a_saved_folder_loads_with_equal_predictions(form, tmp_path):
    config = tiny_config(tiny_reward(form=form))
    unet, batch = make(config), make_batch(config)
    unet.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["reward"] == config.reward.to_dict()
    loaded = RewardUNet2DConditionModel.from_pretrained(tmp_path)
    reward = batch.torch_reward
    assert torch.equal(predict(loaded, batch, **reward), predict(unet, batch, **reward))


def test_a_folder_of_config_and_safetensors_loads(tmp_path):
    """As the exporter writes it: our config keys, any class name, and named tensors."""
    from safetensors.torch import save_file

    config = tiny_config(tiny_reward())
    unet, batch = make(config), make_batch(config)
    text = json.dumps({"_class_name": "UNet2DConditionModel", **config.to_dict()})
    (tmp_path / "config.json").write_text(text)
    save_file(unet.state_dict(), tmp_path / "diffusion_pytorch_model.safetensors")
    loaded = RewardUNet2DConditionModel.from_pretrained(tmp_path)
    reward = batch.torch_reward
    assert torch.equal(predict(loaded, batch, **reward), predict(unet, batch, **reward))


def test_names_are_ours_in_the_paper_form():
    config = tiny_config(tiny_reward())
    theirs = {name: tuple(x.shape) for name, x in make(config).state_dict().items()}
    assert theirs == torch_shapes(abstract_unet(config))


def test_names_are_the_public_ones_in_the_released_form():
    config = tiny_config(tiny_reward(form="released"))
    theirs = {name: tuple(x.shape) for name, x in make(config).state_dict().items()}
    plain = torch_shapes(abstract_unet(tiny_config()))
    assert theirs == plain | released_reference.released_shapes(24, 16, 24)
    assert {name.rsplit(".", 1)[0] for name in theirs.keys() - plain.keys()} == {
        *(name for name in RELEASED_NAMES.values() if not name.startswith("add_embedding")),
        *(f"{name}.linear_{i}" for name in ("add_embedding", "add_embedding2") for i in (1, 2)),
    }


def test_released_form_equals_its_reference():
    config = tiny_config(tiny_reward(form="released"))
    unet, batch = make(config), make_batch(config, 7, 5)
    reward = batch.torch_reward
    with torch.no_grad():
        expected = released_reference.forward(
            unet,
            unet.state_dict(),
            *batch.torch,
            reward["reward_scores"],
            reward["reward_text_pooled"],
            heads=4,
            groups=8,
        )
    assert relative_error(predict(unet, batch, **reward), expected) < 1e-5


@pytest.mark.parametrize("form", FORMS)
def test_without_a_reward_it_is_the_plain_unet(form):
    config = tiny_config(tiny_reward(form=form))
    unet, batch = make(config), make_batch(config)
    plain = diffusers.UNet2DConditionModel(**tiny_config().to_dict()).eval()
    plain.load_state_dict({k: v for k, v in unet.state_dict().items() if k in plain.state_dict()})
    assert torch.equal(predict(unet, batch), predict(plain, batch))
    # Also after a call with a reward: no hook stays behind.
    predict(unet, batch, **batch.torch_reward)
    assert torch.equal(predict(unet, batch), predict(plain, batch))


def test_a_fresh_paper_form_is_exactly_the_plain_unet():
    config = tiny_config(tiny_reward())
    unet, batch = RewardUNet2DConditionModel(**config.to_dict()).eval(), make_batch(config)
    assert torch.equal(predict(unet, batch, **batch.torch_reward), predict(unet, batch))


def test_a_reward_in_parts_is_refused_by_name():
    config = tiny_config(tiny_reward())
    unet, batch = make(config), make_batch(config)
    with pytest.raises(ValueError, match="reward_text_states, reward_text_pooled"):
        predict(unet, batch, reward_scores=batch.torch_reward["reward_scores"])


@pytest.mark.parametrize("form", FORMS)
def test_a_copy_and_a_cast_take_the_reward_along(form):
    config = tiny_config(tiny_reward(form=form))
    unet, batch = make(config), make_batch(config)
    reward = batch.torch_reward
    expected = predict(unet, batch, **reward)
    twin = copy.deepcopy(unet).double()
    sample, timestep, states = batch.torch
    with torch.no_grad():
        output = twin(sample.double(), timestep, states.double(), **reward).sample
        for param in unet.parameters():
            param.zero_()
    assert relative_error(output.float(), expected) < 1e-5

"""LPIPS with SqueezeNet 1.1 in PyTorch, with torchvision's and LPIPS's names."""

import torch
from torch import nn

from tests.parity import randomize_torch

_CUTS = (2, 5, 8, 10, 11, 12, 13)
_WIDTHS = (64, 128, 256, 384, 384, 512, 512)


class Fire(nn.Module):
    def __init__(self, channels, squeezed, expanded):
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x):
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x).relu(), self.expand3x3(x).relu()], 1)


def _pool():
    return nn.MaxPool2d(3, 2, ceil_mode=True)


def squeezenet():
    """The `features` of torchvision's squeezenet1_1."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, 2), nn.ReLU(), _pool(), Fire(64, 16, 64), Fire(128, 16, 64),
        _pool(), Fire(128, 32, 128), Fire(256, 32, 128), _pool(), Fire(256, 48, 192),
        Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256),
    )  # fmt: skip


class LPIPS(nn.Module):
    """Pictures [b 3 H W] in [-1, 1] to distances [b]."""

    def __init__(self):
        super().__init__()
        self.features = squeezenet()
        for index, width in enumerate(_WIDTHS):
            lin = nn.Sequential(nn.Dropout(), nn.Conv2d(width, 1, 1, bias=False))
            self.add_module(f"lin{index}", nn.ModuleDict({"model": lin}))

    def forward(self, first, second):
        shift, scale = (
            torch.tensor(values)[None, :, None, None]
            for values in ((-0.030, -0.088, -0.188), (0.458, 0.448, 0.450))
        )
        x, y = (first - shift) / scale, (second - shift) / scale
        total, start = 0, 0
        for index, end in enumerate(_CUTS):
            x, y = (self.features[start:end](maps) for maps in (x, y))
            one, other = (maps / (1e-8 + (maps**2).sum(1, keepdim=True)).sqrt() for maps in (x, y))
            weighted = getattr(self, f"lin{index}")["model"]((one - other) ** 2)
            total, start = total + weighted.mean((1, 2, 3)), end
        return total


def random_lpips(seed=0):
    """With random weights; those of the linear layers are positive, as the published ones are."""
    model = randomize_torch(LPIPS().eval(), seed)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if name.startswith("lin"):
                tensor.abs_()
    return model


def write_lpips(folder, model):
    """The two files that people have of it."""
    state = model.state_dict()
    lins = {name: tensor for name, tensor in state.items() if name.startswith("lin")}
    rest = {name: tensor for name, tensor in state.items() if name not in lins}
    classifier = {"classifier.1.weight": torch.zeros(5, 512, 1, 1)}
    torch.save({**rest, **classifier}, folder / "squeezenet1_1-b8a52dc0.pth")
    torch.save(lins, folder / "squeeze.pth")

"""The network of FID in PyTorch, from its published description, at any width.

A block is a table: for each branch the convolutions in a row, as name, width, kernel, and what else
there is of stride and padding. A branch may fork at its end. Names and widths are the paper's, the
pools those of the TensorFlow graph: averages leave the padding out, and the last pools by maximum.
"""

import torch
from torch import nn
from torch.nn import functional as F

HALF, LINE, COLUMN = {"stride": 2}, {"padding": (0, 3)}, {"padding": (3, 0)}
SAME = {"padding": 1}
STRIPS = (("a", (1, 3), {"padding": (0, 1)}), ("b", (3, 1), {"padding": (1, 0)}))


def _double(*sizes):
    return [
        (f"branch3x3dbl_{i}", width, 3 if i > 1 else 1, extra)
        for i, (width, extra) in enumerate(sizes, 1)
    ]


def block_a(pool):
    return {
        "branches": [
            [("branch1x1", 64, 1, {})],
            [("branch5x5_1", 48, 1, {}), ("branch5x5_2", 64, 5, {"padding": 2})],
            _double((64, {}), (96, SAME), (96, SAME)),
        ],
        "pool": pool,
    }


def block_b():
    return {
        "branches": [
            [("branch3x3", 384, 3, HALF)],
            _double((64, {}), (96, SAME), (96, HALF)),
        ],
        "pool": None,
    }


def block_c(inner):
    sevens = [((7, 1), COLUMN), ((1, 7), LINE)] * 2
    double = [("branch7x7dbl_1", inner, 1, {})] + [
        (f"branch7x7dbl_{i}", 192 if i == 5 else inner, *sevens[i - 2]) for i in range(2, 6)
    ]
    return {
        "branches": [
            [("branch1x1", 192, 1, {})],
            [
                ("branch7x7_1", inner, 1, {}),
                ("branch7x7_2", inner, (1, 7), LINE),
                ("branch7x7_3", 192, (7, 1), COLUMN),
            ],
            double,
        ],
        "pool": 192,
    }


def block_d():
    return {
        "branches": [
            [("branch3x3_1", 192, 1, {}), ("branch3x3_2", 320, 3, HALF)],
            [
                ("branch7x7x3_1", 192, 1, {}),
                ("branch7x7x3_2", 192, (1, 7), LINE),
                ("branch7x7x3_3", 192, (7, 1), COLUMN),
                ("branch7x7x3_4", 192, 3, HALF),
            ],
        ],
        "pool": None,
    }


def block_e(maximum):
    return {
        "branches": [
            [("branch1x1", 320, 1, {})],
            [("branch3x3_1", 384, 1, {}), ("branch3x3_2", 384, "fork", {})],
            [
                ("branch3x3dbl_1", 448, 1, {}),
                ("branch3x3dbl_2", 384, 3, SAME),
                ("branch3x3dbl_3", 384, "fork", {}),
            ],
        ],
        "pool": 192,
        "maximum": maximum,
    }


STEM = [
    ("Conv2d_1a_3x3", 32, 3, HALF),
    ("Conv2d_2a_3x3", 32, 3, {}),
    ("Conv2d_2b_3x3", 64, 3, SAME),
    ("tap", 64, None, {}),
    ("Conv2d_3b_1x1", 80, 1, {}),
    ("Conv2d_4a_3x3", 192, 3, {}),
    ("tap", 192, None, {}),
]
BLOCKS = {
    "Mixed_5b": block_a(32),
    "Mixed_5c": block_a(64),
    "Mixed_5d": block_a(64),
    "Mixed_6a": block_b(),
    "Mixed_6b": block_c(128),
    "Mixed_6c": block_c(160),
    "Mixed_6d": block_c(160),
    "Mixed_6e": block_c(192),
    "Mixed_7a": block_d(),
    "Mixed_7b": block_e(maximum=False),
    "Mixed_7c": block_e(maximum=True),
}


class Conv(nn.Module):
    def __init__(self, inputs, width, kernel, extra):
        super().__init__()
        self.conv = nn.Conv2d(inputs, width, kernel, bias=False, **extra)
        self.bn = nn.BatchNorm2d(width, eps=1e-3)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


class Block(nn.Module):
    def __init__(self, inputs, table, narrow):
        super().__init__()
        self.table = table
        self.width = 0 if table["pool"] else inputs
        for branch in table["branches"]:
            width = inputs
            for name, out, kernel, extra in branch:
                out = narrow(out)
                if kernel == "fork":
                    for suffix, strip, padding in STRIPS:
                        self.add_module(name + suffix, Conv(width, out, strip, padding))
                    width = 2 * out
                else:
                    self.add_module(name, Conv(width, out, kernel, extra))
                    width = out
            self.width += width
        if table["pool"]:
            self.branch_pool = Conv(inputs, narrow(table["pool"]), 1, {})
            self.width += narrow(table["pool"])

    def forward(self, x):
        outputs = []
        for branch in self.table["branches"]:
            y = x
            for name, _, kernel, _ in branch:
                if kernel == "fork":
                    y = torch.cat([getattr(self, name + s)(y) for s, _, _ in STRIPS], dim=1)
                else:
                    y = getattr(self, name)(y)
            outputs.append(y)
        if self.table["pool"] is None:
            pooled = F.max_pool2d(x, 3, 2)
        elif self.table.get("maximum"):
            pooled = self.branch_pool(F.max_pool2d(x, 3, 1, 1))
        else:
            pooled = self.branch_pool(F.avg_pool2d(x, 3, 1, 1, count_include_pad=False))
        return torch.cat([*outputs, pooled], dim=1)


class Inception(nn.Module):
    """Pixels in [-1, 1] [b 3 H W] to the four features; `width` is that of the first."""

    def __init__(self, width=64, classes=1008):
        super().__init__()

        def narrow(channels):
            return channels * width // 64

        inputs = 3
        for name, out, kernel, extra in STEM:
            if kernel is not None:
                self.add_module(name, Conv(inputs, narrow(out), kernel, extra))
                inputs = narrow(out)
        for name, table in BLOCKS.items():
            block = Block(inputs, table, narrow)
            self.add_module(name, block)
            inputs = block.width
        self.fc = nn.Linear(inputs, classes)

    @torch.no_grad()
    def forward(self, x):
        taps = {}
        for name, width, kernel, _ in STEM:
            if kernel is None:
                x = F.max_pool2d(x, 3, 2)
                taps[width] = x
            else:
                x = getattr(self, name)(x)
        for name in BLOCKS:
            x = getattr(self, name)(x)
            if name == "Mixed_6e":
                taps[768] = x
        taps[2048] = x
        return {width: x.mean(dim=(2, 3)) for width, x in taps.items()}


def random_inception(width=64, classes=1008, seed=0):
    """Weights that keep the scale through the network, statistics that are not 0 and 1."""
    model = Inception(width, classes).eval()
    generator = torch.Generator().manual_seed(seed)

    def noise(tensor):
        return torch.randn(tensor.shape, generator=generator)

    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                scale = (2 / module.weight[0].numel()) ** 0.5
                module.weight.copy_(noise(module.weight) * scale)
            elif isinstance(module, nn.BatchNorm2d):
                for tensor in (module.weight, module.bias, module.running_mean):
                    tensor.add_(0.1 * noise(tensor))
                module.running_var.add_(0.5 * noise(module.running_var).abs())
    return model

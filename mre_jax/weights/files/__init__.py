"""Files of weights, read and written: safetensors, PyTorch's, Orbax's, folders of them."""

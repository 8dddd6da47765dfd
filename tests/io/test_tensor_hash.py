import hashlib

import ml_dtypes
import numpy as np

from mre_jax.io.tensor_hash import as_bytes, tensor_hash

TENSORS = [
    ("a.weight", np.arange(6, dtype=np.float32).reshape(2, 3)),
    ("a.bias", np.ones((), ml_dtypes.bfloat16)),
]


def test_the_hash_is_of_name_dtype_shape_and_values():
    whole = b"a.weight float32 [2, 3]\n" + TENSORS[0][1].tobytes() + b"a.bias bfloat16 []\n\x80?"
    assert tensor_hash(TENSORS) == hashlib.sha256(whole).hexdigest()
    assert tensor_hash([]) == hashlib.sha256().hexdigest()


def test_the_layout_in_memory_does_not_matter():
    name, array = TENSORS[0]
    assert tensor_hash([(name, np.asfortranarray(array))]) == tensor_hash([(name, array)])
    assert bytes(as_bytes(array.T)) == array.T.tobytes()
    assert tensor_hash([(name, array.T)]) != tensor_hash([(name, array)])

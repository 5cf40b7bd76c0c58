"""Stands in for SGLang's compiled kernels, of which there is no build for machines without a GPU.

SGLang imports many names from here and calls none of them with its plain PyTorch backend; one that is called all the
same fails and says so.
"""

__version__ = "0.0.0+cpu"


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)

    def absent(*_, **__):
        raise NotImplementedError(f"sgl_kernel.{name} has no build for machines without a GPU")

    return absent
